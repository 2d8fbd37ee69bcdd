//! The ranks as child processes: started together, ended together.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::system::{self, Signals};
use super::{Exit, STOPPED};
use crate::error::{Error, Result};

const POLL: Duration = Duration::from_millis(20);
/// How long the others may take to notice a failure, report whom they miss, and exit by themselves.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// How long they may take to exit after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// All children; those still alive are killed when this is dropped.
#[derive(Default)]
pub struct Children {
    ranks: Vec<Rank>,
    /// In the order in which they ended.
    ended: Vec<(usize, u32, ExitStatus)>,
}

struct Rank {
    rank: usize,
    child: Child,
    alive: bool,
}

/// What is done to the ranks that outlive a failure.
#[derive(Clone, Copy)]
enum Ending {
    NotYet,
    Notice(Instant),
    Terminated(Instant),
    Killed,
}

impl Children {
    /// Starts one rank.
    pub fn start(&mut self, rank: usize, mut command: Command) -> Result<()> {
        system::bind_to_parent(&mut command);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(|source| Error::Spawn { rank, program, source })?;
        self.ranks.push(Rank { rank, child, alive: true });
        Ok(())
    }

    /// Waits for all, passing signals on; after the first failure the rest are ended.
    pub fn supervise(mut self, signals: &Signals) -> Exit {
        let mut ending = Ending::NotYet;
        loop {
            while let Some(signal) = signals.take() {
                self.signal(signal);
            }
            self.reap();
            if self.ranks.iter().all(|rank| !rank.alive) {
                return self.exit();
            }
            ending = self.advance(ending);
            std::thread::sleep(POLL);
        }
    }

    fn advance(&mut self, ending: Ending) -> Ending {
        match ending {
            Ending::NotYet if self.first_failure().is_some() => Ending::Notice(Instant::now()),
            Ending::Notice(since) if since.elapsed() >= LAST_WORDS => {
                self.signal(libc::SIGTERM);
                Ending::Terminated(Instant::now())
            }
            Ending::Terminated(since) if since.elapsed() >= GRACE => {
                self.signal(libc::SIGKILL);
                Ending::Killed
            }
            unchanged => unchanged,
        }
    }

    fn signal(&mut self, signal: i32) {
        for rank in self.ranks.iter().filter(|rank| rank.alive) {
            system::send(&rank.child, signal);
        }
    }

    fn reap(&mut self) {
        let mut ended = Vec::new();
        for rank in self.ranks.iter_mut().filter(|rank| rank.alive) {
            if let Ok(Some(status)) = rank.child.try_wait() {
                rank.alive = false;
                ended.push((rank.rank, rank.child.id(), status));
            }
        }
        // If two end within one poll, the one that a signal killed is the cause.
        ended.sort_by_key(|(_, _, status)| status.signal().is_none());
        self.ended.extend(ended);
    }

    fn first_failure(&self) -> Option<&(usize, u32, ExitStatus)> {
        self.ended.iter().find(|(_, _, status)| !matches!(status.code(), Some(0 | STOPPED)))
    }

    fn exit(&self) -> Exit {
        if let Some((rank, pid, status)) = self.first_failure() {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, signal) => format!("was killed by {}", system::signal_name(signal.unwrap_or(0))),
            };
            let others = if self.ranks.len() > 1 { "; the other ranks were ended with it" } else { "" };
            let failure = Some(format!("rank {rank} (process {pid}) {how}{others}"));
            return Exit { code: status.code().unwrap_or(1), failure };
        }
        let stopped = self.ended.iter().any(|(_, _, status)| status.code() == Some(STOPPED));
        Exit { code: if stopped { STOPPED } else { 0 }, failure: None }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        for rank in self.ranks.iter_mut().filter(|rank| rank.alive) {
            // A killed child can always be waited for, and an error could not be reported to anyone here.
            let _ = rank.child.wait();
        }
    }
}
