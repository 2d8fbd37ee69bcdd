//! The processes that share one evaluation: each takes every world-th batch of sources, the first writes the report.
//!
//! Pictures and numbers of all processes are exchanged through one folder ([`crate::evaluation::parts`]). No process
//! waits for another's batch inside a collective, so a slow one runs into no time-out.

use std::path::{Path, PathBuf};

use collective::rendezvous::Rendezvous;
use collective::{share_cores, Backend, DeviceChoice, ProcessGroup, DEFAULT_TIMEOUT};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// This process among those of an evaluation.
pub struct Ranks {
    /// This process's rank, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    local_rank: usize,
    local_size: usize,
    group: Box<dyn ProcessGroup>,
}

impl Ranks {
    /// One process that does everything.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, local_rank: 0, local_size: 1, group: collective::single() }
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
            group: collective::connect(place, Backend::Gloo, DEFAULT_TIMEOUT)?,
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

    /// The first process's `path`, on every process.
    pub fn agree_on(&self, path: &Path) -> Result<PathBuf> {
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
