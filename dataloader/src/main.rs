//! The command line of dataloader.

mod cli;
mod command;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use collective::rendezvous::process_env;

use crate::cli::{Cli, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log_format);
    match command::run(cli.command, &process_env) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

fn start_log(format: LogFormat) {
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
