//! `editor`: photos in, the same photos carrying an emotion out; `editor serve`: the page for it; `editor export`: the edit for
//! diffusers.

mod args;
mod batch;
mod export;
mod failure;
mod job;
mod label;
mod serve;
mod sheet;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
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
    if given.get(1).is_some_and(|word| word == "export") {
        return match export::ExportArgs::try_parse_from(given.iter().skip(1)) {
            Ok(args) => {
                log::start(args.log_format, process_env("RUST_LOG"), true);
                export::run(&args).map_or_else(|error| failure::of_job(&error), |written| said(&written))
            }
            Err(error) => failure::of_arguments(&error, "editor export --help"),
        };
    }
    if given.get(1).is_some_and(|word| word == "serve") {
        return serve(given.into_iter().skip(1));
    }
    let args = match Args::try_parse_from(given) {
        Ok(args) => args,
        Err(error) => return failure::of_arguments(&error, "editor --help"),
    };
    log::start(args.log_format, std::env::var("RUST_LOG").ok(), true);
    progress::set_interval(args.progress_every);
    hashes::remember(process_env);
    let hub = Hub::from_env(process_env).or_offline(args.offline);
    if batch::several(&args) {
        return match batch::run(&args, &hub, &process_env) {
            Ok(code) => ExitCode::from(code),
            Err(error) => failure::of_job(&error),
        };
    }
    job::run(&args, &hub).map_or_else(|error| failure::of_job(&error), |written| said(&written))
}

/// Prints the files that were written.
fn said(written: &[PathBuf]) -> ExitCode {
    let lines = written.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\n"]).collect::<Vec<_>>().concat();
    match output::print(&lines) {
        Ok(_) => ExitCode::SUCCESS, // whoever stops reading has the pictures all the same
        Err(error) => failure::of_job(&anyhow::Error::new(error).context("standard output")),
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
