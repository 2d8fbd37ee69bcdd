//! The log: one line for each event on standard error, without breaking progress bars.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::EnvFilter;

use crate::progress::bars;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Starts the log. `filter` has the syntax of RUST_LOG; without it, the first of several processes logs from info on,
/// the others from warn on. A second start changes nothing.
pub fn start(format: LogFormat, filter: Option<String>, is_first: bool) {
    let default = if is_first { "info" } else { "warn" };
    let filter = EnvFilter::new(filter.unwrap_or_else(|| default.into()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BesideBars).with_target(false);
    let ansi = std::io::stderr().is_terminal();
    let _ = match format {
        LogFormat::Text => builder.with_ansi(ansi).compact().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Standard error; bars are hidden while a line is printed, and passwords and signatures in URLs are masked. A line
/// that nobody reads any more is no error: the subscriber would report it on the same closed stream, and panic.
#[derive(Clone, Copy, Debug)]
struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = recipe::secrets::masked(&text);
        let _ = bars().suspend(|| std::io::stderr().write_all(line.as_bytes()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = BesideBars;

    fn make_writer(&'a self) -> BesideBars {
        BesideBars
    }
}
