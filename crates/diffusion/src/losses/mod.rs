//! The terms of the joint objective, one file each.

pub mod alignment;
pub mod contrast;
pub mod denoising;
pub mod directional;
pub mod reconstruction;
