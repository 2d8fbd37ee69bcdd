//! What every program here needs around its work: a log, progress, an output that may be closed early, and arguments.
//!
//! It knows nothing of models or data, and reads no environment.

pub mod arguments;
pub mod log;
pub mod output;
pub mod progress;

pub use log::LogFormat;
pub use progress::Progress;
