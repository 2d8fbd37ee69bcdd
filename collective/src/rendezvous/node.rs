//! A machine's place among the machines, before its processes are started.

use std::str::FromStr;

use super::{below, kubeflow, number, parse, port, required, torchrun, Lookup};
use crate::cuda;
use crate::error::{Error, Result};

/// How many processes run on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// This many.
    Exactly(usize),
    /// One for each GPU.
    OnePerGpu,
}

impl Processes {
    /// The number, which for GPUs loads CUDA.
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

/// What a launcher must know: how many machines, which one this is, how many processes each runs, where they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// How many machines.
    pub nnodes: usize,
    /// This one, from 0.
    pub node_rank: usize,
    /// Processes on each.
    pub nproc_per_node: Processes,
    /// Machine 0.
    pub host: String,
    /// The store's port there; `None` on one machine, where any free one will do.
    pub port: Option<u16>,
}

impl Node {
    /// torchrun's.
    pub const DEFAULT_PORT: u16 = 29500;

    /// This machine alone.
    pub fn local(nproc: usize) -> Node {
        let nproc_per_node = Processes::Exactly(nproc);
        Node { nnodes: 1, node_rank: 0, nproc_per_node, host: "127.0.0.1".into(), port: None }
    }

    /// What Kubeflow's PET_* say; `None` without them, or in a process that a launcher has started.
    pub fn from_env(env: Lookup<'_>) -> Result<Option<Node>> {
        if torchrun::is_here(env) || !kubeflow::is_here(env) {
            return Ok(None);
        }
        Node::read(env).map(Some)
    }

    pub(super) fn read(env: Lookup<'_>) -> Result<Node> {
        let given = kubeflow::SIGNS.into_iter().find(|name| env(name).is_some()).unwrap_or("PET_NNODES");
        let nproc = env("PET_NPROC_PER_NODE").unwrap_or_else(|| "1".into());
        let nproc_per_node =
            nproc.parse().map_err(|e: String| Error::variable("PET_NPROC_PER_NODE", format!("is {e}")))?;
        let nnodes = nnodes(env)?;
        if nnodes == 1 {
            return Ok(Node { nproc_per_node, ..Node::local(1) });
        }
        let node_rank = number(env, "PET_NODE_RANK", given)?;
        below(("PET_NODE_RANK", node_rank), ("PET_NNODES", nnodes))?;
        let host = required(env, "PET_MASTER_ADDR", "PET_NNODES")?;
        let port = env("PET_MASTER_PORT").map_or(Ok(Node::DEFAULT_PORT), |text| port("PET_MASTER_PORT", &text))?;
        Ok(Node { nnodes, node_rank, nproc_per_node, host, port: Some(port) })
    }
}

/// torchrun also takes a range, `1:4`; a fixed one of equal ends is as good as a number.
fn nnodes(env: Lookup<'_>) -> Result<usize> {
    let text = env("PET_NNODES").unwrap_or_else(|| "1".into());
    let fixed = match text.split_once(':') {
        Some((least, most)) if least == most => least,
        Some(_) => return Err(Error::variable("PET_NNODES", format!("is {text:?}: elastic ranges are not supported"))),
        None => &text,
    };
    match parse("PET_NNODES", fixed, "a number of nodes")? {
        0 => Err(Error::variable("PET_NNODES", "is 0: there is at least one")),
        count => Ok(count),
    }
}
