//! A process group of threads: the same collectives without sockets, for tests and for several replicas in one
//! process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::c10d::DEFAULT_TIMEOUT;
use crate::error::{Error, Result};
use crate::group::{overwrite, ProcessGroup, ReduceOp, Work};
use crate::operation::Operation;

/// One group for each of `n` threads, with the default timeout.
pub fn threads(n: usize) -> Vec<Box<dyn ProcessGroup>> {
    threads_with_timeout(n, DEFAULT_TIMEOUT)
}

/// One group for each of `n` threads.
pub fn threads_with_timeout(n: usize, timeout: Duration) -> Vec<Box<dyn ProcessGroup>> {
    let round = Mutex::new(Round::new(n));
    let table = Arc::new(Table { round, changed: Condvar::new(), world_size: n, timeout });
    (0..n).map(|rank| Box::new(Seat { rank, table: Arc::clone(&table) }) as Box<dyn ProcessGroup>).collect()
}

struct Seat {
    rank: usize,
    table: Arc<Table>,
}

struct Table {
    round: Mutex<Round>,
    changed: Condvar,
    world_size: usize,
    timeout: Duration,
}

/// One collective: all ranks lay down a tensor, then all pick up everybody's.
struct Round {
    operations: Vec<Option<Operation>>,
    tensors: Vec<Option<Tensor>>,
    /// How many ranks have picked up, after all have laid down.
    picked: usize,
    full: bool,
    left: Vec<bool>,
    broken: Option<String>,
}

impl Round {
    fn new(n: usize) -> Round {
        let tensors = (0..n).map(|_| None).collect();
        Round { operations: vec![None; n], tensors, picked: 0, full: false, left: vec![false; n], broken: None }
    }

    fn missing(&self) -> Vec<String> {
        let absent = self.operations.iter().enumerate().filter(|(_, operation)| operation.is_none());
        let word = |rank: usize| if self.left[rank] { "has left" } else { "did not come" };
        absent.map(|(rank, _)| format!("rank {rank} {}", word(rank))).collect()
    }

    fn departed(&self) -> bool {
        self.operations.iter().zip(&self.left).any(|(operation, left)| *left && operation.is_none())
    }
}

impl Table {
    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `done`; if that fails, the group is broken.
    fn wait_until<'a>(
        &'a self, mut round: MutexGuard<'a, Round>, failure: &Failure, done: impl Fn(&Round) -> bool,
    ) -> Result<MutexGuard<'a, Round>> {
        loop {
            if let Some(verdict) = &round.broken {
                return Err(failure.error(verdict.clone(), "the group broke"));
            }
            if done(&round) {
                return Ok(round);
            }
            let late = failure.began.elapsed() >= self.timeout;
            if late || (!round.full && round.departed()) {
                let verdict = round.missing().join("; ");
                round.broken = Some(verdict.clone());
                self.changed.notify_all();
                return Err(failure.error(verdict, if late { "timed out" } else { "a thread has ended" }));
            }
            let most = self.timeout.saturating_sub(failure.began.elapsed());
            round = self.changed.wait_timeout(round, most).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Failure<'a> {
    rank: usize,
    operation: &'a Operation,
    began: Instant,
}

impl Failure<'_> {
    fn error(&self, verdict: String, cause: &str) -> Error {
        Error::PeerLost {
            rank: self.rank,
            operation: self.operation.to_string(),
            elapsed_secs: self.began.elapsed().as_secs_f64(),
            verdict,
            cause: cause.into(),
        }
    }
}

impl Seat {
    /// Gives a tensor and returns those of all ranks, by rank.
    fn exchange(&self, operation: Operation, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let failure = Failure { rank: self.rank, operation: &operation, began: Instant::now() };
        let table = &*self.table;
        let mut round = table.wait_until(table.round(), &failure, |round| !round.full)?;
        round.operations[self.rank] = Some(operation.clone());
        round.tensors[self.rank] = Some(tensor.detach().copy());
        round.full = round.operations.iter().all(Option::is_some);
        table.changed.notify_all();
        let mut round = table.wait_until(round, &failure, |round| round.full)?;
        let all = self.agree(&mut round, &failure)?;
        round.picked += 1;
        if round.picked == table.world_size {
            let left = std::mem::take(&mut round.left);
            *round = Round { left, ..Round::new(table.world_size) };
        }
        table.changed.notify_all();
        Ok(all)
    }

    /// All tensors, if all ranks made the same call.
    fn agree(&self, round: &mut Round, failure: &Failure<'_>) -> Result<Vec<Tensor>> {
        let calls: Vec<String> = round.operations.iter().flatten().map(Operation::to_string).collect();
        let same = round.operations.windows(2).all(|pair| pair[0] == pair[1]);
        if !same {
            let calls: Vec<String> = calls.iter().enumerate().map(|(r, call)| format!("rank {r}: {call}")).collect();
            let verdict = format!("the ranks called different operations or shapes ({})", calls.join(", "));
            round.broken = Some(verdict.clone());
            self.table.changed.notify_all();
            return Err(failure.error(verdict, "mismatch"));
        }
        Ok(round.tensors.iter().flatten().map(Tensor::shallow_clone).collect())
    }
}

/// Reduces in the order of ranks, so that every rank computes the same bits.
fn reduce(all: Vec<Tensor>, op: ReduceOp) -> std::result::Result<Tensor, tch::TchError> {
    let count = all.len() as f64;
    let mut tensors = all.into_iter();
    let mut total = tensors.next().expect("invariant: a world has a rank");
    for tensor in tensors {
        total = match op {
            ReduceOp::Sum | ReduceOp::Mean => total.f_add(&tensor)?,
            ReduceOp::Min => total.f_minimum(&tensor)?,
            ReduceOp::Max => total.f_maximum(&tensor)?,
        };
    }
    if op == ReduceOp::Mean {
        return total.f_div_scalar(count);
    }
    Ok(total)
}

impl ProcessGroup for Seat {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.table.world_size
    }

    /// Threads have nothing to overlap: the work is done when this returns.
    fn all_reduce_start(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        let operation = Operation::all_reduce(tensor, op)?;
        let refused = |e: tch::TchError| Error::refused(format!("all_reduce({})", op.name()), e.to_string());
        let total = reduce(self.exchange(operation, tensor)?, op).map_err(refused)?;
        overwrite(tensor, &total).map_err(refused)?;
        Ok(Work::new(|| Ok(())))
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        let operation = Operation::broadcast(tensor, root, self.table.world_size)?;
        let all = self.exchange(operation, tensor)?;
        overwrite(tensor, &all[root]).map_err(|e| Error::refused("broadcast", e.to_string()))
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let all = self.exchange(Operation::all_gather(tensor)?, tensor)?;
        Ok(all.iter().map(Tensor::copy).collect())
    }

    fn barrier(&self) -> Result<()> {
        let nothing = Tensor::zeros([0], (Kind::Float, Device::Cpu));
        self.exchange(Operation::barrier(), &nothing).map(drop)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.table.round().left[self.rank] = true;
        self.table.changed.notify_all();
    }
}
