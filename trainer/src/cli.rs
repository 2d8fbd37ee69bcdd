//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use collective::rendezvous::Processes;
use program::LogFormat;

use crate::estimate::link::Link;

/// Trains an emotion: tokens and h-space delta, jointly, on one process or many.
#[derive(Clone, Debug, Parser)]
#[command(name = "trainer", version, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// A command other than training.
    #[command(subcommand)]
    pub instead: Option<Instead>,
    /// What to train.
    #[command(flatten)]
    pub train: Option<Train>,
}

/// What else the program does.
#[derive(Clone, Debug, Subcommand)]
pub enum Instead {
    /// Print parameters, FLOP and memory of a recipe, from the models' folders alone: no data, nothing loaded.
    Estimate(Estimate),
    /// Print the recipe's JSON schema, for editors: `# yaml-language-server: $schema=…` completes and checks keys.
    Schema,
}

/// A recipe and what it is computed for.
#[derive(Clone, Debug, Args)]
pub struct Estimate {
    /// The recipe.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Sets a key of the recipe; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Side of the images in pixels; by default the size that the UNet was trained at.
    #[arg(long, value_name = "PIXELS")]
    pub resolution: Option<u32>,
    /// Predict a step of this many processes, such as 8,64. Needs --link.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', requires = "link")]
    pub gpus: Vec<usize>,
    /// The slowest link between neighbouring processes: bandwidth one way, and latency of a message, such as
    /// 25GB/s,5us.
    #[arg(long, value_name = "BANDWIDTH,LATENCY", requires = "gpus")]
    pub link: Option<Link>,
    /// Seconds that one process alone takes for a step, as measured; by default the floor at watch.peak_tflops.
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub step_secs: Option<f64>,
    /// Fetch nothing from the hub.
    #[arg(long)]
    pub offline: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| format!("{text:?} is no number above 0"))
}

/// A training.
#[derive(Clone, Debug, Args)]
pub struct Train {
    /// The recipe.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Sets a key of the recipe; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Start this many processes here, or one for each GPU. Not under torchrun or Slurm, which start them themselves.
    #[arg(long, value_name = "N|gpu")]
    pub nproc_per_node: Option<Processes>,
    /// When a process fails, restart all from the newest good checkpoint, at most this often. On one machine.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_restarts: u32,
    /// Resume from the newest good checkpoint, from this one, or from none; overrides
    /// checkpoint.resume_from_checkpoint.
    #[arg(long, value_name = "latest|PATH|none", overrides_with = "resume")]
    pub resume: Option<String>,
    /// Check everything, print the plan, train nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Seconds between two lines of progress when there is no terminal.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = program::progress::seconds)]
    pub progress_every: Duration,
    /// Fetch nothing from the hub.
    #[arg(long)]
    pub offline: bool,
}

const EXAMPLES: &str = "Examples:
  trainer --config configs/pocket/sadness.yaml --nproc-per-node 2
  trainer --config configs/awe.yaml --nproc-per-node gpu --set train.max_train_steps=500
  trainer --config configs/awe.yaml --dry-run
  trainer estimate --config configs/awe.yaml
  trainer estimate --config configs/multi-node.yaml --gpus 8,64 --link 25GB/s,5us
  torchrun --no-python --nproc-per-node 8 trainer --config configs/awe.yaml

Exit codes: 0 done; 1 failed; 2 bad configuration, arguments or input files; 75 stopped by a
signal, run again to go on.";
