//! A group of one process: every collective is the identity.

use tch::Tensor;

use crate::error::Result;
use crate::group::{ProcessGroup, ReduceOp, Work};
use crate::operation::Operation;

struct Single;

/// The group of a process that trains alone.
pub fn single() -> Box<dyn ProcessGroup> {
    Box::new(Single)
}

impl ProcessGroup for Single {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce_start(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        Operation::all_reduce(tensor, op)?;
        Ok(Work::new(|| Ok(())))
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        Operation::broadcast(tensor, root, 1).map(drop)
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        Operation::all_gather(tensor)?;
        Ok(vec![tensor.detach().copy()])
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}
