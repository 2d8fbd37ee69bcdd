//! What each sub-command does; returns the exit code.

use std::path::PathBuf;
use std::time::Duration;

use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::Lookup;
use collective::Processes;
use dataloader::inversions::config::InvertConfig;
use dataloader::inversions::job::Summary;
use dataloader::making::config::ShardConfig;
use dataloader::making::worker_rank::WorkerRank;
use dataloader::making::{shard, survey};
use dataloader::reading::{inspect, verify};
use dataloader::sources::fetch::{self, FetchPolicy};
use dataloader::{inversions, Access, Error, Result};
use hub::Hub;
use program::{output, Progress};

use crate::cli::{Command, FetchArgs, Fetchable};

/// Runs a command; `env` is the process's environment.
pub fn run(command: Command, env: Lookup<'_>) -> Result<u8> {
    let access = || Access::default().with_env(env);
    let recipes = recipe::Reader { home: env("HOME").map(PathBuf::from) };
    match command {
        Command::Shard { config, sets, dry_run, nproc_per_node } => {
            let config: ShardConfig = recipes.load(&config, &sets)?;
            if dry_run {
                return print(&survey::survey(&config)?);
            }
            config.check()?;
            share_work(nproc_per_node, env, |worker_rank| {
                let summary = shard::run(&config, &Hub::from_env(env), worker_rank)?;
                Ok(summary.map(|summary| summary.describe(&config.output)))
            })
        }
        Command::Invert { config, sets, nproc_per_node } => {
            let mut config: InvertConfig = recipes.load(&config, &sets)?;
            config.store = config.store.with_env(env);
            config.check()?;
            share_work(nproc_per_node, env, |worker_rank| {
                Ok(inversions::job::run(&config, &Hub::from_env(env), worker_rank)?.map(|Summary(line)| line))
            })
        }
        Command::Fetch { dataset: Fetchable::Findingemo(args) } => fetch(&args),
        Command::Verify { dir } => {
            let verdict = verify::verify(&dir, &access(), &mut Printed(None))?;
            print_or_leave(&verdict.describe());
            Ok(if verdict.is_sound() { 0 } else { 2 })
        }
        Command::Inspect { dir, row } => print(&inspect::inspect(&dir, &access(), &row)?),
    }
}

/// Prints the requested output; a reader that stops early, such as `head`, is no error.
fn print(text: &str) -> Result<u8> {
    match output::print(text.as_bytes()) {
        Ok(_) => Ok(0),
        Err(e) => Err(Error::Store { url: "standard output".into(), message: e.to_string() }),
    }
}

/// The progress of a check on standard output.
struct Printed(Option<Progress>);

impl verify::Report for Printed {
    fn line(&mut self, line: &str) {
        print_or_leave(line);
    }

    fn rows(&mut self, done: u64, total: u64) {
        self.0.get_or_insert_with(|| Progress::new("verifying", "rows", total, true)).set(done);
    }
}

/// Prints a line of work that is done only for its reader, and ends the program if nobody reads any more.
fn print_or_leave(line: &str) {
    match output::print(format!("{line}\n").as_bytes()) {
        Ok(true) => {}
        Ok(false) => std::process::exit(output::READER_GONE.into()),
        Err(error) => {
            output::complain(&format!("error: standard output: {error}"));
            std::process::exit(1)
        }
    }
}

/// Runs as one of the processes that work on a data set, or as their launcher. The first process prints the result of
/// `work`.
fn share_work(
    nproc_per_node: Option<Processes>, env: Lookup<'_>, work: impl FnOnce(&WorkerRank) -> Result<Option<String>>,
) -> Result<u8> {
    let launched = |e: collective::Error| Error::invalid("launch", e.to_string());
    let node = match env("JOB_COMPLETION_INDEX") {
        Some(_) => None, // Kubernetes has started this process alone
        None => ranks_to_start(nproc_per_node, env).map_err(launched)?,
    };
    if let Some(node) = node {
        return Ok(start_ranks(&node, Restarts::default()).map_err(launched)?.try_into().unwrap_or(1));
    }
    if let Some(summary) = work(&WorkerRank::from_env(env)?)? {
        return print(&format!("{summary}\n"));
    }
    Ok(0)
}

/// Fetches what is available; 1 if some of it may be available another time.
fn fetch(args: &FetchArgs) -> Result<u8> {
    let policy = FetchPolicy {
        concurrency: args.concurrency,
        pause: Duration::from_millis(args.pause_ms),
        timeout: Duration::from_secs(args.timeout_s),
        deadline: Duration::from_secs(args.deadline_s),
        allow_private: args.allow_private_addresses,
        attempts: args.attempts,
        retry_dead: args.retry_dead,
        ..FetchPolicy::default()
    };
    let urls = args.package.join("data/dataset_urls_exploded.json");
    let fetch::Summary { fetched, there, dead, failed } = fetch::fetch(&urls, &args.output, &policy)?;
    print(&format!(
        "{}: {fetched} fetched, {there} there before, {dead} dead, {failed} failed for the moment; {} names each\n",
        args.output.display(),
        args.output.join(fetch::REPORT).display(),
    ))?;
    Ok(u8::from(failed > 0))
}
