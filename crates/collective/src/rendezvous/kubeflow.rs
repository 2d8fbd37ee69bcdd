//! Kubeflow TrainJob's variables: torchrun's own options as PET_*, for a container that need not run torchrun.

use super::node::{Node, Processes};
use super::{below, number, parse, port, required, torchrun, Lookup, Rendezvous, StoreHost};
use crate::error::{Error, Result};

const SIGNS: [&str; 3] = ["PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE"];

pub fn is_here(env: Lookup<'_>) -> bool {
    SIGNS.iter().any(|name| env(name).is_some())
}

/// If a node runs one process, this process is a member; more are started by the launcher.
pub fn read(env: Lookup<'_>) -> Result<Rendezvous> {
    let node = Node::read_pet(env)?;
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

impl Node {
    /// What Kubeflow's PET_* variables say; `None` without them, or in a process that a launcher has started.
    pub fn from_env(env: Lookup<'_>) -> Result<Option<Node>> {
        if torchrun::is_here(env) || !is_here(env) {
            return Ok(None);
        }
        Node::read_pet(env).map(Some)
    }

    fn read_pet(env: Lookup<'_>) -> Result<Node> {
        let given = SIGNS.into_iter().find(|name| env(name).is_some()).unwrap_or("PET_NNODES");
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

/// torchrun also takes a range, `1:4`; a range with equal ends counts as a number.
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
