//! The progress of long work: a bar on a terminal, otherwise a log line at intervals with the rate and the time left.
//!
//! A thread of its own prints the lines by the clock, independent of the work, so work that stands still is seen to
//! do so.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Milliseconds between two lines, unless [`set_interval`] says otherwise.
static INTERVAL_MS: AtomicU64 = AtomicU64::new(15_000);

/// Sets how often a line is printed when there is no terminal, for work that begins later.
pub fn set_interval(every: Duration) {
    INTERVAL_MS.store(every.as_millis() as u64, Ordering::Relaxed);
}

/// An argument in seconds, for clap.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e6 => Ok(Duration::from_secs_f64(number)),
        _ => Err(format!("{text:?} is not a number of seconds above 0")),
    }
}

/// The bars on the terminal.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// A piece of work. Any thread may count; dropping it ends the display.
#[derive(Debug)]
pub struct Progress {
    count: Arc<Count>,
    bar: Option<ProgressBar>,
    lines: Option<Lines>,
}

/// How far the work is.
#[derive(Debug)]
struct Count {
    what: String,
    unit: &'static str,
    /// None if the total is not known.
    total: Option<u64>,
    first: u64,
    done: AtomicU64,
    message: Mutex<String>,
    begun: Instant,
}

/// The thread that prints lines.
#[derive(Debug)]
struct Lines {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    printed: Arc<AtomicBool>,
}

impl Progress {
    /// Work of `total` units. It is only displayed if it is `shown`, for example by one of several processes.
    pub fn new(what: impl Into<String>, unit: &'static str, total: u64, shown: bool) -> Self {
        Self::from(what, unit, 0, total, shown)
    }

    /// Work of `total` units of which `first` were done before.
    pub fn from(what: impl Into<String>, unit: &'static str, first: u64, total: u64, shown: bool) -> Self {
        Self::start(Count::new(what.into(), unit, first, Some(total)), shown)
    }

    /// Work of unknown size; the display shows how long it has been going on.
    pub fn unbounded(what: impl Into<String>, shown: bool) -> Self {
        Self::start(Count::new(what.into(), "", 0, None), shown)
    }

    fn start(count: Count, shown: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let interval = Duration::from_millis(INTERVAL_MS.load(Ordering::Relaxed));
        let count = Arc::new(count);
        let bar = (shown && terminal).then(|| bar(&count));
        let lines = (shown && !terminal).then(|| Lines::start(count.clone(), interval)).flatten();
        Self { count, bar, lines }
    }

    /// Counts `units` more as done.
    pub fn inc(&self, units: u64) {
        self.set(self.count.done.fetch_add(units, Ordering::Relaxed) + units);
    }

