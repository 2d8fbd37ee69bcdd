//! `editor`: one photo in, the same photo carrying an emotion out.

mod args;
mod failure;
mod job;
mod label;
mod sheet;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use diffusion::hub::Hub;

use args::{Args, LogFormat};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::of_arguments(&error),
    };
    start_log(args.log_format);
    match job::run(&args, &hub(args.offline)) {
        Ok(written) => {
            written.iter().for_each(|path| println!("{}", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => failure::of_job(&error),
    }
}

/// Where Python keeps models from the hub (HF_HOME, else ~/.cache/huggingface), and whether it may fetch.
fn hub(offline: bool) -> Hub {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let user = || PathBuf::from(set("HOME").unwrap_or_default()).join(".cache/huggingface");
    let offline = offline || set("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    Hub { home: set("HF_HOME").map_or_else(user, PathBuf::from), offline }
}

fn start_log(format: LogFormat) {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
    match format {
        LogFormat::Text => log.without_time().init(),
        LogFormat::Json => log.json().init(),
    }
}
