//! The diffusion process.

pub mod schedule;
