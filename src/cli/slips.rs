//! What to do next, for what beginners type most: docker's commands that this version doesn't have, and a command without its arguments.
//!
//! See it: `onggi build .`, `onggi exec web`.

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Docker's words that mean nothing here yet, and the way that there is instead.
const ABSENT: &[(&str, &str)] = &[
    ("build", "this version reads no Dockerfiles: `onggi commit` makes an image of a container, `onggi import` one of files"),
    ("compose", "this version starts containers one by one: `onggi run -d --name web …`"),
    ("help", "`onggi --help` lists the commands, `onggi run --help` tells all about one"),
];

/// A line for what was typed; None when clap's own words are enough.
pub fn hint(error: &Error, command: &Command) -> Option<String> {
    hint_for(error, command, std::env::args().skip(1))
}

fn hint_for(error: &Error, command: &Command, words: impl Iterator<Item = String>) -> Option<String> {
    match error.kind() {
        ErrorKind::InvalidSubcommand => absent(error, ContextKind::InvalidSubcommand),
        ErrorKind::UnknownArgument => absent(error, ContextKind::InvalidArg),
        ErrorKind::MissingRequiredArgument => example(command, words),
        _ => None,
    }
}

fn absent(error: &Error, kind: ContextKind) -> Option<String> {
    let Some(ContextValue::String(typed)) = error.get(kind) else { return None };
    ABSENT.iter().find(|(word, _)| word == typed).map(|(_, hint)| format!("hint: {hint}"))
}

/// The example of the command that was meant.
fn example(command: &Command, words: impl Iterator<Item = String>) -> Option<String> {
    let mut meant = command;
    for word in words.filter(|word| !word.starts_with('-')) {
        match meant.find_subcommand(&word) {
            Some(verb) => meant = verb,
            None => break,
        }
    }
    meant.get_after_help().map(|help| help.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn hint_of(words: &[&str]) -> Option<String> {
        let exec = Command::new("exec").arg(Arg::new("name").required(true)).after_help("Example:\n  onggi exec web");
        let mut onggi = Command::new("onggi").subcommand(exec);
        let error = onggi.try_get_matches_from_mut(std::iter::once("onggi").chain(words.iter().copied())).unwrap_err();
        hint_for(&error, &onggi, words.iter().map(|word| word.to_string()))
    }

    #[test]
    fn an_absent_command_or_option_has_a_way_instead() {
        assert!(hint_of(&["build", "."]).unwrap().contains("onggi commit"));
        assert_eq!(hint_of(&["rum"]), None);
    }

    #[test]
    fn a_command_without_its_arguments_is_answered_with_its_example() {
        assert_eq!(hint_of(&["exec"]).unwrap(), "Example:\n  onggi exec web");
    }
}
