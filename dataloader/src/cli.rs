//! The arguments of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Encodes the images of a recipe; a second run encodes only what changed.
    Shard {
        /// The recipe.
        #[arg(long)]
        config: PathBuf,
        /// Overrides a key, for example resolution=256 or source.path=photos.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
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

/// How log lines look.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}
