//! The processes that share one evaluation: each takes every world-th batch of sources, the first writes the report.
//!
//! Pictures and numbers of all processes are exchanged through one folder ([`crate::evaluation::parts`]). No process
//! waits for another's batch inside a collective, so a slow one runs into no time-out. Heartbeats tell whether the
//! others live, since not every launcher ends the rest when one dies: a plain srun and a Kubernetes Job do not.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use collective::rendezvous::Rendezvous;
use collective::{
    connect_within, share_cores, Absent, Backend, DeviceChoice, ProcessGroup, DEFAULT_START, DEFAULT_TIMEOUT,
};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The pause between two looks at the others' heartbeats.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// This process among those of an evaluation.
pub struct Ranks {
    /// This process's rank, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    local_rank: usize,
    local_size: usize,
    group: Box<dyn ProcessGroup>,
    looked: Cell<Instant>,
}

impl Ranks {
    /// One process that does everything.
    pub fn alone() -> Self {
        let looked = Cell::new(Instant::now());
        Self { rank: 0, size: 1, local_rank: 0, local_size: 1, group: collective::single(), looked }
    }

    /// Joins the processes that a launcher started; without a launcher it is alone.
    pub fn join(rendezvous: Option<&Rendezvous>) -> Result<Self> {
        let Some(place) = rendezvous.filter(|place| place.world_size > 1) else { return Ok(Self::alone()) };
        Ok(Self {
            rank: place.rank,
            size: place.world_size,
            local_rank: place.local_rank,
            local_size: place.local_world_size,
            // Only a folder's name is sent through it.
            group: connect_within(place, Backend::Gloo, DEFAULT_START, DEFAULT_TIMEOUT)?,
            looked: Cell::new(Instant::now()),
        })
    }

    /// Whether this process logs, and writes the report.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Whether batch number `batch` belongs to this process.
    pub fn owns(&self, batch: usize) -> bool {
        batch % self.size == self.rank
    }

    /// The device of this process; libtorch gets its share of the cores.
    pub fn device(&self, choice: DeviceChoice) -> Result<Device> {
        let refused = |e| Error::config("models.device", format!("{e}; auto and cpu work"));
        let device = choice.device(self.local_rank).map_err(refused)?;
        if self.size > 1 {
            share_cores(None, self.local_size, device);
        }
        Ok(device)
    }

    /// Fails if a process has died, or if the first one is gone; of the others, those that have left have done their
    /// work. Cheap: the heartbeats are looked at every two seconds.
    pub fn check(&self) -> Result<()> {
        self.look(|absent| !absent.left || absent.rank == 0)
    }

    /// As [`check`](Self::check), also if the process that takes batch number `batch` has left without it.
    pub fn check_owner(&self, batch: usize) -> Result<()> {
        self.look(|absent| !absent.left || absent.rank == batch % self.size)
    }

    fn look(&self, is_missed: impl Fn(&Absent) -> bool) -> Result<()> {
        if self.looked.get().elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked.set(Instant::now());
        let missed: Vec<String> = self.group.absent()?.into_iter().filter(is_missed).map(|absent| absent.how).collect();
        match missed.is_empty() {
            true => Ok(()),
            false => Err(Error::Gone { rank: self.rank, whom: missed.join("; ") }),
        }
    }

    /// The first process's `path`, on every process. They may come at very different times, each from loading its
    /// models.
    pub fn agree_on(&self, path: &Path) -> Result<PathBuf> {
        self.group.meet(DEFAULT_START)?;
        let mut bytes: Vec<i64> = path.to_string_lossy().bytes().map(i64::from).collect();
        let length = Tensor::from_slice(&[bytes.len() as i64]);
        self.group.broadcast(&length, 0)?;
        bytes.resize(length.int64_value(&[0]) as usize, 0); // the other processes' bytes are overwritten
        let text = Tensor::from_slice(&bytes);
        self.group.broadcast(&text, 0)?;
        let bytes: Vec<u8> = Vec::try_from(text.to_kind(Kind::Uint8))?;
        Ok(PathBuf::from(String::from_utf8_lossy(&bytes).into_owned()))
    }
}
