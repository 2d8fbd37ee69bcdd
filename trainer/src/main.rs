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
mod pending;
mod plan;
mod progress;
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
mod weights_header;
mod words;
mod world;

use clap::Parser;

fn main() {
    let cli = cli::Cli::parse();
    let code = match job::run(&cli, &collective::rendezvous::process_env) {
        Ok(code) => code,
        Err(error) => {
            // One write, so that the lines of several ranks do not mix.
            let line = format!("error: {error:#}").replace('\n', " ") + "\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            failure::exit_code(&error)
        }
    };
    std::process::exit(code);
}
