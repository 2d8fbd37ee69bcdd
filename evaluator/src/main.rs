//! `evaluator`: edits held-out photos with trained runs, scores them and writes the report.

use std::process::ExitCode;

use clap::Parser;
use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::{process_env, Rendezvous};
use evaluator::cli::{check, fit_classifier, run, schema, Args, Cli, Command};
use evaluator::evaluation::ranks::Ranks;
use evaluator::{Error, Result};
use hub::Hub;
use program::{arguments, log, output, progress};

collective::openmp_spins_briefly!();

fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments::expanded(std::env::args_os(), std::env::var_os("HOME").as_deref()));
    let (format, every) = cli.log();
    log::start(format, process_env("RUST_LOG"), true);
    progress::set_interval(every);
    hashes::remember(process_env);
    let done = match (&cli.command, &cli.report) {
        (Some(Command::FitClassifier(args)), _) => {
            fit_classifier(args, &Hub::from_env(process_env), &process_env).and_then(|card| print(&format!("{card}\n")))
        }
        (Some(Command::Schema(args)), _) => print(&(schema(args.of) + "\n")),
        (None, Some(args)) => evaluate(args),
        (None, None) => return ExitCode::from(2), // clap has asked for --config already
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::complain(&format!("evaluator: {error}"));
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

/// Runs as one of the processes of an evaluation, or as their launcher; returns the exit code.
fn evaluate(args: &Args) -> Result<u8> {
    if let Some(node) = ranks_to_start(args.nproc_per_node, &process_env)? {
        check(args, Hub::from_env(process_env), &process_env)?; // once, and not by every process
        return Ok(start_ranks(&node, Restarts::default())?.try_into().unwrap_or(1));
    }
    let ranks = Ranks::join(Rendezvous::from_env(&process_env)?.as_ref())?;
    let today = time::OffsetDateTime::now_utc().date().to_string(); // YYYY-MM-DD
    let Some(outcome) = run(args, &today, Hub::from_env(process_env), &process_env, &ranks)? else { return Ok(0) };
    print(&format!("{}\n{}\n", outcome.table, outcome.folder.join("index.html").display()))?;
    Ok(u8::from(!outcome.passed))
}

/// Prints the result; a reader that stops early, such as `head`, is no error.
fn print(text: &str) -> Result<u8> {
    let printed = output::print(text.as_bytes());
    printed.map(|_| 0).map_err(|source| Error::Io { path: "standard output".into(), source })
}
