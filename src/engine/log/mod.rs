pub mod writer;
pub use writer::{Options, Stream, Writer};
