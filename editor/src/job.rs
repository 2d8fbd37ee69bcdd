//! The edit from files to files: everything cheap is checked before a model is read.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use collective::DeviceChoice;
use dataloader::making::worker_rank::WorkerRank;
use diffusion::edit::Editor;
use diffusion::images::{self, Mask, Photo};
use diffusion::pipeline::{self, Pipeline};
use diffusion::process::ddim::InversionSchedule;
use diffusion::process::schedule::Schedule;
use diffusion::run::{Run, RunConfig};
use hub::Hub;
use image::RgbImage;
use program::Progress;
use tch::Device;
use tracing::{info, warn};

use crate::args::{Args, DeviceName, Mixture};
use crate::failure::BadInput;
use crate::sheet::{self, Strip};

/// Does what `args` ask for and returns the files that were written.
pub fn run(args: &Args, hub: &Hub) -> Result<Vec<PathBuf>> {
    let run = Run::open(&args.run)?;
    if let Some(warning) = run.config.edit.warning() {
        tracing::warn!("{}: {warning}", run.folder.display());
    }
    let emotions = emotions(args.emotion.as_ref(), &run.config)?;
    check_output(&args.output)?;
    refuse_options_of_folders(args)?;
    let strengths = strengths(args);
    refuse_to_replace(args, &strengths)?;
    let photo = Photo::read(&args.image)?.with_way_back();
    photo.warnings.iter().for_each(|warning| warn!(image = %args.image.display(), "{warning}"));
    let mask = mask(args, &photo)?;
    let device = device(args.device, &WorkerRank::ALONE)?;
    let editor = open(args, &run, device, hub)?;

    let resolution = resolution(args, &run.config);
    let start = Instant::now();
    let progress = Progress::unbounded(format!("editing at {} strength(s)", strengths.len()), true);
    let source = editor.source_of_photo(&photo, resolution)?;
    let target = editor.process().towards_mixture(&emotions)?;
    let edit = |nth: usize| {
        let change = editor.changes(&source, &target, strengths[nth]).remove(0)?;
        editor.finished_photo_masked(&photo, &change, mask.as_ref())
    };
    // What the library says of a write is no fault of the arguments.
    let written = write(args, &args.output, &photo, &strengths, edit).map_err(|e| anyhow::anyhow!("{e}"))?;
    drop(progress);
    info!(image = %args.image.display(), ?emotions, ?strengths, seconds = start.elapsed().as_secs_f64(), "edited");
    Ok(written)
}

/// At which strengths to edit.
pub fn strengths(args: &Args) -> Vec<f64> {
    if args.sweep.is_empty() {
        vec![args.strength]
    } else {
        args.sweep.clone()
    }
}

/// About the side that is edited, in pixels.
pub fn resolution(args: &Args, config: &RunConfig) -> i64 {
    args.resolution.map_or(config.resolution, i64::from)
}

/// Refuses what is meant for several photos.
fn refuse_options_of_folders(args: &Args) -> Result<()> {
    let given = [
        ("--format", args.format.is_some()),
        ("--batch-size", args.batch_size.is_some()),
        ("--nproc-per-node", args.nproc_per_node.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => {
            Err(BadInput(format!("{name} is for several photos; name a folder or a .txt list as --image")).into())
        }
        None => Ok(()),
    }
}

/// The mask, which must fit the photo.
fn mask(args: &Args, photo: &Photo) -> Result<Option<Mask>> {
    let Some(path) = &args.mask else { return Ok(None) };
    let mask = Mask::read(path, args.feather).context("--mask")?;
    let (width, height) = photo.dimensions();
    mask.check(width, height).context("--mask")?;
    if mask.is_black() {
        warn!("--mask {}: it is black everywhere: nothing of the photo is edited", path.display());
    }
    Ok(Some(mask))
}

/// The emotions asked for, each known to the run; by default the run's only one.
pub fn emotions(asked: Option<&Mixture>, config: &RunConfig) -> Result<Vec<(String, f64)>> {
    let known = config.emotions.join(", ");
    match (asked, config.emotions.as_slice()) {
        (None, [only]) => Ok(vec![(only.clone(), 1.0)]),
        (None, _) => Err(BadInput(format!("--emotion is missing; the run knows {known}")).into()),
        (Some(Mixture(emotions)), all) => match emotions.iter().find(|(emotion, _)| !all.contains(emotion)) {
            Some((unknown, _)) => Err(BadInput(format!("--emotion {unknown}: the run knows {known}")).into()),
            None => Ok(emotions.clone()),
        },
    }
}

fn check_output(path: &Path) -> Result<()> {
    images::output_format(path).context("--output")?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    Err(BadInput(format!("--output {}: the folder {} does not exist", path.display(), folder.display())).into())
}

/// Where this process computes; its machine's processes share the GPUs and the cores.
pub fn device(name: Option<DeviceName>, worker_rank: &WorkerRank) -> Result<Device> {
    let device = match name {
        Some(DeviceName::Cpu) => Device::Cpu,
        None => return worker_rank.device(DeviceChoice::Auto).map_err(|e| BadInput(e.to_string()).into()),
        Some(DeviceName::Cuda(number)) => {
            collective::cuda::load().map_err(|e| BadInput(format!("--device cuda: {e}")))?;
            let count = collective::cuda::count();
            if number >= count {
                let message = format!("--device cuda:{number}: this machine shows {count} GPUs; --device cpu works");
                return Err(BadInput(message).into());
            }
            Device::Cuda(number)
        }
    };
    if worker_rank.local_size > 1 {
        collective::share_cores(None, worker_rank.local_size, device);
    }
    Ok(device)
}

/// Reads the base model and the run's tensors.
pub fn open(args: &Args, run: &Run, device: Device, hub: &Hub) -> Result<Editor> {
    let progress = Progress::unbounded("reading the model", true);
    let named = &run.config.base.name;
    let folder = match &args.model {
        Some(model) => hub.model(model).context("--model")?,
        None => hub.model(named).context("the run's base model (name its folder with --model)")?,
    };
    let pipeline = Pipeline::load(&folder, device, args.precision.kind())?;
    let mut run = run.clone();
    if let Some(steps) = args.steps {
        check_steps(&pipeline.schedule, steps as usize)?;
        run.config.edit.num_inversion_steps = steps as usize;
    }
    let editor = Editor::new(pipeline, &run, device)?;
    drop(progress);
    info!(model = %folder.display(), run = %run.folder.display(), ?device, "model read");
    if let Some(seen) = pipeline::seen_only(&folder) {
        warn!("this base model is small and has seen {seen} only: of another photo it changes more than the emotion");
    }
    Ok(editor)
}

/// Refuses more steps than the base model has timesteps: two of them would be the same.
fn check_steps(schedule: &Schedule, steps: usize) -> Result<()> {
    let timesteps = InversionSchedule::new(schedule, steps);
    if timesteps.timesteps().windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok(());
    }
    let most = schedule.last_timestep() + 1;
    Err(BadInput(format!("--steps {steps}: the base model has {most} timesteps; name at most as many")).into())
}

