//! A machine's index among the machines, before its processes are started.

use std::str::FromStr;

use crate::cuda;
use crate::error::Result;

/// How many processes run on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// This many.
    Exactly(usize),
    /// One for each GPU.
    OnePerGpu,
}

impl Processes {
    /// The number of processes; for GPUs this loads CUDA.
    pub fn count(self) -> Result<usize> {
        match self {
            Processes::Exactly(count) => Ok(count),
            Processes::OnePerGpu => cuda::require().map(|()| cuda::count()),
        }
    }
}

impl FromStr for Processes {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Processes, String> {
        match (text, text.parse()) {
            ("gpu" | "auto", _) => Ok(Processes::OnePerGpu),
            (_, Ok(count)) if count > 0 => Ok(Processes::Exactly(count)),
            _ => Err(format!("{text:?} is neither a positive number of processes nor `gpu`")),
        }
    }
}

/// What a launcher must know: how many machines, which one this is, how many processes each runs, and where they
/// meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// How many machines.
    pub nnodes: usize,
    /// This one, from 0.
    pub node_rank: usize,
    /// Processes on each.
    pub nproc_per_node: Processes,
    /// The address of machine 0.
    pub host: String,
    /// The store's port there; `None` for one machine, where any free port will do.
    pub port: Option<u16>,
}

impl Node {
    /// torchrun's default.
    pub const DEFAULT_PORT: u16 = 29500;

    /// This machine alone.
    pub fn local(nproc: usize) -> Node {
        let nproc_per_node = Processes::Exactly(nproc);
        Node { nnodes: 1, node_rank: 0, nproc_per_node, host: "127.0.0.1".into(), port: None }
    }
}
