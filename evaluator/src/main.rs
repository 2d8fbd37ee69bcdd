//! `evaluator`: edits held-out photos with trained runs, scores them and writes the report.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use diffusion::hub::Hub;
use evaluator::cli::{date_from_unix, run, Args, LogFormat};

fn main() -> ExitCode {
    let args = Args::parse();
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(terminal);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let today = date_from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    match run(&args, &today, hub()) {
        Ok(outcome) => {
            print!("{}", outcome.table);
            println!("\n{}", outcome.folder.join("index.html").display());
            ExitCode::from(u8::from(!outcome.passed))
        }
        Err(error) => {
            eprintln!("evaluator: {error}");
            ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
        }
    }
}

/// Where Python keeps models from the hub (HF_HOME, else ~/.cache/huggingface), and whether it may fetch.
fn hub() -> Hub {
    let cache = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/huggingface");
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| !["", "0"].contains(&v.as_str()));
    Hub { home: std::env::var_os("HF_HOME").map_or_else(cache, PathBuf::from), offline }
}
