//! The command line of `editor serve`, and its limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use program::LogFormat;

use crate::args::DeviceName;

/// A page in the browser on which people edit photos with trained runs, and the JSON interface that the page uses.
#[derive(Clone, Debug, Parser)]
#[command(name = "editor serve", bin_name = "editor serve", version)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Trained runs' folders. Runs of the same base model share its weights.
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    pub run: Vec<PathBuf>,
    /// Where to listen; port 0 takes a free one. The address is printed. Anything but a loopback address needs --token.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Who may come in: whoever opens /?token=TOKEN, or sends `Authorization: Bearer TOKEN`.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// A name by which browsers may call this server, beside localhost and addresses; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// The base model's folder or hub id, if it is not the one in the runs' settings; its weights must be the same.
    #[arg(long, value_name = "PATH|ID")]
    pub model: Option<String>,
    /// cpu, cuda or cuda:N; by default cuda if there is one.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    /// What people may use.
    #[command(flatten)]
    pub limits: Limits,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Fetch no model from the hub. Once the page is up, nothing is fetched in any case.
    #[arg(long)]
    pub offline: bool,
}

/// What people may use. Whoever asks for more is told so and may come again.
#[derive(Clone, Debug, Parser)]
pub struct Limits {
    /// The largest file that may be sent, in bytes.
    #[arg(long, value_name = "N", default_value = "33554432", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_bytes: u64,
    /// The largest photo, in pixels.
    #[arg(long, value_name = "N", default_value = "40000000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=diffusion::images::MAX_PIXELS))]
    pub max_pixels: u64,
    /// How many sessions may have photos here at once.
    #[arg(long, value_name = "N", default_value = "64", value_parser = at_least_1)]
    pub max_sessions: usize,
    /// How many photos a session may have here at once.
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_1)]
    pub max_photos: usize,
    /// Megabytes for photos, inversions and pictures on their way, together, beside the model.
    #[arg(long, value_name = "MB", default_value = "2048", value_parser = clap::value_parser!(u64).range(16..))]
    pub max_memory: u64,
    /// How many requests may wait for the model.
    #[arg(long, value_name = "N", default_value = "32", value_parser = at_least_1)]
    pub max_queue: usize,
    /// After how many minutes without a request for it a photo is forgotten.
    #[arg(long, value_name = "MINUTES", default_value = "30", value_parser = minutes)]
    pub keep_minutes: Duration,
    /// How many seconds a request may take, its wait included.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = program::progress::seconds)]
    pub time_limit: Duration,
}

const EXAMPLES: &str = "Examples:
  editor serve --run runs/awe
  editor serve --run runs/awe runs/fear --bind 127.0.0.1:9000 --keep-minutes 10
  editor serve --run runs/all --bind 0.0.0.0:8080 --token SECRET --host photos.example.org

Photos are kept in memory only. Ctrl-C ends the server.
Exit codes: 0 ended by a signal; 1 failed; 2 bad arguments or runs.";

fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is not a whole number above 0")),
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e6 => Ok(Duration::from_secs_f64(60.0 * number)),
        _ => Err(format!("{text:?} is not a number of minutes above 0")),
    }
}
