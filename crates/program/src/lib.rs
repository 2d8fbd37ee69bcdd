//! What every program here needs around its work: a log, progress, an output that may be closed early, arguments, and
//! signals that ask for an end.
//!
//! It knows nothing of models or data, and reads no environment.

pub mod arguments;
pub mod log;
pub mod output;
pub mod progress;
pub mod stop;

pub use log::LogFormat;
pub use progress::Progress;
pub use stop::Stop;
