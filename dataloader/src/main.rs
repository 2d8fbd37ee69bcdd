//! The command line of dataloader.

mod cli;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dataloader::config::ShardConfig;
use dataloader::{inspect, recipe, shard, verify, Result};
use diffusion::hub::Hub;

use crate::cli::{Cli, Command, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log_format);
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Shard { config, sets } => {
            let config: ShardConfig = recipe::load(&config, &sets)?;
            let summary = shard::run(&config, &hub())?;
            println!("{}", summary.describe(&config.output));
        }
        Command::Verify { dir } => {
            let verdict = verify::verify(&dir, |line| println!("{line}"))?;
            println!("{}", verdict.describe());
            return Ok(ExitCode::from(if verdict.is_sound() { 0 } else { 2 }));
        }
        Command::Inspect { dir, row } => print!("{}", inspect::inspect(&dir, &row)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// The Hugging Face cache, where Python keeps it too.
fn hub() -> Hub {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let user = || PathBuf::from(set("HOME").unwrap_or_default()).join(".cache/huggingface");
    let offline = set("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    Hub { home: set("HF_HOME").map_or_else(user, PathBuf::from), offline }
}

fn start_log(format: LogFormat) {
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
