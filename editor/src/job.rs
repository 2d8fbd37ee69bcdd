//! The edit from files to files: everything cheap is checked before a model is read.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use diffusion::edit::Editor;
use diffusion::hub::{resolve, Hub};
use diffusion::images;
use diffusion::pipeline::Pipeline;
use diffusion::run::{Run, RunConfig};
use image::RgbImage;
use program::Progress;
use tch::{Device, Kind};
use tracing::info;

use crate::args::{Args, DeviceName, Mixture};
use crate::failure::BadInput;
use crate::sheet;

/// Does what `args` ask for and returns the files it wrote.
pub fn run(args: &Args, hub: &Hub) -> Result<Vec<PathBuf>> {
    let run = Run::open(&args.run)?;
    let emotions = emotions(args.emotion.as_ref(), &run.config)?;
    check_output(&args.output)?;
    let photo = images::read_photo(&args.image)?;
    let device = device(args.device)?;
    let editor = open(args, &run, device, hub)?;

    let resolution = args.resolution.map_or(run.config.resolution, i64::from);
    let strengths = if args.sweep.is_empty() { vec![args.strength] } else { args.sweep.clone() };
    let start = Instant::now();
    let progress = Progress::unbounded(format!("editing at {} strength(s)", strengths.len()), true);
    let edits = editor.edit_photo_at(&photo, &emotions, &strengths, resolution)?;
    drop(progress);
    info!(image = %args.image.display(), ?emotions, ?strengths, seconds = start.elapsed().as_secs_f64(), "edited");
    write(args, &photo, &strengths, &edits)
}

/// The emotions asked for, each known to the run; without any, the run's only one.
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

fn device(name: Option<DeviceName>) -> Result<Device> {
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
        Some(model) => resolve(model, hub).context("--model")?,
        None => resolve(named, hub).context("the run's base model (name its folder with --model)")?,
    };
    let pipeline = Pipeline::load(&folder, device, Kind::Float)?;
    let editor = Editor::new(pipeline, run, device)?;
    drop(progress);
    info!(model = %folder.display(), run = %run.folder.display(), ?device, "model read");
    Ok(editor)
}

/// Writes one edit, the photo beside it, or a strip of strengths with each edit in a file of its own.
fn write(args: &Args, photo: &RgbImage, strengths: &[f64], edits: &[RgbImage]) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut save = |path: PathBuf, picture: &RgbImage| -> Result<()> {
        images::write(&path, picture).map_err(|e| anyhow::anyhow!("{e}"))?;
        written.push(path);
        Ok(())
    };
    if args.sweep.is_empty() {
        let edit = &edits[0];
        if args.compare {
            save(args.output.clone(), &sheet::side_by_side(photo, edit))?;
        } else {
            save(args.output.clone(), edit)?;
        }
        return Ok(written);
    }
    for (strength, edit) in strengths.iter().zip(edits) {
        save(with_strength(&args.output, *strength), edit)?;
    }
    let source = args.compare.then_some(photo);
    save(args.output.clone(), &sheet::strip(source, strengths, edits)?)?;
    Ok(written)
}

/// `out.png` at strength 0.5 is `out.strength-0.5.png`.
fn with_strength(path: &Path, strength: f64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string(); // which need not be UTF-8
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
