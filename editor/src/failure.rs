//! Errors as one line and an exit code: 1 failed, 2 bad arguments or input files.

use std::process::ExitCode;

use clap::error::ErrorKind;
use diffusion::Error;
use program::output;

/// Something failed while running.
pub const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;

/// Marks an error as one of the arguments or the input files.
#[derive(Debug)]
pub struct BadInput(pub String);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// Prints help as it is, and refused arguments as one line.
///
/// `help` is the command that says more.
pub fn of_arguments(error: &clap::Error, help: &str) -> ExitCode {
    let asked = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    let lacking = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if lacking || asked.contains(&error.kind()) {
        // A closed pipe is no error.
        let _ = error.print();
        return ExitCode::from(if lacking { BAD_INPUT } else { 0 });
    }
    let text = error.render().to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or_default();
    let message = message.split("\n\nFor more information").next().unwrap_or_default();
    output::complain(&format!("{}; see {help}", one_line(message)));
    ExitCode::from(BAD_INPUT)
}

/// Prints the error and its causes as one line.
pub fn of_job(error: &anyhow::Error) -> ExitCode {
    output::complain(&format!("error: {}", one_line(&format!("{error:#}"))));
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let ours = error.downcast_ref::<BadInput>().is_some();
    // What the library refuses lies in its input, except for failures of the computation itself.
    let library =
        error.downcast_ref::<Error>().is_some_and(|e| !e.is_failure()) || error.downcast_ref::<hub::Error>().is_some();
    if ours || library {
        BAD_INPUT
    } else {
        FAILED
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn input_is_told_apart_from_failure() {
        let bad = Err::<(), _>(BadInput("no such emotion".into())).context("photo.png").expect_err("an error");
        assert_eq!(exit_code(&bad), BAD_INPUT);
        let bad = Error::Image { path: "a.png".into(), message: "not a picture".into() };
        assert_eq!(exit_code(&bad.into()), BAD_INPUT);
        assert_eq!(exit_code(&anyhow::anyhow!("no memory")), FAILED);
    }
}
