//! This process and its rank, and the few things that the ranks exchange.

use std::time::Duration;

use collective::{connect_within, share_cores, Backend, ProcessGroup, ReduceOp, Rendezvous, Work};
use tch::{Device, Kind, Tensor};

use crate::config::TrainSection;
use crate::failure::{exit_code, refuse, BAD_INPUT};

/// This process among all processes.
pub struct World {
    group: Box<dyn ProcessGroup>,
    /// How much later than the first the last rank may be done with what comes before the first step.
    start: Duration,
    /// Its rank among all processes.
    pub rank: usize,
    /// The number of all processes.
    pub size: usize,
    /// Its rank among the processes of this machine.
    pub local_rank: usize,
    /// The number of processes on this machine.
    pub local_size: usize,
    /// The device that this process computes on.
    pub device: Device,
}

impl World {
    /// Joins the other processes; without a rendezvous it is the only one.
    pub fn join(rendezvous: Option<&Rendezvous>, train: &TrainSection) -> anyhow::Result<Self> {
        let (local_rank, local_size) = rendezvous.map_or((0, 1), |r| (r.local_rank, r.local_world_size));
        let device =
            train.device.device(local_rank).map_err(|e| refuse(format!("train.device: {e}; auto and cpu work")))?;
        share_cores(train.num_threads, local_size, device);
        tracing::info!("libtorch computes with {} threads a process", tch::get_num_threads());
        collective::tf32(train.allow_tf32)?;
        collective::deterministic(train.deterministic)?;
        let group = match rendezvous.filter(|r| r.world_size > 1) {
            None => collective::single(),
            Some(rendezvous) => {
                let backend = if device.is_cuda() { Backend::Nccl } else { Backend::Gloo };
                let [start, timeout] = [train.start_timeout_secs, train.timeout_secs].map(Duration::from_secs);
                connect_within(rendezvous, backend, start, timeout)?
            }
        };
        let start = Duration::from_secs(train.start_timeout_secs);
        Ok(Self { rank: group.rank(), size: group.world_size(), group, start, local_rank, local_size, device })
    }

    /// Whether this process prints, logs and writes.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The result of `work`, which only rank 0 does. If it fails there, every rank fails with the same exit code, so
    /// that none waits for rank 0 in vain.
    pub fn on_first<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        let done = self.is_first().then(work).transpose();
        let code = self.agree(&[done.as_ref().map_or_else(|error| exit_code(error).into(), |_| 0)])?[0];
        match (&done, code == i64::from(BAD_INPUT)) {
            (Ok(None), true) => Err(refuse("rank 0 could not begin: its own message says why")),
            (Ok(None), false) if code != 0 => anyhow::bail!("rank 0 failed: its own message says why"),
            _ => done,
        }
    }

    /// Sums `tensor` over all ranks, in place.
    pub fn sum(&self, tensor: &Tensor) -> anyhow::Result<()> {
        Ok(self.group.all_reduce(tensor, ReduceOp::Sum)?)
    }

    /// Starts to do so; `tensor` must not be touched until the work has been waited for.
    pub fn sum_start(&self, tensor: &Tensor) -> anyhow::Result<Work> {
        Ok(self.group.all_reduce_start(tensor, ReduceOp::Sum)?)
    }

    /// The largest number of any rank.
    pub fn max(&self, number: u64) -> anyhow::Result<u64> {
        let tensor = Tensor::from_slice(&[number as i64]).to_device(self.device);
        self.group.all_reduce(&tensor, ReduceOp::Max)?;
        Ok(tensor.int64_value(&[0]) as u64)
    }

    /// For each question whether any rank says yes. Every rank asks equally many.
    pub fn any(&self, answers: &[bool]) -> anyhow::Result<Vec<bool>> {
        if self.size == 1 || answers.is_empty() {
            return Ok(answers.to_vec());
        }
        let numbers: Vec<i64> = answers.iter().map(|&yes| i64::from(yes)).collect();
        let tensor = Tensor::from_slice(&numbers).to_device(self.device);
        self.group.all_reduce(&tensor, ReduceOp::Max)?;
        Ok(Vec::<i64>::try_from(tensor.to_device(Device::Cpu))?.into_iter().map(|number| number > 0).collect())
    }

    /// Rank 0's numbers, on every rank.
    pub fn agree(&self, numbers: &[i64]) -> anyhow::Result<Vec<i64>> {
        let tensor = Tensor::from_slice(numbers).to_device(self.device);
        self.group.broadcast(&tensor, 0)?;
        Ok((0..numbers.len()).map(|k| tensor.int64_value(&[k as i64])).collect())
    }

    /// Copies rank 0's `tensors` into every rank's, in place, as one message.
    pub fn copy_from_first(&self, tensors: &mut [Tensor]) -> anyhow::Result<()> {
        if self.size == 1 || tensors.is_empty() {
            return Ok(());
        }
        let _no_grad = tch::no_grad_guard();
        let flat = flatten(tensors, Kind::Float, self.device);
        self.group.broadcast(&flat, 0)?;
        let parts = split(&flat, tensors);
        for (tensor, part) in tensors.iter_mut().zip(parts) {
            tensor.copy_(&part);
        }
        Ok(())
    }

    /// Every rank's rows one after the other, by rank: (n, …) of each → (world·n, …).
    pub fn gather_rows(&self, rows: &Tensor) -> anyhow::Result<Tensor> {
        Ok(Tensor::cat(&self.group.all_gather(&rows.contiguous())?, 0))
    }

    /// As [`barrier`](Self::barrier), after work that takes the ranks very different times, such as loading: what
    /// counts is `train.start_timeout_secs`, not a collective's time-out. A rank that dies meanwhile is named.
    pub fn meet(&self) -> anyhow::Result<()> {
        Ok(self.group.meet(self.start)?)
    }

    /// Returns once every rank is here.
    pub fn barrier(&self) -> anyhow::Result<()> {
        Ok(self.group.barrier()?)
    }
}

/// Tensors, possibly none, as one flat tensor of `kind`.
pub fn flatten(tensors: &[Tensor], kind: Kind, device: Device) -> Tensor {
    let mut flat = vec![Tensor::zeros([0], (kind, device))];
    flat.extend(tensors.iter().map(|t| t.detach().flatten(0, -1).to_kind(kind).to_device(device)));
    Tensor::cat(&flat, 0)
}

/// The parts of `flat` in the shapes of `like`; numbers left over at the end are ignored.
pub fn split(flat: &Tensor, like: &[Tensor]) -> Vec<Tensor> {
    let mut at = 0;
    let part = |tensor: &Tensor| {
        let count = tensor.numel() as i64;
        at += count;
        flat.narrow(0, at - count, count).view(tensor.size().as_slice())
    };
    like.iter().map(part).collect()
}
