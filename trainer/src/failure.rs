//! Which exit code an error deserves.

use std::fmt;

/// The process ended as it should.
pub const DONE: i32 = 0;
/// Something failed while running.
pub const FAILED: i32 = 1;
/// Configuration, arguments or input files are at fault.
pub const BAD_INPUT: i32 = 2;
/// Stopped by a signal; run the same command again to go on.
pub const STOPPED: i32 = 75;

/// Marks an error as the input's fault: configuration, arguments or files.
#[derive(Debug)]
pub struct BadInput(pub anyhow::Error);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for BadInput {}

/// A signal asked for an end before there was a checkpoint to write.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Stopped;

/// Marks the error of `result` as bad input.
pub fn input<T, E: Into<anyhow::Error>>(result: Result<T, E>) -> anyhow::Result<T> {
    result.map_err(|error| BadInput(error.into()).into())
}

/// An input error from one line of text.
pub fn refuse(message: impl Into<String>) -> anyhow::Error {
    BadInput(anyhow::anyhow!(message.into())).into()
}

/// The exit code for `error`.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    let bad_data = error.downcast_ref::<dataloader::Error>().is_some_and(dataloader::Error::is_bad_input);
    if bad_data || error.downcast_ref::<BadInput>().is_some() {
        BAD_INPUT
    } else if error.downcast_ref::<Stopped>().is_some() {
        STOPPED
    } else {
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn marks_survive_context() {
        let error = Err::<(), _>(refuse("a key is wrong")).context("while reading").expect_err("an error");
        assert_eq!(exit_code(&error), BAD_INPUT);
        assert_eq!(exit_code(&anyhow::anyhow!("lost")), FAILED);
    }
}
