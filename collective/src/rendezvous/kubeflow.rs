//! Kubeflow TrainJob's variables: torchrun's own options as PET_*, for a container that need not run torchrun.

use super::node::{Node, Processes};
use super::{Lookup, Rendezvous, StoreHost};
use crate::error::{Error, Result};

pub const SIGNS: [&str; 3] = ["PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE"];

pub fn is_here(env: Lookup<'_>) -> bool {
    SIGNS.iter().any(|name| env(name).is_some())
}

/// One process a node is a member at once; more are for the launcher to start.
pub fn read(env: Lookup<'_>) -> Result<Rendezvous> {
    let node = Node::read(env)?;
    if node.nproc_per_node != Processes::Exactly(1) {
        let asked = env("PET_NPROC_PER_NODE").unwrap_or_default();
        let problem = format!("is {asked:?}, but this process was started once: start it through the launcher");
        return Err(Error::variable("PET_NPROC_PER_NODE", problem));
    }
    Ok(Rendezvous {
        rank: node.node_rank,
        world_size: node.nnodes,
        local_rank: 0,
        local_world_size: 1,
        host: node.host,
        port: node.port.unwrap_or(Node::DEFAULT_PORT),
        store: StoreHost::Rank0,
        attempt: 0,
    })
}
