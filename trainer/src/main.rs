//! `trainer`: joint, distributed training of emotion tokens and h-space delta.

mod checkpoint;
mod cli;
mod config;
mod contexts;
mod cost;
mod data;
mod direction;
mod ema;
mod embedding;
mod estimate;
mod events;
mod export;
mod failure;
mod gradients;
mod ground;
mod hparams;
mod inverting;
mod job;
mod loss_scale;
mod lr;
mod measured;
mod metrics;
mod models;
mod objective;
mod optimizer;
mod output_folder;
mod pending;
mod plan;
mod prometheus;
mod recorder;
mod references;
mod resolved;
mod resume;
mod samples;
mod sharing;
mod signals;
mod state;
mod step;
mod steps;
mod switch;
mod tensor_file;
mod threshold;
mod training;
mod trajectories;
mod trajectory_file;
mod units;
mod validation_tags;
mod verdict;
mod visits;
mod words;
mod world;

use clap::Parser;
use program::{arguments, output};

collective::openmp_spins_briefly!();

fn main() {
    let cli = cli::Cli::parse_from(arguments::expanded(std::env::args_os(), std::env::var_os("HOME").as_deref()));
    let code = match job::run(&cli, &collective::rendezvous::process_env) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            failure::exit_code(&error)
        }
    };
    std::process::exit(code);
}
