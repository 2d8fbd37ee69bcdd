//! SIGTERM and SIGINT end the run after the current step; a second signal ends it at once.

use anyhow::Context;

use crate::failure::Stopped;

/// Whether a signal has come.
#[derive(Clone, Debug, Default)]
pub struct Stop(program::Stop);

impl Stop {
    /// Listens from now on, on a thread of its own.
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self(program::Stop::listen().context("cannot listen for SIGTERM and SIGINT")?))
    }

    /// Whether a signal came.
    pub fn asked(&self) -> bool {
        self.0.asked()
    }

    /// Ends set-up work, which has nothing to save, if a signal has come.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.asked() {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }
}
