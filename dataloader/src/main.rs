//! The command line of dataloader.

mod cli;
mod command;

use std::process::ExitCode;

use clap::Parser;
use collective::rendezvous::process_env;
use program::{arguments, log, output, progress};

use crate::cli::Cli;

collective::openmp_spins_briefly!();

fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments::expanded(std::env::args_os(), std::env::var_os("HOME").as_deref()));
    log::start(cli.log_format, process_env("RUST_LOG"), true);
    progress::set_interval(cli.progress_every);
    if !matches!(cli.command, cli::Command::Verify { .. }) {
        hashes::remember(process_env); // verifying means to read everything
    }
    match command::run(cli.command, &process_env) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::complain(&format!("error: {error}"));
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}
