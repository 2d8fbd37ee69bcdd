//! What each sub-command does; the answer is the exit code.

use std::path::PathBuf;
use std::time::Duration;

use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::Lookup;
use collective::Processes;
use dataloader::config::ShardConfig;
use dataloader::fetch::{self, Manners};
use dataloader::inversions::config::InvertConfig;
use dataloader::inversions::job::Summary;
use dataloader::share::Share;
use dataloader::{inspect, inversions, recipe, shard, survey, verify, Access, Error, Result};
use diffusion::hub::Hub;

use crate::cli::{Command, FetchArgs, Fetchable};

/// Runs a command; `env` is the process's environment.
pub fn run(command: Command, env: Lookup<'_>) -> Result<u8> {
    let access = || Access::default().with_env(env);
    match command {
        Command::Shard { config, sets, dry_run, nproc_per_node } => {
            let config: ShardConfig = recipe::load(&config, &sets)?;
            if dry_run {
                print!("{}", survey::survey(&config)?);
                return Ok(0);
            }
            config.check()?;
            share_work(nproc_per_node, env, |share| {
                let summary = shard::run(&config, &hub(env), share)?;
                Ok(summary.map(|summary| summary.describe(&config.output)))
            })
        }
        Command::Invert { config, sets, nproc_per_node } => {
            let mut config: InvertConfig = recipe::load(&config, &sets)?;
            config.store = config.store.with_env(env);
            config.check()?;
            share_work(nproc_per_node, env, |share| {
                Ok(inversions::job::run(&config, &hub(env), share)?.map(|Summary(line)| line))
            })
        }
        Command::Fetch { dataset: Fetchable::Findingemo(args) } => fetch(&args),
        Command::Verify { dir } => {
            let verdict = verify::verify(&dir, &access(), |line| println!("{line}"))?;
            println!("{}", verdict.describe());
            Ok(if verdict.is_sound() { 0 } else { 2 })
        }
        Command::Inspect { dir, row } => {
            print!("{}", inspect::inspect(&dir, &access(), &row)?);
            Ok(0)
        }
    }
}

/// One of the processes that work on a data set, or their launcher. The first prints what `work` says.
fn share_work(
    nproc_per_node: Option<Processes>, env: Lookup<'_>, work: impl FnOnce(&Share) -> Result<Option<String>>,
) -> Result<u8> {
    let launched = |e: collective::Error| Error::invalid("launch", e.to_string());
    let node = match env("JOB_COMPLETION_INDEX") {
        Some(_) => None, // Kubernetes has started this process alone
        None => ranks_to_start(nproc_per_node, env).map_err(launched)?,
    };
    if let Some(node) = node {
        return Ok(start_ranks(&node, Restarts::default()).map_err(launched)?.try_into().unwrap_or(1));
    }
    if let Some(summary) = work(&Share::from_env(env)?)? {
        println!("{summary}");
    }
    Ok(0)
}

/// Fetches what can be had; 1 if some of it may be had another time.
fn fetch(args: &FetchArgs) -> Result<u8> {
    let manners = Manners {
        concurrency: args.concurrency,
        pause: Duration::from_millis(args.pause_ms),
        timeout: Duration::from_secs(args.timeout_s),
        attempts: args.attempts,
        retry_dead: args.retry_dead,
        ..Manners::default()
    };
    let urls = args.package.join("data/dataset_urls_exploded.json");
    let fetch::Summary { fetched, there, dead, failed } = fetch::fetch(&urls, &args.output, &manners)?;
    println!(
        "{}: {fetched} fetched, {there} there before, {dead} dead, {failed} failed for the moment; {} names each",
        args.output.display(),
        args.output.join(fetch::REPORT).display(),
    );
    Ok(u8::from(failed > 0))
}

/// The Hugging Face cache, where Python keeps it too.
fn hub(env: Lookup<'_>) -> Hub {
    let user = || PathBuf::from(env("HOME").unwrap_or_default()).join(".cache/huggingface");
    let offline = env("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    Hub { home: env("HF_HOME").map_or_else(user, PathBuf::from), offline }
}
