//! Rank 0's progress: a bar on a terminal, plain log lines elsewhere; and log lines that do not tear the bar.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Standard error, with the bars taken away while a line is printed.
#[derive(Clone, Copy, Debug)]
pub struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        bars().suspend(|| std::io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = BesideBars;

    fn make_writer(&'a self) -> BesideBars {
        BesideBars
    }
}

/// Starts logging: one line an event on standard error. `filter` is as RUST_LOG is written; rank 0 logs from info on,
/// the others from warn on.
pub fn start_logging(format: LogFormat, filter: Option<String>, rank: usize) {
    let default = if rank == 0 { "info" } else { "warn" };
    let filter = EnvFilter::new(filter.unwrap_or_else(|| default.into()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BesideBars).with_target(false);
    let ansi = std::io::stderr().is_terminal();
    // A second start, in tests, keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(ansi).compact().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// The progress of one piece of work.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    unit: &'static str,
    total: u64,
    done: u64,
    first: u64,
    begun: Instant,
    printed: Instant,
    visible: bool,
}

impl Progress {
    /// Work of `total` units, `first` of them already done; shown by rank 0 alone.
    pub fn new(what: &str, unit: &'static str, first: u64, total: u64, visible: bool) -> Self {
        let bar = (visible && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} {msg} eta {eta}");
            let bar = bars().add(ProgressBar::new(total));
            bar.set_style(style.expect("the template is valid"));
            bar.set_prefix(what.to_string());
            bar.set_position(first);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        Self { bar, what: what.into(), unit, total, done: first, first, begun: now, printed: now, visible }
    }

    /// `done` units are done; `message` goes beside the rate.
    pub fn set(&mut self, done: u64, message: &str) {
        self.done = done;
        if !self.visible {
            return;
        }
        let rate = (done - self.first) as f64 / self.begun.elapsed().as_secs_f64().max(1e-9);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!("{message} {rate:.2} {}/s", self.unit));
        } else if self.printed.elapsed() >= LINE_EVERY || done == self.total {
            self.printed = Instant::now();
            let left = (self.total - done) as f64 / rate.max(1e-9);
            let (what, total, unit) = (&self.what, self.total, self.unit);
            tracing::info!("{what} {done}/{total} {message} {rate:.2} {unit}/s, {} left", clock(left));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            bars().remove(bar);
        }
    }
}

/// Seconds as h:mm:ss.
pub fn clock(seconds: f64) -> String {
    let s = seconds.round().clamp(0.0, 3.6e9) as u64;
    format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}
