//! From the command line to a run: the recipe, the plan, and the processes that carry it out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::{Lookup, Node, Processes, Rendezvous};
use hub::Hub;
use program::{log, output, progress, Progress};

use crate::checkpoint::resume::Resume;
use crate::cli::{Cli, Estimate, Instead, Train};
use crate::config::resolved::Resolved;
use crate::config::Config;
use crate::estimate;
use crate::estimate::plan;
use crate::failure::{input, refuse, DONE, STOPPED};
use crate::run::output_folder;
use crate::run::signals::Stop;
use crate::run::training::{train, Ending};
use crate::run::world::World;

/// Runs what the command line asks for; `env` is the process's environment, read nowhere else.
pub fn run(cli: &Cli, env: Lookup<'_>) -> anyhow::Result<i32> {
    match (&cli.instead, &cli.train) {
        (Some(Instead::Schema), _) => schema(),
        (Some(Instead::Estimate(options)), _) => estimate(options, env),
        (None, Some(options)) => train_or_plan(options, env),
        (None, None) => Err(refuse("--config: name a recipe, such as configs/pocket/sadness.yaml")),
    }
}

fn train_or_plan(options: &Train, env: Lookup<'_>) -> anyhow::Result<i32> {
    let rendezvous = input(Rendezvous::from_env(env))?;
    log::start(options.log_format, env("RUST_LOG"), rendezvous.as_ref().is_none_or(|r| r.rank == 0));
    progress::set_interval(options.progress_every);
    let recipe = Arc::new(read(&options.config, &options.set, env)?);
    let resume = options.resume.as_deref().unwrap_or(&recipe.config.checkpoint.resume_from_checkpoint);
    let resume = Resume::parse(resume);
    let hub = Hub::from_env(env).or_offline(recipe.config.hub.offline || options.offline);
    match input(ranks_to_start(options.nproc_per_node, env))? {
        _ if options.dry_run => dry_run(&recipe, &hub, &resume, options),
        Some(node) => launch(&recipe, &hub, &resume, &node, options.max_restarts),
        None if options.max_restarts > 0 && rendezvous.is_none() => {
            Err(refuse("--max-restarts: it is the launcher that restarts; add --nproc-per-node 2 or more"))
        }
        None => {
            let stop = Stop::listen()?;
            let checking =
                Progress::unbounded("finding models and data", rendezvous.as_ref().is_none_or(|r| r.rank == 0));
            // The ranks meet before anything that takes long: from here on each knows whether the others live.
            let world = World::join(rendezvous.as_ref(), &recipe.config.train)?;
            let plan = plan::check(&recipe, &hub, &resume, world.size)?;
            drop(checking);
            world.meet()?;
            Ok(match train(&recipe, &plan, &resume, &world, &stop)? {
                Ending::Done => DONE,
                Ending::Stopped => STOPPED,
            })
        }
    }
}

fn read(path: &Path, sets: &[String], env: Lookup<'_>) -> anyhow::Result<Resolved> {
    let recipes = recipe::Reader { home: env("HOME").map(PathBuf::from) };
    let config: Config = input(recipes.load(path, sets))?;
    Resolved::new(Config { store: config.store.with_env(env), ..config })
}

fn schema() -> anyhow::Result<i32> {
    print(&[serde_json::to_string_pretty(&schemars::schema_for!(Config))?])
}

fn estimate(options: &Estimate, env: Lookup<'_>) -> anyhow::Result<i32> {
    let recipe = read(&options.config, &options.set, env)?;
    let hub = Hub::from_env(env).or_offline(recipe.config.hub.offline || options.offline);
    print(&estimate::lines(&recipe, &hub, options)?)
}

/// Errors of the input are found once, here, and not by every process.
fn launch(recipe: &Resolved, hub: &Hub, resume: &Resume, node: &Node, max_restarts: u32) -> anyhow::Result<i32> {
    let count = input(node.nproc_per_node.count())?;
    let plan = plan::check(recipe, hub, resume, count * node.nnodes)?;
    if node.node_rank == 0 {
        output_folder::check(recipe, &plan.cost)?;
    }
    Ok(start_ranks(node, Restarts { most: max_restarts, arguments: &["--resume", "latest"] })?)
}

fn dry_run(recipe: &Resolved, hub: &Hub, resume: &Resume, options: &Train) -> anyhow::Result<i32> {
    let count = options.nproc_per_node.map_or(Ok(1), Processes::count);
    let plan = plan::check(recipe, hub, resume, input(count)?)?;
    output_folder::check(recipe, &plan.cost)?;
    let mut lines = plan.lines;
    lines.push("dry run: everything is in place; nothing was trained".into());
    print(&lines)
}

/// Prints to standard output; a reader that stops early, such as `head`, is no error.
fn print(lines: &[String]) -> anyhow::Result<i32> {
    output::print((lines.join("\n") + "\n").as_bytes()).context("standard output")?;
    Ok(DONE)
}
