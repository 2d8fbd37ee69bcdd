//! Many photos: a folder or a list of them, each to its place in an output folder.
//!
//! A photo is done when its record says so; a batch that was killed goes on where it ended. Several processes share the
//! photos one by one and meet in the output folder alone.

mod manifest;
mod photos;
mod work;

use std::path::PathBuf;

use anyhow::{Context, Result};
use collective::launch::{ranks_to_start, start_ranks, Restarts};
use collective::rendezvous::Lookup;
use collective::{FolderLock, LockError};
use dataloader::making::worker_rank::WorkerRank;
use diffusion::run::Run;
use hub::Hub;
use program::{output, Progress, Stop};
use tch::Device;
use tracing::{info, warn};

use self::manifest::{hash, Folder, Manifest, Record, Settings, MANIFEST};
pub use self::photos::several;
use self::photos::Photos;
use self::work::{exit_code, Work};
use crate::args::Args;
use crate::failure::BadInput;
use crate::job;

/// Stopped by a signal; the same command goes on.
const STOPPED: u8 = 75;
/// Photos at once on a GPU. On a CPU, a photo's bytes would depend on the others in its batch: there convolutions and
/// products of matrices add up in another order.
const BATCH_SIZE_ON_A_GPU: usize = 8;

/// Edits the photos as one of several processes, or as their launcher; returns the exit code.
pub fn run(args: &Args, hub: &Hub, env: Lookup<'_>) -> Result<u8> {
    let run = Run::open(&args.run)?;
    let emotions = job::emotions(args.emotion.as_ref(), &run.config)?;
    std::fs::create_dir_all(&args.output).with_context(|| format!("--output {}", args.output.display()))?;
    if let Some(masks) = args.mask.as_ref().filter(|masks| !masks.exists()) {
        return Err(BadInput(format!("--mask {}: no such file or folder", masks.display())).into());
    }
    let photos = Photos::of(args)?;
    let settings = settings(args, &run, &emotions)?;
    let launched = |e: collective::Error| BadInput(e.to_string());
    let node = match env("JOB_COMPLETION_INDEX") {
        Some(_) => None, // Kubernetes has started this process alone
        None => ranks_to_start(args.nproc_per_node, env).map_err(launched)?,
    };
    let worker_rank = WorkerRank::from_env(env).map_err(|e| BadInput(e.to_string()))?;
    let leads = node.is_none() && worker_rank.is_first();
    let _lock = leads.then(|| FolderLock::take(&args.output, "editor")).transpose().map_err(busy)?;
    let outputs: Vec<PathBuf> = photos.listed.iter().flat_map(|listed| listed.outputs(&args.sweep)).collect();
    let folder = Folder::open(&args.output, &settings, &outputs, args.overwrite)?;
    if let Some(node) = node {
        let code = start_ranks(&node, Restarts::default()).map_err(|e| anyhow::anyhow!("{e}"))?;
        return match (code, folder.manifest()?) {
            (0, Some(manifest)) => say(args, &manifest),
            (0, None) => {
                Err(anyhow::anyhow!("{}: the processes ended before all photos were done", args.output.display()))
            }
            (code, _) => Ok(code.try_into().unwrap_or(1)),
        };
    }
    let stop = Stop::listen().context("cannot listen for SIGINT and SIGTERM")?;
    let left = edit(
        args,
        hub,
        &Batch { run: &run, emotions: &emotions, photos: &photos, folder: &folder, stop: &stop },
        &worker_rank,
    )?;
    let images: Vec<&str> = photos.names().collect();
    match folder.finish(&images)? {
        // Other processes may still edit, and an exit code of 1 would have their launcher end them.
        Some(_) if worker_rank.size > 1 => Ok(0),
        Some(manifest) => say(args, &manifest),
        None if stop.asked() => {
            warn!("stopped by a signal with {left} photos left; the same command goes on");
            Ok(STOPPED)
        }
        None => Ok(0),
    }
}

/// A batch that may be worked on.
struct Batch<'a> {
    run: &'a Run,
    emotions: &'a [(String, f64)],
    photos: &'a Photos,
    folder: &'a Folder,
    stop: &'a Stop,
}

/// Edits this process's photos; returns how many of them are left.
fn edit(args: &Args, hub: &Hub, batch: &Batch<'_>, worker_rank: &WorkerRank) -> Result<u64> {
    let Batch { run, emotions, photos, folder, stop } = *batch;
    for (n, (image, reason)) in photos.unusable.iter().enumerate() {
        if worker_rank.owns(n) {
            warn!("{image}: not edited: {reason}");
            let record = Record {
                image: image.clone(),
                image_hash: None,
                mask_hash: None,
                outputs: vec![],
                failed: Some(reason.clone()),
            };
            folder.file(record)?;
        }
    }
    let mine: Vec<_> = photos.listed.iter().enumerate().filter(|(n, _)| worker_rank.owns(*n)).map(|(_, l)| l).collect();
    let progress = Progress::new("editing", "photos", mine.len() as u64, worker_rank.is_first());
    let done = folder.done()?;
    let device = job::device(args.device, worker_rank)?;
    let editor = job::open(args, run, device, hub)?;
    let work = Work {
        args,
        folder,
        scratch: folder.scratch(worker_rank.rank)?,
        editor: &editor,
        target: &editor.process().towards_mixture(emotions)?,
        strengths: &job::strengths(args),
        resolution: job::resolution(args, &run.config),
        batch_size: args.batch_size.map_or(if device == Device::Cpu { 1 } else { BATCH_SIZE_ON_A_GPU }, |n| n as usize),
        stop,
        progress: &progress,
    };
    work.edit(&mine, &done)?;
    Ok(progress.left())
}

/// What decides the bytes of every edit.
fn settings(args: &Args, run: &Run, emotions: &[(String, f64)]) -> Result<Settings> {
    let mut files = Vec::new();
    for file in run.files() {
        let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
        files.extend([hash(&bytes), file.file_name().unwrap_or_default().to_string_lossy().into_owned()]);
    }
    Ok(Settings {
        run: hash(files.join("\n").as_bytes()),
        emotions: emotions.to_vec(),
        strengths: job::strengths(args),
        sweep: !args.sweep.is_empty(),
        compare: args.compare,
        resolution: job::resolution(args, &run.config),
        steps: args.steps.map_or(run.config.edit.num_inversion_steps, |steps| steps as usize),
        precision: args.precision.name().to_string(),
        format: args.format.map(|format| format.suffixes()[0].to_string()),
        masks: args.mask.is_some(),
        feather: args.feather,
    })
}

/// Prints the result; the exit code is 1 if a photo has no edit.
fn say(args: &Args, manifest: &Manifest) -> Result<u8> {
    let path = args.output.join(MANIFEST);
    let line = format!(
        "{}: {} edited, {} failed; {} names each\n",
        args.output.display(),
        manifest.edited,
        manifest.failed,
        path.display()
    );
    info!("{}", line.trim_end());
    output::print(line.as_bytes()).context("standard output")?;
    Ok(exit_code(manifest.failed))
}

/// A folder that another program works in is the user's to sort out.
fn busy(error: LockError) -> anyhow::Error {
    match error {
        held @ LockError::Held { .. } => BadInput(format!("--output {held}")).into(),
        error => anyhow::Error::from(error).context("--output"),
    }
}
