//! The diffusion process: schedule, DDIM and its inversion, the asymmetric edit, and where the edit begins.

pub mod asyrp;
pub mod ddim;
pub mod mask;
pub mod schedule;
pub mod thresholds;
