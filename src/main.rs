//! The program `onggi`: parse, dispatch, exit code.

fn main() {}
