//! The meeting of all ranks at the rendezvous store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::ffi::store::Store;
use crate::monitor::{pace, Seat};
use crate::rendezvous::{Rendezvous, StoreHost};

/// How long the process that hosts the store stays after its own failure.
const LINGER: Duration = Duration::from_secs(2);

/// A store at which every rank has announced itself.
pub struct Joined {
    pub store: Store,
    /// Prefix of this group's keys.
    pub keys: String,
}

impl Joined {
    /// This rank, and where its heartbeat writes.
    pub fn seat(&self, rendezvous: &Rendezvous, timeout: Duration) -> Seat {
        Seat {
            rank: rendezvous.rank,
            world_size: rendezvous.world_size,
            keys: self.keys.clone(),
            host: host(rendezvous),
            hosts: rendezvous.hosts_store(),
            pace: pace(rendezvous.world_size, timeout),
        }
    }
}

/// Opens the store and waits for every rank.
pub fn join(rendezvous: &Rendezvous, timeout: Duration) -> Result<Joined> {
    let deadline = Instant::now() + timeout;
    let store = open(rendezvous, timeout)?;
    let keys = keys(rendezvous);
    let unreachable = |cause| unreachable(rendezvous, timeout, cause);
    let claims = store.add(&format!("{keys}rank/{}", rendezvous.rank), 1).map_err(unreachable)?;
    if claims > 1 {
        let problem = format!("two processes at {} claim to be rank {}", rendezvous.address(), rendezvous.rank);
        return Err(Error::refused("connect", problem));
    }
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    if let Err(cause) = store.wait(&format!("{keys}rank/"), rendezvous.world_size, left) {
        let error = name_missing(rendezvous, &store, &keys, timeout).unwrap_or_else(|| unreachable(cause));
        if rendezvous.hosts_store() {
            // The others time out a moment later, and still have to ask who is missing.
            std::thread::sleep(LINGER);
        }
        return Err(error);
    }
    Ok(Joined { store, keys })
}

fn open(rendezvous: &Rendezvous, timeout: Duration) -> Result<Store> {
    let (host, port) = (rendezvous.host.as_str(), rendezvous.port);
    if rendezvous.hosts_store() {
        let taken = |cause| {
            let operation = format!("serving the rendezvous at {}", rendezvous.address());
            Error::refused(operation, format!("{cause}; choose a free port (MASTER_PORT)"))
        };
        return Store::serve(host, port, timeout).map_err(taken);
    }
    Store::connect(host, port, timeout).map_err(|cause| unreachable(rendezvous, timeout, cause))
}

/// A launcher's store outlives restarts of its workers, and a process may connect more than once.
fn keys(rendezvous: &Rendezvous) -> String {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    format!("collective/{}/{connection}/", rendezvous.attempt)
}

fn name_missing(rendezvous: &Rendezvous, store: &Store, keys: &str, timeout: Duration) -> Option<Error> {
    let mut missing = Vec::new();
    for rank in 0..rendezvous.world_size {
        if !store.has(&format!("{keys}rank/{rank}")).ok()? {
            missing.push(rank);
        }
    }
    let names: Vec<String> = missing.iter().map(|rank| format!("rank {rank}")).collect();
    (!missing.is_empty()).then(|| Error::Join {
        rank: rendezvous.rank,
        joined: rendezvous.world_size - missing.len(),
        world_size: rendezvous.world_size,
        address: rendezvous.address(),
        timeout_secs: timeout.as_secs_f64(),
        missing: names.join(", "),
    })
}

fn unreachable(rendezvous: &Rendezvous, timeout: Duration, cause: String) -> Error {
    Error::Unreachable {
        rank: rendezvous.rank,
        address: rendezvous.address(),
        timeout_secs: timeout.as_secs_f64(),
        host: host(rendezvous),
        cause,
    }
}

fn host(rendezvous: &Rendezvous) -> String {
    let address = rendezvous.address();
    match rendezvous.store {
        StoreHost::Rank0 => format!("rank 0, which hosts the rendezvous at {address},"),
        StoreHost::Launcher => format!("the launcher, which hosts the rendezvous at {address},"),
    }
}
