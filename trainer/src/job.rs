//! From the command line to a run: the recipe, the plan, and the processes that carry it out.

use std::path::PathBuf;
use std::sync::Arc;

use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::{Lookup, Node, Processes, Rendezvous};
use diffusion::hub::Hub;

use crate::cli::Cli;
use crate::config::Config;
use crate::failure::{input, refuse, DONE, STOPPED};
use crate::plan;
use crate::progress::start_logging;
use crate::resolved::Resolved;
use crate::resume::Resume;
use crate::signals::Stop;
use crate::training::{train, Ending};
use crate::world::World;

/// Runs what the command line asks for; `env` is the process's environment, read nowhere else.
pub fn run(cli: &Cli, env: Lookup<'_>) -> anyhow::Result<i32> {
    let rendezvous = input(Rendezvous::from_env(env))?;
    start_logging(cli.log_format, env("RUST_LOG"), rendezvous.as_ref().map_or(0, |r| r.rank));
    let config: Config = input(dataloader::recipe::load(&cli.config, &cli.set))?;
    let config = Config { store: config.store.with_env(env), ..config };
    let recipe = Arc::new(Resolved::new(config)?);
    let resume = Resume::parse(cli.resume.as_deref().unwrap_or(&recipe.config.checkpoint.resume_from_checkpoint));
    let hub = hub(&recipe, cli, env)?;
    match input(ranks_to_start(cli.nproc_per_node, env))? {
        _ if cli.dry_run => dry_run(&recipe, &hub, &resume, cli),
        Some(node) => launch(&recipe, &hub, &resume, &node, cli.max_restarts),
        None if cli.max_restarts > 0 && rendezvous.is_none() => {
            Err(refuse("--max-restarts: it is the launcher that restarts; add --nproc-per-node 2 or more"))
        }
        None => {
            let stop = Stop::listen()?;
            let plan = plan::check(&recipe, &hub, &resume, rendezvous.as_ref().map_or(1, |r| r.world_size))?;
            let world = World::join(rendezvous.as_ref(), &recipe.config.train)?;
            Ok(match train(&recipe, &plan.folders, &resume, &world, &stop)? {
                Ending::Done => DONE,
                Ending::Stopped => STOPPED,
            })
        }
    }
}

/// Input errors are found once, here, not once a process.
fn launch(recipe: &Resolved, hub: &Hub, resume: &Resume, node: &Node, max_restarts: u32) -> anyhow::Result<i32> {
    let count = input(node.nproc_per_node.count())?;
    plan::check(recipe, hub, resume, count * node.nnodes)?;
    Ok(start_ranks(node, Restarts { most: max_restarts, arguments: &["--resume", "latest"] })?)
}

fn dry_run(recipe: &Resolved, hub: &Hub, resume: &Resume, cli: &Cli) -> anyhow::Result<i32> {
    let count = cli.nproc_per_node.map_or(Ok(1), Processes::count);
    let plan = plan::check(recipe, hub, resume, input(count)?)?;
    plan.lines.iter().for_each(|line| println!("{line}"));
    println!("dry run: everything is in place; nothing was trained");
    Ok(DONE)
}

fn hub(recipe: &Resolved, cli: &Cli, env: Lookup<'_>) -> anyhow::Result<Hub> {
    let below_home = || env("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface"));
    let home = env("HF_HOME").map(PathBuf::from).or_else(below_home);
    let offline = recipe.config.hub.offline || cli.offline || env("HF_HUB_OFFLINE").is_some_and(|v| v != "0");
    let home = home.ok_or_else(|| refuse("neither HF_HOME nor HOME is set: there is nowhere to look for models"))?;
    Ok(Hub { home, offline })
}
