//! Process groups over libtorch's c10d: Gloo for CPU tensors, NCCL or Gloo for CUDA tensors.

mod join;
mod presence;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::Tensor;

use crate::cuda;
use crate::error::{Error, Result};
use crate::ffi::group::{self, Group, RawReduceOp};
use crate::ffi::store::Store;
use crate::ffi::Outcome;
use crate::group::{overwrite, Absent, ProcessGroup, ReduceOp, Work};
use crate::monitor::Monitor;
use crate::operation::Operation;
use crate::rendezvous::Rendezvous;
use presence::{Met, Presence};

/// How long a collective waits for its peers by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time-out of a collective: a frozen peer must be noticed while somebody is there to see it.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(100);

/// How much later than the first the last rank may begin, by default.
pub const DEFAULT_START: Duration = Duration::from_secs(600);
/// The longest that may be allowed.
pub const MAX_START: Duration = Duration::from_secs(24 * 3600);

/// Which library transfers the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// CPU tensors, and CUDA tensors through the host; ranks may share a GPU.
    Gloo,
    /// CUDA tensors between GPUs, one rank each; CPU tensors go through Gloo.
    Nccl,
}

/// Meets the other ranks and returns the group of all. Fails and names the missing ranks if they do not come in time.
pub fn connect(rendezvous: &Rendezvous, backend: Backend, timeout: Duration) -> Result<Box<dyn ProcessGroup>> {
    connect_within(rendezvous, backend, timeout, timeout)
}

/// As [`connect`], but the ranks may begin within `start` of one another; `timeout` is a collective's alone.
pub fn connect_within(
    rendezvous: &Rendezvous, backend: Backend, start: Duration, timeout: Duration,
) -> Result<Box<dyn ProcessGroup>> {
    check_timeout(timeout)?;
    check_start(start)?;
    let nccl = backend == Backend::Nccl;
    check_backend(nccl)?;
    let joined = join::join(rendezvous, start)?;
    let began = Instant::now();
    let place = (rendezvous.rank, rendezvous.world_size);
    let failed = |cause| Error::PeerLost {
        rank: rendezvous.rank,
        operation: format!("connecting {} ranks", rendezvous.world_size),
        elapsed_secs: began.elapsed().as_secs_f64(),
        verdict: "a peer died or froze at the start, or ranks cannot reach each other's addresses".into(),
        cause,
    };
    // Connections of their own, since a store's time-out is that of its opening.
    let store = || Store::connect(&rendezvous.host, rendezvous.port, timeout).map_err(failed);
    let others = store()?;
    let group = Group::open(&others, &joined.keys, nccl, place, timeout).map_err(failed)?;
    let monitor = Monitor::start(joined.seat(rendezvous, timeout), store()?).map_err(failed)?;
    let presence = Presence::new(store()?, joined.keys.clone(), place, timeout);
    // The process that hosts the store must not leave while others still connect.
    group.barrier().and_then(|work| work.wait()).map_err(failed)?;
    let watch = Arc::new(Watch { rank: rendezvous.rank, monitor, broken: Mutex::new(None) });
    let world_size = rendezvous.world_size;
    let stores = Some([joined.store, others]);
    Ok(Box::new(Members { watch, group: Some(group), stores, presence, world_size, nccl }))
}

fn check_timeout(timeout: Duration) -> Result<()> {
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        let problem =
            format!("a timeout of {} s is not within (0, {}] s", timeout.as_secs_f64(), MAX_TIMEOUT.as_secs());
        return Err(Error::refused("connect", problem));
    }
    Ok(())
}

fn check_start(start: Duration) -> Result<()> {
    if start.is_zero() || start > MAX_START {
        let problem = format!("a start within {} s is not within (0, {}] s", start.as_secs_f64(), MAX_START.as_secs());
        return Err(Error::refused("connect", problem));
    }
    Ok(())
}

fn check_backend(nccl: bool) -> Result<()> {
    let unavailable = |problem: String| Error::Unavailable { what: "NCCL", problem };
    if nccl {
        cuda::require().map_err(|e| unavailable(format!("{e}; without GPUs use Gloo")))?;
    }
    match group::missing_symbol(nccl) {
        Some(name) => Err(Error::refused("connect", format!("the libtorch loaded here is not 2.11: it lacks {name}"))),
        None => Ok(()),
    }
}

/// Fields are dropped in this order: the others are told that this rank leaves before its connections close.
struct Members {
    watch: Arc<Watch>,
    group: Option<Group>,
    /// Kept as long as the others may need them, since one rank hosts the store.
    stores: Option<[Store; 2]>,
    presence: Presence,
    world_size: usize,
    nccl: bool,
}

/// What outlives the call that starts an operation: the means to tell which rank made it fail.
struct Watch {
    rank: usize,
    monitor: Monitor,
    /// The first failure; every later call fails too.
    broken: Mutex<Option<String>>,
}

