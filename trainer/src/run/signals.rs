//! SIGTERM and SIGINT end the run after the current step; a second signal ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{signal, SignalKind};

use crate::failure::Stopped;

/// Whether a signal has come.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on, on a thread of its own.
    pub fn listen() -> anyhow::Result<Self> {
        let stop = Self::default();
        let heard = stop.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot listen for signals")?;
        let guard = runtime.enter();
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        drop(guard);
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                    if heard.0.swap(true, Ordering::SeqCst) {
                        std::process::exit(130);
                    }
                }
            });
        });
        Ok(stop)
    }

    /// Whether a signal came.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Ends set-up work, which has nothing to save, if a signal has come.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.asked() {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }
}
