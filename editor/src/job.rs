//! The edit from files to files: everything cheap is checked before a model is read.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use diffusion::edit::Editor;
use diffusion::images::{self, Photo};
use diffusion::pipeline::{self, Pipeline};
use diffusion::run::{Run, RunConfig};
use hub::Hub;
use image::RgbImage;
use program::Progress;
use tch::{Device, Kind};
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
    let strengths = if args.sweep.is_empty() { vec![args.strength] } else { args.sweep.clone() };
    refuse_to_replace(args, &strengths)?;
    let photo = Photo::read(&args.image)?.with_way_back();
    photo.warnings.iter().for_each(|warning| warn!(image = %args.image.display(), "{warning}"));
    let device = device(args.device)?;
    let editor = open(args, &run, device, hub)?;

    let resolution = args.resolution.map_or(run.config.resolution, i64::from);
    let start = Instant::now();
    let progress = Progress::unbounded(format!("editing at {} strength(s)", strengths.len()), true);
    let source = editor.source_of_photo(&photo, resolution)?;
    let written = write(args, &photo, &strengths, |strength| editor.edit_photo(&photo, &source, &emotions, strength))?;
    drop(progress);
    info!(image = %args.image.display(), ?emotions, ?strengths, seconds = start.elapsed().as_secs_f64(), "edited");
    Ok(written)
}

/// The emotions asked for, each known to the run; by default the run's only one.
fn emotions(asked: Option<&Mixture>, config: &RunConfig) -> Result<Vec<(String, f64)>> {
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

/// Where to compute: as asked, or on the first GPU if there is one.
pub fn device(name: Option<DeviceName>) -> Result<Device> {
    match name {
        Some(DeviceName::Cpu) => Ok(Device::Cpu),
        None if collective::cuda::available() => Ok(Device::Cuda(0)),
        None => Ok(Device::Cpu),
        Some(DeviceName::Cuda(number)) => {
            collective::cuda::load().map_err(|e| BadInput(format!("--device cuda: {e}")))?;
            let count = collective::cuda::count();
            if number < count {
                return Ok(Device::Cuda(number));
            }
            Err(BadInput(format!("--device cuda:{number}: this machine shows {count} GPUs; --device cpu works")).into())
        }
    }
}

fn open(args: &Args, run: &Run, device: Device, hub: &Hub) -> Result<Editor> {
    let progress = Progress::unbounded("reading the model", true);
    let named = &run.config.base.name;
    let folder = match &args.model {
        Some(model) => hub.model(model).context("--model")?,
        None => hub.model(named).context("the run's base model (name its folder with --model)")?,
    };
    let editor = Editor::new(Pipeline::load(&folder, device, Kind::Float)?, run, device)?;
    drop(progress);
    info!(model = %folder.display(), run = %run.folder.display(), ?device, "model read");
    if let Some(seen) = pipeline::seen_only(&folder) {
        warn!("this base model is small and has seen {seen} only: of another photo it changes more than the emotion");
    }
    Ok(editor)
}

/// Writes one edit, the photo beside it, or a strip of strengths with each edit in a file of its own.
fn write(
    args: &Args, photo: &Photo, strengths: &[f64], edit: impl Fn(f64) -> diffusion::Result<Photo>,
) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut note = |path: PathBuf, saved: diffusion::Result<()>| -> Result<()> {
        saved.map_err(|e| anyhow::anyhow!("{e}"))?;
        written.push(path);
        Ok(())
    };
    let output = &args.output;
    // Sheets have 8 bits, in the photo's own space.
    let sheet = |sheet: &RgbImage| images::write_tagged(output, sheet, photo.profile());
    if args.sweep.is_empty() {
        let edit = edit(args.strength)?;
        let saved = match args.compare {
            true => sheet(&sheet::side_by_side(&photo.in_8_bits(), &edit.in_8_bits())),
            false => images::write_photo(output, &edit),
        };
        note(output.clone(), saved)?;
        return Ok(written);
    }
    let mut strip = Strip::default();
    if args.compare {
        strip.add(None, &photo.in_8_bits())?;
    }
    for &strength in strengths {
        let edit = edit(strength)?;
        let path = with_strength(output, strength);
        let saved = images::write_photo(&path, &edit);
        note(path, saved)?;
        strip.add(Some(strength), &edit.in_8_bits())?;
    }
    let saved = sheet(&strip.sheet());
    note(output.clone(), saved)?;
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
fn with_strength(path: &Path, strength: f64) -> PathBuf {
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