/// An operation that this rank has started.
struct Entered {
    operation: String,
    number: u64,
    began: Instant,
}

impl Watch {
    fn enter(&self, operation: &Operation) -> Result<Entered> {
        self.enter_as(operation.to_string())
    }

    fn enter_as(&self, operation: String) -> Result<Entered> {
        if let Some(failure) = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            let verdict = format!("the group broke before, in {failure}");
            let cause = "not tried".into();
            return Err(Error::PeerLost { rank: self.rank, operation, elapsed_secs: 0.0, verdict, cause });
        }
        let number = self.monitor.enter(&operation);
        Ok(Entered { operation, number, began: Instant::now() })
    }

    fn fail(&self, entered: Entered, cause: String) -> Error {
        let Entered { operation, number, began } = entered;
        let elapsed_secs = began.elapsed().as_secs_f64();
        let verdict = self.monitor.blame(number);
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert_with(|| format!("{operation}: {verdict}"));
        let operation = format!("{operation} (operation {number})");
        Error::PeerLost { rank: self.rank, operation, elapsed_secs, verdict, cause }
    }

    fn is_broken(&self) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Members {
    /// Starts an operation and returns the handle that waits for it.
    fn start(
        &self, operation: Operation, start: impl FnOnce(&Group) -> Outcome<group::Work>,
    ) -> Result<impl FnOnce() -> Result<()> + Send + 'static> {
        let entered = self.watch.enter(&operation)?;
        let group = self.group.as_ref().expect("invariant: the group is there until it is dropped");
        let work = match start(group) {
            Ok(work) => work,
            // NCCL connects to its peers in the first call; Gloo only refuses what it cannot do.
            Err(cause) if self.nccl => return Err(self.watch.fail(entered, cause)),
            Err(cause) => return Err(Error::refused(operation, cause)),
        };
        let watch = Arc::clone(&self.watch);
        Ok(move || work.wait().map_err(|cause| watch.fail(entered, cause)))
    }
}

impl ProcessGroup for Members {
    fn rank(&self) -> usize {
        self.watch.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce_start(&self, tensor: &Tensor, op: ReduceOp) -> Result<Work> {
        let operation = Operation::all_reduce(tensor, op)?;
        let refused = move |e: tch::TchError| Error::refused(format!("all_reduce({})", op.name()), e.to_string());
        let raw_op = match op {
            ReduceOp::Sum | ReduceOp::Mean => RawReduceOp::Sum,
            ReduceOp::Min => RawReduceOp::Min,
            ReduceOp::Max => RawReduceOp::Max,
        };
        let target = tensor.shallow_clone();
        // The tensor itself if it is contiguous, otherwise a copy.
        let dense = tensor.detach().contiguous();
        let wait = self.start(operation, |group| group.all_reduce(&dense, raw_op))?;
        let divisor = self.world_size as f64;
        Ok(Work::new(move || {
            wait()?;
            if op == ReduceOp::Mean {
                let _ = dense.shallow_clone().f_div_scalar_(divisor).map_err(refused)?;
            }
            if target.is_contiguous() {
                return Ok(());
            }
            overwrite(&target, &dense).map_err(refused)
        }))
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        let operation = Operation::broadcast(tensor, root, self.world_size)?;
        let dense = tensor.detach().contiguous();
        self.start(operation, |group| group.broadcast(&dense, root))?()?;
        if tensor.is_contiguous() {
            return Ok(());
        }
        overwrite(tensor, &dense).map_err(|e| Error::refused("broadcast", e.to_string()))
    }

    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let operation = Operation::all_gather(tensor)?;
        let dense = tensor.detach().contiguous();
        let outputs: Vec<Tensor> = (0..self.world_size).map(|_| dense.empty_like()).collect();
        self.start(operation, |group| group.all_gather(&outputs, &dense))?()?;
        Ok(outputs)
    }

    fn barrier(&self) -> Result<()> {
        self.start(Operation::barrier(), Group::barrier)?()
    }

    fn meet(&self, limit: Duration) -> Result<()> {
        let entered = self.watch.enter_as("a meeting".into())?;
        match self.presence.meet(limit) {
            Ok(Met::All) => Ok(()),
            Ok(Met::Without(whom)) => Err(self.watch.fail(entered, whom)),
            Err(cause) => Err(self.watch.fail(entered, cause)),
        }
    }

    fn absent(&self) -> Result<Vec<Absent>> {
        self.presence.absent().map_err(|cause| {
            let entered = Entered { operation: "looking for the others".into(), number: 0, began: Instant::now() };
            self.watch.fail(entered, cause)
        })
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        if self.watch.is_broken() {
            // Closing would wait for operations that never end, and others may still read the findings in the store.
            std::mem::forget(self.group.take());
            std::mem::forget(self.stores.take());
        }
    }
}
