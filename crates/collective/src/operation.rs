//! What a rank is doing, as text for error messages and heartbeats.

use std::fmt;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::group::ReduceOp;

/// One collective call: the same on every rank that takes part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    name: Name,
    /// Kind and shape, absent for a barrier.
    tensor: Option<(Kind, Vec<i64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Name {
    AllReduce(ReduceOp),
    Broadcast { root: usize },
    AllGather,
    Barrier,
}

impl Operation {
    pub fn all_reduce(tensor: &Tensor, op: ReduceOp) -> Result<Operation> {
        let operation = Operation::on(Name::AllReduce(op), tensor)?;
        if op == ReduceOp::Mean && !tensor.is_floating_point() {
            return Err(Error::refused(operation, "the mean of integers is not an integer: convert, or use Sum"));
        }
        Ok(operation)
    }

    pub fn broadcast(tensor: &Tensor, root: usize, world_size: usize) -> Result<Operation> {
        let operation = Operation::on(Name::Broadcast { root }, tensor)?;
        if root >= world_size {
            return Err(Error::refused(operation, format!("there is no rank {root} in a world of {world_size}")));
        }
        Ok(operation)
    }

    pub fn all_gather(tensor: &Tensor) -> Result<Operation> {
        Operation::on(Name::AllGather, tensor)
    }

    pub fn barrier() -> Operation {
        Operation { name: Name::Barrier, tensor: None }
    }

    fn on(name: Name, tensor: &Tensor) -> Result<Operation> {
        let operation = Operation { name, tensor: Some((tensor.kind(), tensor.size())) };
        use Kind::{BFloat16, Double, Float, Half, Int, Int64, Int8, Uint8};
        match tensor.kind() {
            BFloat16 | Double | Float | Half | Int | Int64 | Int8 | Uint8 if !tensor.is_sparse() => Ok(operation),
            _ => Err(Error::refused(operation, "only dense tensors of floats or integers travel between ranks")),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Name::AllReduce(op) => write!(f, "all_reduce({})", op.name())?,
            Name::Broadcast { root } => write!(f, "broadcast(from rank {root})")?,
            Name::AllGather => write!(f, "all_gather")?,
            Name::Barrier => write!(f, "barrier")?,
        }
        let Some((kind, shape)) = &self.tensor else { return Ok(()) };
        let bytes = shape.iter().product::<i64>() as f64 * kind.elt_size_in_bytes() as f64;
        let (amount, unit) = match bytes {
            b if b >= 1e6 => (b / 1e6, "MB"),
            b if b >= 1e3 => (b / 1e3, "kB"),
            b => (b, "B"),
        };
        write!(f, " of {} {unit} {kind:?}", (amount * 10.0).round() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn an_operation_tells_what_it_moves() {
        let tensor = Tensor::zeros([1024, 1024], (Kind::Float, Device::Cpu));
        let operation = Operation::all_reduce(&tensor, ReduceOp::Mean).expect("floats have a mean");
        assert_eq!(operation.to_string(), "all_reduce(mean) of 4.2 MB Float");
        assert_eq!(Operation::barrier().to_string(), "barrier");
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        let integers = Tensor::from_slice(&[1i64, 2]);
        assert!(Operation::all_reduce(&integers, ReduceOp::Mean).is_err());
        assert!(Operation::all_reduce(&integers, ReduceOp::Sum).is_ok());
        assert!(Operation::all_gather(&Tensor::from_slice(&[true])).is_err());
        assert!(Operation::broadcast(&integers, 2, 2).is_err());
    }
}
