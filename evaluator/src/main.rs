//! `evaluator`: edits held-out photos with trained runs, scores them and writes the report.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::{process_env, Rendezvous};
use diffusion::hub::Hub;
use evaluator::cli::{check, date_from_unix, fit_classifier, run, schema, Args, Cli, Command, LogFormat};
use evaluator::ranks::Ranks;
use evaluator::Result;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(terminal);
    match cli.log_format() {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let done = match (&cli.command, &cli.report) {
        (Some(Command::FitClassifier(args)), _) => fit_classifier(args, &hub(), &process_env).map(|card| {
            println!("{card}");
            0
        }),
        (Some(Command::Schema(args)), _) => {
            println!("{}", schema(args.of));
            Ok(0)
        }
        (None, Some(args)) => evaluate(args),
        (None, None) => return ExitCode::from(2), // clap has asked for --config
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // One write, so that the lines of several processes do not mix.
            let _ = std::io::stderr().write_all(format!("evaluator: {error}\n").as_bytes());
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

/// One of the processes of an evaluation, or their launcher; the exit code.
fn evaluate(args: &Args) -> Result<u8> {
    if let Some(node) = ranks_to_start(args.nproc_per_node, &process_env)? {
        check(args, hub())?; // once, here, not once a process
        return Ok(start_ranks(&node, Restarts::default())?.try_into().unwrap_or(1));
    }
    let ranks = Ranks::join(Rendezvous::from_env(&process_env)?.as_ref())?;
    let today = date_from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    let Some(outcome) = run(args, &today, hub(), &process_env, &ranks)? else { return Ok(0) };
    print!("{}", outcome.table);
    println!("\n{}", outcome.folder.join("index.html").display());
    Ok(u8::from(!outcome.passed))
}

/// Where Python keeps models from the hub (HF_HOME, else ~/.cache/huggingface), and whether it may fetch.
fn hub() -> Hub {
    let cache = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/huggingface");
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| !["", "0"].contains(&v.as_str()));
    Hub { home: std::env::var_os("HF_HOME").map_or_else(cache, PathBuf::from), offline }
}
