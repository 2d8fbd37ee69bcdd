//! Which part of the encoding belongs to this process. Processes share a folder and never talk to each other: under
//! torchrun, Slurm, Kubeflow, a Kubernetes Indexed Job (JOB_COMPLETION_INDEX and WORLD_SIZE), or `--nproc-per-node`.

use collective::rendezvous::{Lookup, Rendezvous};
use collective::DeviceChoice;
use tch::Device;

use crate::error::{Error, Result};

/// This process among those that encode one data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerRank {
    /// This process's rank, from 0; the first completes the data set.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    /// The rank on this machine, which is the index of its GPU.
    pub local_rank: usize,
    /// The number of processes on this machine.
    pub local_size: usize,
}

impl WorkerRank {
    /// One process that does everything.
    pub const ALONE: WorkerRank = WorkerRank { rank: 0, size: 1, local_rank: 0, local_size: 1 };

    /// The rank that a launcher's variables say; [`WorkerRank::ALONE`] without any.
    pub fn from_env(env: Lookup<'_>) -> Result<Self> {
        let refused = |message: String| Error::invalid("environment", message);
        if let (Some(index), None) = (env("JOB_COMPLETION_INDEX"), env("RANK")) {
            let size = env("WORLD_SIZE").ok_or_else(|| {
                refused("JOB_COMPLETION_INDEX is set, WORLD_SIZE is not: set it to the Job's `completions`".into())
            })?;
            let number = |name: &str, text: &str| {
                text.trim().parse::<usize>().map_err(|_| refused(format!("{name} is {text:?}, not a whole number")))
            };
            let (rank, size) = (number("JOB_COMPLETION_INDEX", &index)?, number("WORLD_SIZE", &size)?);
            if rank >= size {
                return Err(refused(format!("JOB_COMPLETION_INDEX is {rank}, but WORLD_SIZE is {size}")));
            }
            return Ok(Self { rank, size, ..Self::ALONE });
        }
        let place = Rendezvous::from_env(env).map_err(|e| refused(e.to_string()))?;
        Ok(place.map_or(Self::ALONE, |place| Self {
            rank: place.rank,
            size: place.world_size,
            local_rank: place.local_rank,
            local_size: place.local_world_size,
        }))
    }

    /// Whether this process completes the data set.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The device of this process by a recipe's key `device`; the machine's processes share its cores.
    pub fn device(&self, wanted: DeviceChoice) -> Result<Device> {
        let refused = |e| Error::invalid("device", format!("{e}; auto and cpu work"));
        let device = wanted.device(self.local_rank).map_err(refused)?;
        if self.local_size > 1 {
            collective::share_cores(None, self.local_size, device);
        }
        Ok(device)
    }

    /// Limits decoding to this process's part of the cores, so that the other processes have theirs.
    pub fn divide_cores(&self) {
        if self.local_size > 1 {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            // A thread pool that exists already is kept: whoever made it chose its size.
            let _ = rayon::ThreadPoolBuilder::new().num_threads((cores / self.local_size).max(1)).build_global();
        }
    }

    /// Whether item `index` is this process's.
    pub fn owns(&self, index: usize) -> bool {
        index % self.size == self.rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker_rank(variables: &[(&str, &str)]) -> std::result::Result<WorkerRank, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        WorkerRank::from_env(&lookup).map_err(|e| e.to_string())
    }

    #[test]
    fn each_launcher_gives_its_share() {
        assert_eq!(worker_rank(&[]), Ok(WorkerRank::ALONE));
        let indexed = [("JOB_COMPLETION_INDEX", "3"), ("WORLD_SIZE", "8")];
        assert_eq!(worker_rank(&indexed), Ok(WorkerRank { rank: 3, size: 8, ..WorkerRank::ALONE }));
        let torchrun = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "a"),
            ("MASTER_PORT", "1234"),
        ];
        assert_eq!(worker_rank(&torchrun), Ok(WorkerRank { rank: 5, size: 8, local_rank: 1, local_size: 4 }));
    }

    #[test]
    fn an_incomplete_set_is_named() {
        assert!(worker_rank(&[("JOB_COMPLETION_INDEX", "3")]).expect_err("no size").contains("completions"));
        assert!(worker_rank(&[("JOB_COMPLETION_INDEX", "3"), ("WORLD_SIZE", "3")])
            .expect_err("outside")
            .contains("is 3"));
        assert!(worker_rank(&[("JOB_COMPLETION_INDEX", "x"), ("WORLD_SIZE", "3")])
            .expect_err("no number")
            .contains("\"x\""));
    }

    #[test]
    fn everything_belongs_to_exactly_one() {
        let ranks = (0..3).map(|rank| WorkerRank { rank, size: 3, ..WorkerRank::ALONE });
        let owned: usize = ranks.map(|worker_rank| (0..100).filter(|&n| worker_rank.owns(n)).count()).sum();
        assert_eq!(owned, 100);
    }
}
