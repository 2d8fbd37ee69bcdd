//! The exit code of each error.

use std::fmt;

/// The process ended as it should.
pub const DONE: i32 = 0;
/// Something failed while running.
pub const FAILED: i32 = 1;
/// Configuration, arguments or input files are at fault.
pub const BAD_INPUT: i32 = 2;
/// Stopped by a signal; run the same command again to go on.
pub const STOPPED: i32 = 75;

/// Marks an error as the user's: configuration, arguments or input files.
#[derive(Debug)]
pub struct BadInput(pub anyhow::Error);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for BadInput {}

/// A signal asked for an end before there was anything to save.
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
    if is_failure(error) {
        return FAILED;
    }
    let bad_data = error.downcast_ref::<dataloader::Error>().is_some_and(dataloader::Error::is_bad_input);
    if bad_data || error.downcast_ref::<BadInput>().is_some() {
        BAD_INPUT
    } else if error.downcast_ref::<Stopped>().is_some() {
        STOPPED
    } else {
        FAILED
    }
}

/// Whether the computation itself failed, for example for lack of memory: no input is wrong, and another try may
/// succeed.
fn is_failure(error: &anyhow::Error) -> bool {
    if let Some(BadInput(inner)) = error.downcast_ref() {
        return is_failure(inner);
    }
    let judged = error.downcast_ref().and_then(|e| match e {
        judge::Error::Model(model) => Some(model),
        _ => None,
    });
    error.downcast_ref::<diffusion::Error>().or(judged).is_some_and(diffusion::Error::is_failure)
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

    #[test]
    fn what_libtorch_cannot_do_is_a_failure_wherever_it_happens() {
        let out_of_memory = || diffusion::Error::from(tch::TchError::Torch("out of memory".into()));
        let loading = input(Err::<(), _>(judge::Error::Model(out_of_memory()))).context("while loading");
        assert_eq!(exit_code(&loading.expect_err("an error")), FAILED);
        let twice = input(input(Err::<(), _>(out_of_memory())));
        assert_eq!(exit_code(&twice.expect_err("an error")), FAILED);
    }
}
