//! From gradients to moved parameters.

pub mod ema;
pub mod gradients;
pub mod loss_scale;
pub mod lr;
pub mod optimizer;
