//! Held-out sources, edited and measured while a run goes on.

pub mod metrics;
pub mod samples;
pub mod tags;