    /// Sets the number of units done.
    pub fn set(&self, done: u64) {
        self.count.done.store(done, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// A text beside the count, such as the newest loss.
    pub fn say(&self, message: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{message} {}", self.count.speed()));
        }
        *self.count.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    /// Units per second, over those done since the beginning.
    pub fn per_second(&self) -> f64 {
        self.count.per_second()
    }

    /// Units that are left.
    pub fn left(&self) -> u64 {
        self.count.left()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            bars().remove(bar);
        }
        if let Some(lines) = self.lines.take() {
            lines.end(&self.count);
        }
    }
}

fn bar(count: &Count) -> ProgressBar {
    let (template, bar) = match count.total {
        Some(total) => ("{prefix} {wide_bar} {pos}/{len} {msg} {per_sec} eta {eta}", ProgressBar::new(total)),
        None => ("{spinner} {prefix} {msg} {elapsed}", ProgressBar::new_spinner()),
    };
    let bar = bars().add(bar);
    bar.set_style(ProgressStyle::with_template(template).expect("invariant: the template is constant"));
    bar.set_prefix(count.what.clone());
    bar.set_position(count.first);
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

impl Lines {
    /// None if the system cannot start another thread; the work goes on without lines.
    fn start(count: Arc<Count>, interval: Duration) -> Option<Self> {
        let (stop, stopped) = channel();
        let printed = Arc::new(AtomicBool::new(false));
        let noted = printed.clone();
        // A subscriber other than the global one, as in tests, belongs to the starting thread.
        let log = tracing::dispatcher::get_default(Clone::clone);
        let work = move || {
            tracing::dispatcher::with_default(&log, || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
                    noted.store(true, Ordering::Relaxed);
                    tracing::info!("{}", count.describe());
                }
            });
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(work).ok()?;
        Some(Self { stop, thread, printed })
    }

    /// Work that took long enough for a line also logs that it is done.
    fn end(self, count: &Count) {
        drop(self.stop);
        let _ = self.thread.join();
        if self.printed.load(Ordering::Relaxed) {
            tracing::info!("{}", count.describe_end());
        }
    }
}

impl Count {
    fn new(what: String, unit: &'static str, first: u64, total: Option<u64>) -> Self {
        let done = AtomicU64::new(first);
        Self { what, unit, total, first, done, message: Mutex::default(), begun: Instant::now() }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn left(&self) -> u64 {
        self.total.map_or(0, |total| total.saturating_sub(self.done()))
    }

    fn per_second(&self) -> f64 {
        self.done().saturating_sub(self.first) as f64 / self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    fn speed(&self) -> String {
        format!("{:.2} {}/s", self.per_second(), self.unit)
    }

    fn describe(&self) -> String {
        let message = self.message.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = if message.is_empty() { message } else { format!(" {message}") };
        let elapsed = clock(self.begun.elapsed().as_secs_f64());
        match self.total {
            None => format!("{}{message}, for {elapsed} so far", self.what),
            Some(total) => {
                let (rate, left) = (self.per_second(), self.left() as f64);
                let left = if rate > 0.0 { clock(left / rate) } else { "an unknown time".into() };
                format!("{} {}/{total}{message} {}, {left} left", self.what, self.done(), self.speed())
            }
        }
    }

    fn describe_end(&self) -> String {
        let elapsed = clock(self.begun.elapsed().as_secs_f64());
        match self.total {
            None => format!("{}: ended after {elapsed}", self.what),
            Some(total) => format!("{} {}/{total}, ended after {elapsed}, {}", self.what, self.done(), self.speed()),
        }
    }
}

/// Seconds as h:mm:ss.
pub fn clock(seconds: f64) -> String {
    let s = seconds.round().clamp(0.0, 3.6e9) as u64;
    format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// What a subscriber wrote.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(work: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let log =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).without_time().finish();
        tracing::subscriber::with_default(log, work);
        let bytes = written.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_string).collect()
    }

    fn shown(count: Count, interval: Duration) -> Progress {
        let count = Arc::new(count);
        Progress { bar: None, lines: Lines::start(count.clone(), interval), count }
    }

    #[test]
    fn lines_come_by_the_clock_with_count_rate_and_time_left_and_the_end_is_told() {
        let lines = lines_of(|| {
            let progress = shown(Count::new("encoding".into(), "images", 10, Some(20)), Duration::from_millis(5));
            progress.inc(5);
            progress.say("loss 0.5".into());
            std::thread::sleep(Duration::from_millis(200)); // nothing is counted, and lines come all the same
            assert_eq!(progress.left(), 5);
        });
        assert!(lines.len() >= 3, "{lines:?}");
        let first = lines.iter().find(|line| line.contains("loss 0.5")).expect("said");
        assert!(first.contains("encoding 15/20 loss 0.5") && first.contains("images/s"), "{first}");
        assert!(first.contains("left"), "{first}");
        let last = lines.last().expect("a line");
        assert!(last.contains("encoding 15/20, ended after 0:00:0"), "{last}");
    }

    #[test]
    fn work_without_a_known_end_says_how_long_it_goes_on_and_short_work_says_nothing() {
        let unbounded = || Count::new("reading the model".into(), "", 0, None);
        let lines = lines_of(|| {
            let _progress = shown(unbounded(), Duration::from_millis(5));
            std::thread::sleep(Duration::from_millis(100));
        });
        assert!(lines[0].contains("reading the model, for 0:00:00 so far"), "{lines:?}");
        assert!(lines_of(|| drop(shown(unbounded(), Duration::from_secs(60)))).is_empty());
    }

    #[test]
    fn seconds_are_above_zero() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "-1", "x", "nan", "inf"].iter().all(|text| seconds(text).is_err()));
        assert_eq!(clock(3723.4), "1:02:03");
    }
}
