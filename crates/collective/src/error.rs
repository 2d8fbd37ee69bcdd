//! Everything that can go wrong between processes.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An environment variable of the rendezvous is missing, malformed or contradicts another.
    #[error("{name} {problem}")]
    Variable {
        /// The variable's name.
        name: String,
        /// What is wrong with it, as the rest of a sentence that starts with the name.
        problem: String,
    },
    /// Not every rank came to the rendezvous in time.
    #[error(
        "rank {rank}: {joined} of {world_size} ranks joined at {address} within {timeout_secs} s; missing: {missing}. \
         Were they started, with this address and the same world size?"
    )]
    Join {
        /// The rank that waited.
        rank: usize,
        /// How many had come, this one included.
        joined: usize,
        /// How many were expected.
        world_size: usize,
        /// Host and port of the store.
        address: String,
        /// How long it waited.
        timeout_secs: f64,
        /// The ranks that did not come.
        missing: String,
    },
    /// The rendezvous store does not answer.
    #[error("rank {rank}: no rendezvous at {address} within {timeout_secs} s: {host} does not answer ({cause})")]
    Unreachable {
        /// The rank that tried.
        rank: usize,
        /// Host and port of the store.
        address: String,
        /// How long it tried.
        timeout_secs: f64,
        /// Who should have hosted the store.
        host: String,
        /// What libtorch said.
        cause: String,
    },
    /// A collective did not complete: a peer is dead, frozen, gone or in another operation.
    #[error("rank {rank}: {operation} failed after {elapsed_secs:.1} s: {verdict} [{cause}]")]
    PeerLost {
        /// The rank that waited.
        rank: usize,
        /// The operation with its number, size and kind.
        operation: String,
        /// How long this rank was in it.
        elapsed_secs: f64,
        /// Which peers caused it, as far as it can be known.
        verdict: String,
        /// What the backend said.
        cause: String,
    },
    /// A call that no backend can carry out.
    #[error("{operation}: {problem}")]
    Refused {
        /// The call.
        operation: String,
        /// Why, and what to do.
        problem: String,
    },
    /// CUDA or NCCL was asked for, but is not available.
    #[error("{what} is not available: {problem}")]
    Unavailable {
        /// CUDA or NCCL.
        what: &'static str,
        /// Why, and what to do.
        problem: String,
    },
    /// A child process could not be started.
    #[error("cannot start rank {rank} ({}): {source}", program.display())]
    Spawn {
        /// The rank it would have had.
        rank: usize,
        /// The executable.
        program: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The launcher itself failed at a system call.
    #[error("cannot {action}: {source}")]
    System {
        /// What it tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// libtorch refused a call that should not fail.
    #[error("{action}: {message}")]
    Torch {
        /// What was tried.
        action: &'static str,
        /// libtorch's message.
        message: String,
    },
}

impl Error {
    pub(crate) fn variable(name: &str, problem: impl Into<String>) -> Error {
        Error::Variable { name: name.into(), problem: problem.into() }
    }

    pub(crate) fn refused(operation: impl ToString, problem: impl Into<String>) -> Error {
        Error::Refused { operation: operation.to_string(), problem: problem.into() }
    }

    pub(crate) fn torch(action: &'static str) -> impl Fn(String) -> Error {
        move |message| Error::Torch { action, message }
    }
}
