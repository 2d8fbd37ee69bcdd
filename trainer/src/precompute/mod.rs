//! What is computed once, before the first step, and shared by every run on the same weights.

pub mod inversions;
pub mod references;
pub mod thresholds;
mod workers;
