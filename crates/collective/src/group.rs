//! What every backend must do: collectives over a fixed set of ranks.

use std::time::Duration;

use tch::Tensor;

use crate::error::Result;

/// How the tensors of all ranks are reduced to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// Σ over ranks.
    Sum,
    /// Σ over ranks / world size; floating point only.
    Mean,
    /// The least element over ranks.
    Min,
    /// The greatest element over ranks.
    Max,
}

impl ReduceOp {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Mean => "mean",
            ReduceOp::Min => "min",
            ReduceOp::Max => "max",
        }
    }
}

/// Collectives over the ranks 0 … `world_size() - 1`.
///
/// Every rank makes the same calls in the same order, with tensors of one shape, kind and type of device. After a call
/// returns, the result is the same, bit for bit, on all ranks. Tensors need not be contiguous. After an error other
/// than [`Error::Refused`](crate::Error::Refused) the group is broken: every later call fails at once.
pub trait ProcessGroup: Send {
    /// This process's rank.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn world_size(&self) -> usize;

    /// Starts reducing `tensor` over all ranks, in place; it must not be touched until the work has been waited for.
    fn all_reduce_start(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work>;

    /// Copies `tensor` of rank `root` into that of every rank.
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()>;

    /// The tensors of all ranks, by rank.
    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>>;

    /// Returns once every rank has called it.
    fn barrier(&self) -> Result<()>;

    /// As [`barrier`](Self::barrier), after work that takes the ranks very different times: not a collective's time-out
    /// counts, but `limit`, and a rank that dies meanwhile is named as soon as its heart has stood still for a
    /// time-out.
    fn meet(&self, limit: Duration) -> Result<()> {
        let _ = limit;
        self.barrier()
    }

    /// The ranks that are gone, as far as their heartbeats tell; asks nothing of them. To be called again and again: a
    /// heart counts as still once it has stood for most of a time-out.
    fn absent(&self) -> Result<Vec<Absent>> {
        Ok(Vec::new())
    }

    /// Reduces `tensor` over all ranks, in place.
    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.all_reduce_start(tensor, op)?.wait()
    }
}

/// A rank that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Which.
    pub rank: usize,
    /// Whether it has left on purpose, perhaps with all its work done.
    pub left: bool,
    /// What is known of it, for messages.
    pub how: String,
}

/// A collective in progress.
#[must_use = "the tensor is not reduced before the work has been waited for"]
pub struct Work {
    finish: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Work {
    pub(crate) fn new(finish: impl FnOnce() -> Result<()> + Send + 'static) -> Work {
        Work { finish: Box::new(finish) }
    }

    /// Returns once the tensor holds the result, or the collective has failed.
    pub fn wait(self) -> Result<()> {
        (self.finish)()
    }
}

/// Overwrites `tensor`, whatever its strides, outside of autograd.
pub(crate) fn overwrite(tensor: &Tensor, value: &Tensor) -> std::result::Result<(), tch::TchError> {
    tensor.detach().f_copy_(value)
}
