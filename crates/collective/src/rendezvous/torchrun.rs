//! torchrun's variables, which Kubeflow's PyTorchJob and our own launcher set too.
//!
//! If TORCHELASTIC_USE_AGENT_STORE is True, the launcher serves the store at MASTER_ADDR:MASTER_PORT.

use super::{below, number, parse, port, required, Lookup, Rendezvous, StoreHost};
use crate::error::{Error, Result};

const SIGNS: [&str; 3] = ["RANK", "WORLD_SIZE", "LOCAL_RANK"];

pub fn is_here(env: Lookup<'_>) -> bool {
    SIGNS.iter().any(|name| env(name).is_some())
}

pub fn read(env: Lookup<'_>) -> Result<Rendezvous> {
    let given = SIGNS.into_iter().find(|name| env(name).is_some()).unwrap_or("RANK");
    let rank = number(env, "RANK", given)?;
    let world_size = number(env, "WORLD_SIZE", given)?;
    let (local_rank, local_world_size) = local(env)?;
    below(("RANK", rank), ("WORLD_SIZE", world_size))?;
    below(("LOCAL_RANK", local_rank), ("LOCAL_WORLD_SIZE", local_world_size))?;
    if local_world_size > world_size {
        let problem = format!("is {local_world_size}, more than WORLD_SIZE, {world_size}");
        return Err(Error::variable("LOCAL_WORLD_SIZE", problem));
    }
    let launcher = env("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
    let attempt = env("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into());
    Ok(Rendezvous {
        rank,
        world_size,
        local_rank,
        local_world_size,
        host: required(env, "MASTER_ADDR", given)?,
        port: port("MASTER_PORT", &required(env, "MASTER_PORT", given)?)?,
        store: if launcher { StoreHost::Launcher } else { StoreHost::Rank0 },
        attempt: parse("TORCHELASTIC_RESTART_COUNT", &attempt, "a whole number")?,
    })
}

/// PyTorchJob runs one process in a pod and sets neither; one without the other is a mistake.
fn local(env: Lookup<'_>) -> Result<(usize, usize)> {
    match (env("LOCAL_RANK"), env("LOCAL_WORLD_SIZE")) {
        (None, None) => Ok((0, 1)),
        (Some(_), _) => Ok((number(env, "LOCAL_RANK", "RANK")?, number(env, "LOCAL_WORLD_SIZE", "LOCAL_RANK")?)),
        (None, Some(_)) => Ok((number(env, "LOCAL_RANK", "LOCAL_WORLD_SIZE")?, 0)),
    }
}
