//! `trainer`: joint, distributed training of emotion tokens and h-space delta.

mod checkpoint;
mod cli;
mod config;
mod data;
mod estimate;
mod failure;
mod job;
mod logging;
mod objective;
mod optim;
mod precompute;
mod run;
mod step;
mod validation;

use clap::Parser;
use program::{arguments, output};

collective::openmp_spins_briefly!();

fn main() {
    let cli = cli::Cli::parse_from(arguments::expanded(std::env::args_os(), std::env::var_os("HOME").as_deref()));
    hashes::remember(collective::rendezvous::process_env);
    let code = match job::run(&cli, &collective::rendezvous::process_env) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            failure::exit_code(&error)
        }
    };
    std::process::exit(code);
}