/// Writes one edit to `output`, the photo beside it, or a strip of strengths with each edit in a file of its own; returns
/// the files. `edit` makes the edit at the nth strength.
pub fn write(
    args: &Args, output: &Path, photo: &Photo, strengths: &[f64], edit: impl Fn(usize) -> diffusion::Result<Photo>,
) -> diffusion::Result<Vec<PathBuf>> {
    // Sheets have 8 bits, in the photo's own space.
    let sheet = |sheet: &RgbImage| images::write_tagged(output, sheet, photo.profile());
    if args.sweep.is_empty() {
        let edit = edit(0)?;
        match args.compare {
            true => sheet(&sheet::side_by_side(&photo.in_8_bits(), &edit.in_8_bits()))?,
            false => images::write_photo(output, &edit)?,
        }
        return Ok(vec![output.to_path_buf()]);
    }
    let (mut written, mut strip) = (Vec::new(), Strip::default());
    if args.compare {
        strip.add(None, &photo.in_8_bits())?;
    }
    for (nth, &strength) in strengths.iter().enumerate() {
        let edit = edit(nth)?;
        let path = with_strength(output, strength);
        images::write_photo(&path, &edit)?;
        written.push(path);
        strip.add(Some(strength), &edit.in_8_bits())?;
    }
    sheet(&strip.sheet())?;
    written.push(output.to_path_buf());
    Ok(written)
}

/// Refuses to overwrite the photo, unless `--overwrite` allows it.
fn refuse_to_replace(args: &Args, strengths: &[f64]) -> Result<()> {
    let photo = std::fs::canonicalize(&args.image).ok();
    let swept = strengths.iter().filter(|_| !args.sweep.is_empty()).map(|&s| with_strength(&args.output, s));
    let mut outputs = swept.chain([args.output.clone()]);
    let replaced = outputs.find(|output| photo.is_some() && std::fs::canonicalize(output).ok() == photo);
    match replaced.filter(|_| !args.overwrite) {
        Some(output) => {
            let what = "it is the photo itself; name another file, or add --overwrite";
            Err(BadInput(format!("--output {}: {what}", output.display())).into())
        }
        None => Ok(()),
    }
}

/// `out.png` at strength 0.5 is `out.strength-0.5.png`; the name may be any bytes.
pub fn with_strength(path: &Path, strength: f64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string(); // it need not be UTF-8
    name.push(format!(".strength-{strength}."));
    name.push(path.extension().unwrap_or_default());
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn the_strength_goes_into_the_name() {
        assert_eq!(with_strength(Path::new("a/out.png"), 0.5), Path::new("a/out.strength-0.5.png"));
        assert_eq!(with_strength(Path::new("x.y.jpg"), -1.0), Path::new("x.y.strength--1.jpg"));
        let latin = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        assert_eq!(with_strength(&latin(b"\xe9t\xe9.png"), 2.0), latin(b"\xe9t\xe9.strength-2.png"));
    }

    #[test]
    fn an_output_without_a_folder_or_a_format_is_refused() {
        assert!(check_output(Path::new("out.png")).is_ok());
        assert!(check_output(Path::new("none/at/all/out.png")).is_err());
        assert!(check_output(Path::new("out.pdf")).is_err());
    }
}
