//! What every backend must do, checked from the inside by each rank.

use collective::{Error, ProcessGroup, ReduceOp};
use tch::{Device, Kind, Tensor};

/// The contract on CPU tensors.
pub fn check(group: &dyn ProcessGroup) {
    check_on(group, Device::Cpu);
}

/// The contract on tensors of one device.
pub fn check_on(group: &dyn ProcessGroup, device: Device) {
    assert!(group.rank() < group.world_size());
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half, Kind::Int64] {
        reductions(group, device, kind);
        broadcasts(group, device, kind);
        gathers(group, device, kind);
    }
    strides(group, device);
    overlapped(group, device);
    agreement(group, device);
    refusals(group, device);
    for _ in 0..3 {
        group.barrier().expect("barrier");
    }
}

/// Rank r's tensor: small whole numbers, exact in every kind.
fn given(rank: usize, device: Device, kind: Kind) -> Tensor {
    let ramp = Tensor::arange(12, (Kind::Float, device)).reshape([3, 4]);
    let sign = if rank.is_multiple_of(2) { 1.0 } else { -1.0 };
    (ramp * sign + 2.0 * rank as f64).to_kind(kind)
}

/// What reducing all ranks' tensors gives, in f64.
fn expected(world: usize, device: Device, op: ReduceOp) -> Tensor {
    let all: Vec<Tensor> = (0..world).map(|rank| given(rank, device, Kind::Double)).collect();
    let all = Tensor::stack(&all, 0);
    match op {
        ReduceOp::Sum => all.sum_dim_intlist(0, false, Kind::Double),
        ReduceOp::Mean => all.mean_dim(0, false, Kind::Double),
        ReduceOp::Min => all.amin([0], false),
        ReduceOp::Max => all.amax([0], false),
    }
}

#[track_caller]
fn same(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let difference = (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(difference <= tolerance, "{what}: differs by {difference}");
}

fn reductions(group: &dyn ProcessGroup, device: Device, kind: Kind) {
    for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Min, ReduceOp::Max] {
        if op == ReduceOp::Mean && kind == Kind::Int64 {
            continue;
        }
        let tensor = given(group.rank(), device, kind);
        group.all_reduce(&tensor, op).expect("all_reduce");
        assert_eq!(tensor.kind(), kind);
        // a mean over three ranks is rounded to the kind: relative 2^-8 in bf16, of values up to 20
        let tolerance = match (op, kind) {
            (ReduceOp::Mean, Kind::BFloat16) => 0.04,
            (ReduceOp::Mean, Kind::Half) => 0.005,
            (ReduceOp::Mean, _) => 1e-6,
            _ => 0.0,
        };
        same(&tensor, &expected(group.world_size(), device, op), tolerance, &format!("{op:?} {kind:?}"));
    }
}

fn broadcasts(group: &dyn ProcessGroup, device: Device, kind: Kind) {
    for root in 0..group.world_size() {
        let tensor = given(group.rank(), device, kind);
        group.broadcast(&tensor, root).expect("broadcast");
        same(&tensor, &given(root, device, kind), 0.0, "broadcast");
    }
}

fn gathers(group: &dyn ProcessGroup, device: Device, kind: Kind) {
    let all = group.all_gather(&given(group.rank(), device, kind)).expect("all_gather");
    assert_eq!(all.len(), group.world_size());
    for (rank, tensor) in all.iter().enumerate() {
        assert_eq!(tensor.kind(), kind);
        same(tensor, &given(rank, device, kind), 0.0, "all_gather");
    }
}

/// Transposed and sliced tensors give what contiguous ones give, in place, and leave their neighbours alone.
fn strides(group: &dyn ProcessGroup, device: Device) {
    let (rank, world) = (group.rank(), group.world_size());
    let transposed = given(rank, device, Kind::Float).transpose(0, 1);
    assert!(!transposed.is_contiguous());
    group.all_reduce(&transposed, ReduceOp::Sum).expect("all_reduce of a transposed tensor");
    same(&transposed, &expected(world, device, ReduceOp::Sum).transpose(0, 1), 0.0, "transposed sum");
    let whole = given(rank, device, Kind::Float);
    group.broadcast(&whole.narrow(1, 1, 2), world - 1).expect("broadcast of a slice");
    same(&whole.narrow(1, 1, 2), &given(world - 1, device, Kind::Float).narrow(1, 1, 2), 0.0, "slice");
    same(&whole.narrow(1, 0, 1), &given(rank, device, Kind::Float).narrow(1, 0, 1), 0.0, "beside the slice");
    let all = group.all_gather(&given(rank, device, Kind::Float).transpose(0, 1)).expect("all_gather of a transposed");
    same(&all[world - 1], &given(world - 1, device, Kind::Float).transpose(0, 1), 0.0, "transposed gather");
    let leaf = given(rank, device, Kind::Float).set_requires_grad(true);
    group.all_reduce(&leaf, ReduceOp::Max).expect("all_reduce of a parameter");
    same(&leaf.detach(), &expected(world, device, ReduceOp::Max), 0.0, "parameter");
}

/// Several reductions under way at once.
fn overlapped(group: &dyn ProcessGroup, device: Device) {
    let tensors: Vec<Tensor> = (0..4).map(|i| given(group.rank(), device, Kind::Float) * (i + 1) as f64).collect();
    let start = |tensor| group.all_reduce_start(tensor, ReduceOp::Sum).expect("start");
    let works: Vec<_> = tensors.iter().map(start).collect();
    for (i, work) in works.into_iter().enumerate() {
        work.wait().expect("wait");
        let sum = expected(group.world_size(), device, ReduceOp::Sum) * (i + 1) as f64;
        same(&tensors[i], &sum, 0.0, "overlapped");
    }
}

/// Sums whose rounding depends on the order are nevertheless the same bits on all ranks.
fn agreement(group: &dyn ProcessGroup, device: Device) {
    let ramp = Tensor::arange(10_001, (Kind::Float, device)) + 1.0;
    let tensor = (ramp * (group.rank() as f64 + 0.1)).sin() / 3.0;
    group.all_reduce(&tensor, ReduceOp::Mean).expect("all_reduce");
    for other in group.all_gather(&tensor).expect("all_gather") {
        assert!(other == tensor, "ranks disagree on a mean");
    }
}

/// What cannot be done is refused on every rank alike, and leaves the group whole.
fn refusals(group: &dyn ProcessGroup, device: Device) {
    let integers = Tensor::ones([2], (Kind::Int64, device));
    let refused = [
        group.all_reduce(&integers, ReduceOp::Mean).expect_err("the mean of integers"),
        group.all_reduce(&Tensor::ones([2], (Kind::Bool, device)), ReduceOp::Sum).expect_err("booleans"),
        group.broadcast(&integers, group.world_size()).expect_err("no such root"),
    ];
    for error in refused {
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
}
