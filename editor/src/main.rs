//! `editor`: one photo in, the same photo carrying an emotion out; `editor serve`: the page for it.

mod args;
mod failure;
mod job;
mod label;
mod serve;
mod sheet;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Parser;
use collective::rendezvous::process_env;
use hub::Hub;

use args::Args;
use program::{arguments, log, output, progress};
use serve::ServeArgs;

collective::openmp_spins_briefly!();

fn main() -> ExitCode {
    let given = arguments::expanded(std::env::args_os(), std::env::var_os("HOME").as_deref());
    if given.get(1).is_some_and(|word| word == "serve") {
        return serve(given.into_iter().skip(1));
    }
    let args = match Args::try_parse_from(given) {
        Ok(args) => args,
        Err(error) => return failure::of_arguments(&error, "editor --help"),
    };
    log::start(args.log_format, std::env::var("RUST_LOG").ok(), true);
    progress::set_interval(args.progress_every);
    match job::run(&args, &Hub::from_env(process_env).or_offline(args.offline)) {
        Ok(written) => {
            let lines =
                written.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\n"]).collect::<Vec<_>>().concat();
            match output::print(&lines) {
                Ok(_) => ExitCode::SUCCESS, // whoever stops reading has the pictures all the same
                Err(error) => failure::of_job(&anyhow::Error::new(error).context("standard output")),
            }
        }
        Err(error) => failure::of_job(&error),
    }
}

/// `editor serve …`, whose arguments begin with that word.
fn serve(given: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match ServeArgs::try_parse_from(given) {
        Ok(args) => args,
        Err(error) => return failure::of_arguments(&error, "editor serve --help"),
    };
    log::start(args.log_format, std::env::var("RUST_LOG").ok(), true);
    match serve::run(&args, &Hub::from_env(process_env).or_offline(args.offline)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::of_job(&error),
    }
}
