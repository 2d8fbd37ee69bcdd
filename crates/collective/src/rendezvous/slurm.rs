//! srun's variables: one task is one process.

use super::nodelist;
use super::{below, number, parse, port, required, Lookup, Rendezvous, StoreHost};
use crate::error::{Error, Result};

const SIGN: &str = "SLURM_PROCID";

pub fn is_here(env: Lookup<'_>) -> bool {
    env(SIGN).is_some()
}

pub fn read(env: Lookup<'_>) -> Result<Rendezvous> {
    let rank = number(env, SIGN, SIGN)?;
    let world_size = number(env, "SLURM_NTASKS", SIGN)?;
    let local_rank = number(env, "SLURM_LOCALID", SIGN)?;
    below((SIGN, rank), ("SLURM_NTASKS", world_size))?;
    let hosts = hosts(env)?;
    let (count_name, local_world_size) = local_world_size(env, world_size, hosts.as_deref())?;
    below(("SLURM_LOCALID", local_rank), (count_name, local_world_size))?;
    let first = hosts.and_then(|hosts| hosts.into_iter().next());
    let named = || env("MASTER_ADDR").or(first);
    let host = named().ok_or_else(|| {
        Error::variable("SLURM_JOB_NODELIST", "is missing, although SLURM_PROCID is set and MASTER_ADDR is not")
    })?;
    let port = match env("MASTER_PORT") {
        Some(text) => port("MASTER_PORT", &text)?,
        None => port_of_job(env)?,
    };
    let store = StoreHost::Rank0;
    Ok(Rendezvous { rank, world_size, local_rank, local_world_size, host, port, store, attempt: 0 })
}

fn hosts(env: Lookup<'_>) -> Result<Option<Vec<String>>> {
    let given = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"].into_iter();
    let Some((name, text)) = given.filter_map(|name| env(name).map(|text| (name, text))).next() else {
        return Ok(None);
    };
    let hosts = nodelist::expand(&text).map_err(|why| Error::variable(name, format!("is {text:?}: {why}")))?;
    Ok(Some(hosts))
}

/// The number of tasks on this node, and the variable that says so.
fn local_world_size(env: Lookup<'_>, tasks: usize, hosts: Option<&[String]>) -> Result<(&'static str, usize)> {
    for name in ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"] {
        let Some(text) = env(name) else { continue };
        let node = parse("SLURM_NODEID", &env("SLURM_NODEID").unwrap_or_else(|| "0".into()), "a whole number")?;
        return match nodelist::tasks_on(&text, node) {
            Some(count) => Ok((name, count)),
            None => Err(Error::variable(name, format!("is {text:?}, which tells no number of tasks on node {node}"))),
        };
    }
    if env("SLURM_NTASKS_PER_NODE").is_some() {
        return Ok(("SLURM_NTASKS_PER_NODE", number(env, "SLURM_NTASKS_PER_NODE", SIGN)?));
    }
    Ok(("SLURM_NTASKS", tasks.div_ceil(hosts.map_or(1, |hosts| hosts.len().max(1)))))
}

/// A port that is the same on every rank, rarely another job's on the node, and below the ephemeral ports.
fn port_of_job(env: Lookup<'_>) -> Result<u16> {
    let job: u64 = parse("SLURM_JOB_ID", &required(env, "SLURM_JOB_ID", SIGN)?, "a job's number")?;
    Ok(20000 + (job % 12000) as u16)
}
