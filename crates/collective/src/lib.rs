//! Process groups over libtorch's c10d, and what else the joint training of several processes needs:
//!
//! - [`ProcessGroup`], the collectives, implemented by c10d's Gloo and NCCL ([`connect`]), by the threads of one process
//!   ([`threads`]) and by a world of one ([`single`]); tests/suite/collective.rs runs one contract on all of them;
//! - [`Rendezvous`], who and where this process is, from the variables of torchrun, Kubeflow, Slurm or [`launch`];
//! - [`launch`], the spawn of one process a device, under supervision;
//! - [`FolderLock`], which keeps a second program out of an output folder;
//! - [`DeviceChoice`] and [`share_cores`], where each process computes;
//! - [`openmp_spins_briefly!`], how libtorch's threads wait for one another;
//! - [`autocast`], [`tf32`], [`deterministic`] and [`cuda`], the switches of libtorch that tch lacks.
//!
//! From two ranks to a sum; here they are threads, and [`connect`] gives the same trait over processes:
//!
//! ```
//! use collective::{threads, ReduceOp};
//! use tch::{Device, Kind, Tensor};
//!
//! let ranks = threads(2).into_iter().map(|group| {
//!     std::thread::spawn(move || {
//!         let numbers = Tensor::full([3], group.rank() as i64 + 1, (Kind::Float, Device::Cpu));
//!         group.all_reduce(&numbers, ReduceOp::Sum)?;
//!         Ok::<_, collective::Error>(numbers)
//!     })
//! });
//! for rank in ranks.collect::<Vec<_>>() {
//!     let sum = rank.join().expect("no rank panics")?;
//!     assert_eq!(Vec::<f32>::try_from(&sum)?, [3.0; 3]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A peer that is gone becomes an [`Error::PeerLost`] with the rank, the operation and, as far as its heartbeats tell,
//! the culprit. This crate knows nothing of models, and it alone holds unsafe code, each block with its reason.

mod autocast;
mod c10d;
pub mod cuda;
mod error;
mod ffi;
mod group;
mod in_process;
pub mod launch;
mod lock;
mod monitor;
mod numerics;
pub mod openmp;
mod operation;
mod placement;
pub mod rendezvous;
mod single;

pub use autocast::{autocast, without_autocast};
pub use c10d::{connect, connect_within, Backend, DEFAULT_START, DEFAULT_TIMEOUT, MAX_START, MAX_TIMEOUT};
pub use error::{Error, Result};
pub use group::{Absent, ProcessGroup, ReduceOp, Work};
pub use in_process::{threads, threads_with_timeout};
pub use lock::{FolderLock, LockError};
pub use numerics::{deterministic, tf32};
pub use placement::{share_cores, DeviceChoice, MixedPrecision};
pub use rendezvous::{Node, Processes, Rendezvous};
pub use single::single;
