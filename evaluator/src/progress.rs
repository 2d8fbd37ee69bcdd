//! A bar with rate and time left on a terminal; a log line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Counts edits.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    logged: Instant,
    log: bool,
}

impl Progress {
    /// Starts at 0 of `total` edits; says nothing unless `shown`.
    pub fn new(total: usize, shown: bool) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} edits  {per_sec}  {eta} left")
            .expect("the template is valid");
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target).with_style(style);
        Self { bar, logged: Instant::now(), log: shown && !std::io::stderr().is_terminal() }
    }

    /// Counts `edits` more.
    pub fn advance(&mut self, edits: usize) {
        self.bar.inc(edits as u64);
        if self.log && self.logged.elapsed() >= LOG_EVERY {
            self.logged = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let elapsed = self.bar.elapsed().as_secs_f64();
            let rate = done as f64 / elapsed.max(1e-9);
            let eta_secs = ((total - done) as f64 / rate.max(1e-9)).round();
            tracing::info!("evaluating {done}/{total} edits {rate:.2} edits/s, {eta_secs} s left");
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
