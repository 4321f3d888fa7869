//! The command line, and one clear line where it cannot be understood.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::commands::Command;
use crate::failure::Failure;
use crate::log::Log;

/// Reliable client-server messaging over QUIC: try it, serve it, break its network.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, arg_required_else_help = true)]
#[command(after_help = "'trunkline COMMAND --help' gives each command's options and examples.")]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) log: Log,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Prints the help that was asked for, or turns what clap has to say into one line.
pub(crate) fn explain(error: clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // That nobody reads the help to its end is no failure.
            let _ = error.print();
            Ok(())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Err(Failure::Silent(2))
        }
        _ => Err(Failure::usage(one_line(&error))),
    }
}

/// What is wrong, then what might have been meant, then where to read more.
fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let wrong: Vec<&str> = rendered
        .lines()
        .map(|line| line.strip_prefix("error: ").unwrap_or(line).trim())
        .take_while(|line| !line.is_empty())
        .collect();
    let mut line = match wrong.as_slice() {
        [] => "the command line cannot be understood".to_owned(),
        [only] => (*only).to_owned(),
        [first, rest @ ..] => format!("{first} {}", rest.join(", ")),
    };
    if let Some(meant) = suggestion(error) {
        line += &format!("; did you mean {meant}?");
    }
    line + &format!(" (see '{} --help')", asked_command())
}

fn suggestion(error: &clap::Error) -> Option<String> {
    [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| match error.get(kind)? {
        ContextValue::String(one) => Some(format!("'{one}'")),
        ContextValue::Strings(several) => Some(format!("'{}'", several.first()?)),
        _ => None,
    })
}

/// The command whose help would have helped.
fn asked_command() -> String {
    let given = std::env::args_os().skip(1);
    let given: Vec<String> = given.filter_map(|word| word.into_string().ok()).collect();
    let known = CommandLine::command();
    let command = given
        .iter()
        .find(|word| known.find_subcommand(word.as_str()).is_some());
    command.map_or_else(
        || "trunkline".to_owned(),
        |command| format!("trunkline {command}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = ["trunkline"].into_iter().chain(arguments.iter().copied());
        let error = CommandLine::try_parse_from(arguments).expect_err("a bad command line passed");
        one_line(&error)
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_flag_and_gives_an_example() {
        let line = refusal(&[
            "impair",
            "--listen",
            "127.0.0.1:0",
            "--to",
            "127.0.0.1:9",
            "--delay",
            "50",
        ]);
        assert!(!line.contains('\n'), "{line}");
        for part in ["--delay", "50", "unit", "50ms"] {
            assert!(line.contains(part), "{part:?} is missing in {line:?}");
        }
    }

    #[test]
    fn missing_arguments_are_listed() {
        let line = refusal(&["impair"]);
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.contains("--listen <ADDR>") && line.contains("--to <ADDR>"),
            "{line}"
        );
    }

    #[test]
    fn a_misspelt_flag_comes_with_what_may_have_been_meant() {
        let line = refusal(&["impair", "--dely", "5ms"]);
        assert!(
            line.contains("'--dely'") && line.contains("did you mean '--delay'?"),
            "{line}"
        );
    }

    #[test]
    fn a_command_with_json_results_still_logs_as_text() {
        let arguments = [
            "trunkline",
            "impair",
            "--listen",
            "127.0.0.1:0",
            "--to",
            "127.0.0.1:9",
            "--json",
        ];
        let parsed = CommandLine::try_parse_from(arguments).expect("a good command line");
        assert!(!parsed.log.is_json());
        let parsed = CommandLine::try_parse_from(arguments.into_iter().chain(["--log-json"]))
            .expect("another");
        assert!(parsed.log.is_json());
    }

    #[test]
    fn every_command_gives_examples() {
        for command in CommandLine::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let name = command.get_name();
            assert!(
                help.contains("EXAMPLES") && help.contains(&format!("trunkline {name}")),
                "{name}: {help:?}"
            );
        }
    }
}
