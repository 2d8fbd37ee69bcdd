//! `editor`: one photo in, the same photo carrying an emotion out.

mod args;
mod failure;
mod job;
mod label;
mod sheet;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use diffusion::hub::Hub;

use args::Args;
use program::{arguments, log, output, progress};

collective::openmp_spins_briefly!();

fn main() -> ExitCode {
    let given = arguments::expanded(std::env::args_os(), std::env::var_os("HOME").as_deref());
    let args = match Args::try_parse_from(given) {
        Ok(args) => args,
        Err(error) => return failure::of_arguments(&error),
    };
    log::start(args.log_format, std::env::var("RUST_LOG").ok(), true);
    progress::set_interval(args.progress_every);
    match job::run(&args, &hub(args.offline)) {
        Ok(written) => {
            let lines =
                written.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\n"]).collect::<Vec<_>>().concat();
            match output::print(&lines) {
                Ok(_) => ExitCode::SUCCESS, // whoever reads no further has the pictures all the same
                Err(error) => failure::of_job(&anyhow::Error::new(error).context("standard output")),
            }
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
