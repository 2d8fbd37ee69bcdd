//! Which rank this process has, and where the ranks meet, from the environment variables of a launcher.
//!
//! There are four conventions; the first whose variables are set is used:
//!
//! | launcher | who | where |
//! |---|---|---|
//! | torchrun, PyTorchJob, [`launch`](crate::launch) | RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE | MASTER_ADDR, MASTER_PORT |
//! | Kubeflow TrainJob, one process a node | PET_NODE_RANK, PET_NNODES | PET_MASTER_ADDR, PET_MASTER_PORT |
//! | srun | SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID | MASTER_ADDR or the first of SLURM_JOB_NODELIST; MASTER_PORT or one from SLURM_JOB_ID |
//! | none | alone | |
//!
//! All of it is a function of a lookup, so that tests can pass a table.

mod kubeflow;
mod node;
pub mod nodelist;
mod slurm;
mod torchrun;

use std::str::FromStr;

use crate::error::{Error, Result};

pub use node::{Node, Processes};

/// Reads a variable; [`process_env`], or a table in tests.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process. An empty variable counts as absent.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A process's place in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    /// The rank among all processes, from 0.
    pub rank: usize,
    /// How many processes there are.
    pub world_size: usize,
    /// The rank on this machine, which is the index of its GPU.
    pub local_rank: usize,
    /// How many there are on this machine.
    pub local_world_size: usize,
    /// Where the store is.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who serves the store.
    pub store: StoreHost,
    /// How often the launcher has restarted this group.
    pub attempt: u64,
}

/// Who serves the store at which the ranks meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreHost {
    /// The process of rank 0.
    Rank0,
    /// The launcher (torchrun's agent, or ours), which outlives every rank.
    Launcher,
}

impl Rendezvous {
    /// A rank of a group on this machine that meets at a port of loopback, served by rank 0.
    pub fn local(rank: usize, world_size: usize, port: u16) -> Rendezvous {
        Rendezvous {
            rank,
            world_size,
            local_rank: rank,
            local_world_size: world_size,
            host: "127.0.0.1".into(),
            port,
            store: StoreHost::Rank0,
            attempt: 0,
        }
    }

    /// What the environment says; `None` without a launcher's variables. A variable that is missing, malformed or
    /// contradicts another is an error that names it.
    ///
    /// A Kubeflow node that should run several processes is not a member yet: ask [`Node::from_env`] first.
    pub fn from_env(env: Lookup<'_>) -> Result<Option<Rendezvous>> {
        if torchrun::is_here(env) {
            return torchrun::read(env).map(Some);
        }
        if kubeflow::is_here(env) {
            return kubeflow::read(env).map(Some);
        }
        if slurm::is_here(env) {
            return slurm::read(env).map(Some);
        }
        Ok(None)
    }

    /// host:port
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn hosts_store(&self) -> bool {
        self.store == StoreHost::Rank0 && self.rank == 0
    }
}

/// The variable, or an error that says which launcher's set is incomplete.
fn required(env: Lookup<'_>, name: &str, given: &str) -> Result<String> {
    env(name).ok_or_else(|| Error::variable(name, format!("is missing, although {given} is set")))
}

fn parse<T: FromStr>(name: &str, text: &str, what: &str) -> Result<T> {
    text.trim().parse().map_err(|_| Error::variable(name, format!("is {text:?}, which is not {what}")))
}

fn number(env: Lookup<'_>, name: &str, given: &str) -> Result<usize> {
    parse(name, &required(env, name, given)?, "a whole number")
}

fn port(name: &str, text: &str) -> Result<u16> {
    let port: u16 = parse(name, text, "a port (1 to 65535)")?;
    match port {
        0 => Err(Error::variable(name, "is 0, which is not a port (1 to 65535)")),
        port => Ok(port),
    }
}

/// `index` must lie below `count`.
fn below((index_name, index): (&str, usize), (count_name, count): (&str, usize)) -> Result<()> {
    if count == 0 {
        return Err(Error::variable(count_name, "is 0: there is at least one"));
    }
    if index >= count {
        let problem = format!("is {index}, but {count_name} is {count}: it counts from 0");
        return Err(Error::variable(index_name, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
