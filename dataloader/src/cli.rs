//! The arguments of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use collective::Processes;
use program::LogFormat;

/// Images to Parquet shards of VAE latents.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
#[command(after_help = "Example: dataloader shard --config configs/data/pocket.yaml")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Seconds between two lines of progress when there is no terminal.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "15", value_parser = program::progress::seconds)]
    pub progress_every: Duration,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Encodes the images of a recipe; a second run encodes only what changed.
    Shard {
        /// The recipe.
        #[arg(long)]
        config: PathBuf,
        /// Sets a key of the recipe, for example resolution=256 or source.path=photos.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Counts what the source lists, by label, emotion and split, and encodes nothing.
        #[arg(long)]
        dry_run: bool,
        /// Shares the work among this many processes here, or one for each GPU. Not under torchrun or Slurm, which
        /// start them.
        #[arg(long, value_name = "N|gpu")]
        nproc_per_node: Option<Processes>,
    },
    /// Inverts a data set's images by DDIM: trajectories that every run on the same weights can share.
    #[command(after_help = "Example: dataloader invert --config configs/data/pocket-inversions.yaml")]
    Invert {
        /// The recipe.
        #[arg(long)]
        config: PathBuf,
        /// Sets a key of the recipe, for example num_inversion_steps=50.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Shares the work among this many processes here, or one for each GPU. Not under torchrun or Slurm, which
        /// start them.
        #[arg(long, value_name = "N|gpu")]
        nproc_per_node: Option<Processes>,
    },
    /// Downloads the images that a data set publishes as URLs; a second run fetches only the missing ones.
    Fetch {
        /// Which data set.
        #[command(subcommand)]
        dataset: Fetchable,
    },
    /// Hashes every shard and decodes every row.
    Verify {
        /// Folder or URL of the data set.
        dir: String,
    },
    /// Prints what a data set holds.
    Inspect {
        /// Folder or URL of the data set.
        dir: String,
        /// Prints this row; may be repeated.
        #[arg(long)]
        row: Vec<usize>,
    },
}

/// Data sets of URLs.
#[derive(Subcommand)]
pub enum Fetchable {
    /// FindingEmo: the URL list of PyPI's findingemo-light.
    #[command(
        after_help = "Example: dataloader fetch findingemo --package data/findingemo/findingemo_light --output \
                            data/findingemo/images"
    )]
    Findingemo(FetchArgs),
}

/// Where to write, and how to treat the servers.
#[derive(Args)]
pub struct FetchArgs {
    /// The unpacked package, which holds data/dataset_urls_exploded.json.
    #[arg(long)]
    pub package: PathBuf,
    /// The folder for the images and fetch-report.jsonl.
    #[arg(long)]
    pub output: PathBuf,
    /// How many requests run at once; each host gets one at a time.
    #[arg(long, default_value_t = 16)]
    pub concurrency: usize,
    /// Milliseconds between two requests to one host.
    #[arg(long, default_value_t = 500)]
    pub pause_ms: u64,
    /// Seconds to find a server's address, and to connect to it.
    #[arg(long, default_value_t = 20)]
    pub timeout_s: u64,
    /// Seconds for a whole request, with its redirects and its body.
    #[arg(long, default_value_t = 120)]
    pub deadline_s: u64,
    /// Lets URLs and redirects lead into private networks and to this machine, as for a mirror of one's own.
    #[arg(long)]
    pub allow_private_addresses: bool,
    /// Attempts at a URL that fails for a temporary reason.
    #[arg(long, default_value_t = 3)]
    pub attempts: u32,
    /// Tries again what an earlier run reported as dead.
    #[arg(long)]
    pub retry_dead: bool,
}
