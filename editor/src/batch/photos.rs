//! Which photos a batch has, and where each goes: the same place below the output folder, under a name of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use dataloader::sources::Entries;
use tracing::info;

use crate::args::{Args, Format};
use crate::failure::BadInput;
use crate::job;

/// The suffix of a list of photos.
const LIST: &str = "txt";
/// Where a mask may have another format than its photo.
const MASK_SUFFIXES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "avif"];

/// A photo to edit.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name in the manifest: its path from the folder, or as the list has it.
    pub image: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its edit, from the output folder on.
    pub output: PathBuf,
}

/// The photos, and what looks like one and cannot be used.
#[derive(Debug, Default, PartialEq)]
pub struct Photos {
    /// By name.
    pub listed: Vec<Listed>,
    /// Name and reason.
    pub unusable: Vec<(String, String)>,
}

/// Whether `args` ask for a folder of edits instead of one file.
pub fn several(args: &Args) -> bool {
    let as_folder = args.output.as_os_str().as_encoded_bytes().ends_with(b"/");
    args.image.is_dir() || is_list(&args.image) || args.output.is_dir() || as_folder
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case(LIST))
}

impl Photos {
    /// What `--image` names. Refuses outputs that would meet each other, or replace a photo.
    pub fn of(args: &Args) -> Result<Self> {
        let mut photos = if args.image.is_dir() {
            Self::of_folder(args)?
        } else if is_list(&args.image) {
            Self::of_list(args)?
        } else {
            let name = args.image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Self { listed: vec![listed(name, args.image.clone(), args.format)], unusable: Vec::new() }
        };
        photos.listed.sort_by(|a, b| a.image.cmp(&b.image));
        photos.unusable.sort();
        if photos.listed.is_empty() && photos.unusable.is_empty() {
            return Err(BadInput(format!("--image {}: no photo in it", args.image.display())).into());
        }
        photos.refuse_collisions(&args.sweep)?;
        if !args.overwrite {
            photos.refuse_to_replace(args)?;
        }
        Ok(photos)
    }

    /// Every photo below a folder; links lead nowhere twice. Edits and masks that lie in it are no photos.
    fn of_folder(args: &Args) -> Result<Self> {
        let found = Entries::below(&args.image).map_err(|e| BadInput(format!("--image {e}")))?;
        let place = |path: &Path| std::fs::canonicalize(path).ok();
        let root = place(&args.image).unwrap_or_else(|| args.image.clone());
        if place(&args.output).as_ref() == Some(&root) {
            let message = "it is the folder of the photos; name another";
            return Err(BadInput(format!("--output {}: {message}", args.output.display())).into());
        }
        let below = |path: &Path| Some(place(path)?.strip_prefix(&root).ok()?.to_path_buf());
        let others: Vec<PathBuf> =
            [Some(&args.output), args.mask.as_ref()].into_iter().flatten().filter_map(|p| below(p)).collect();
        let is_photo = |image: &str| !others.iter().any(|other| Path::new(image).starts_with(other));
        for line in found.account.describe() {
            info!("{}: {line}", args.image.display());
        }
        let listed = found.images.into_iter().filter(|image| is_photo(image));
        let listed = listed.map(|image| listed_below(&args.image, image, args.format)).collect();
        let unusable =
            found.quarantined.into_iter().filter(|q| is_photo(&q.path)).map(|q| (q.path, q.reason)).collect();
        Ok(Self { listed, unusable })
    }

    /// A path a line, from the list's own folder on.
    fn of_list(args: &Args) -> Result<Self> {
        let text = std::fs::read_to_string(&args.image).map_err(|e| {
            BadInput(format!("--image {}: {e}; a list has a path a line, in UTF-8", args.image.display()))
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let folder = args.image.parent().unwrap_or(Path::new(""));
        let mut names = BTreeSet::new();
        let mut photos = Self::default();
        for line in text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.trim().is_empty()) {
            let path = folder.join(line);
            let image = name_in_list(line).with_context(|| BadInput(format!("--image {}", args.image.display())))?;
            if names.insert(image.clone()) {
                photos.listed.push(listed(image, path, args.format));
            } else if photos.listed.iter().any(|other| other.image == image && other.path != path) {
                let message = format!("two photos would be {image} below the output folder; list them in two runs");
                return Err(BadInput(format!("--image {}: {message}", args.image.display())).into());
            }
        }
        Ok(photos)
    }

    /// The names of all, edited or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let listed = self.listed.iter().map(|listed| listed.image.as_str());
        let mut names: Vec<&str> = listed.chain(self.unusable.iter().map(|(image, _)| image.as_str())).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Refuses two outputs of one name, and an output where another needs a folder.
    fn refuse_collisions(&self, sweep: &[f64]) -> Result<()> {
        let mut owners: BTreeMap<PathBuf, &str> = BTreeMap::new();
        let met = |one: &str, other: &str, output: &Path| {
            let what = format!("{one} and {other} would both be {}; rename one, or name a --format", output.display());
            Err(BadInput(what).into())
        };
        for listed in &self.listed {
            for output in listed.outputs(sweep) {
                if let Some(other) = owners.insert(output.clone(), &listed.image) {
                    return met(other, &listed.image, &output);
                }
            }
        }
        for (output, image) in &owners {
            for folder in output.ancestors().skip(1) {
                if let Some(other) = owners.get(folder) {
                    return met(other, image, folder);
                }
            }
        }
        Ok(())
    }

    /// Refuses an output that is one of the photos.
    fn refuse_to_replace(&self, args: &Args) -> Result<()> {
        let place = |path: &Path| std::fs::canonicalize(path).ok();
        let photos: BTreeSet<PathBuf> = self.listed.iter().filter_map(|listed| place(&listed.path)).collect();
        let mut outputs =
            self.listed.iter().flat_map(|l| l.outputs(&args.sweep)).map(|output| args.output.join(output));
        match outputs.find(|output| place(output).is_some_and(|output| photos.contains(&output))) {
            None => Ok(()),
            Some(output) => {
                let what = "it is one of the photos; name another folder, or add --overwrite";
                Err(BadInput(format!("--output {}: {what}", output.display())).into())
            }
        }
    }
}

impl Listed {
    /// Every file that its edit writes, from the output folder on.
    pub fn outputs(&self, sweep: &[f64]) -> Vec<PathBuf> {
        let swept = sweep.iter().map(|&strength| job::with_strength(&self.output, strength));
        swept.chain([self.output.clone()]).collect()
    }

    /// Its mask: `masks` itself, or the file of the same name in that folder, with any suffix of a picture.
    pub fn mask(&self, masks: &Path) -> std::result::Result<PathBuf, String> {
        if !masks.is_dir() {
            return Ok(masks.to_path_buf());
        }
        let same = masks.join(&self.image);
        let others = MASK_SUFFIXES.iter().map(|suffix| same.with_extension(suffix));
        let found = [same.clone()].into_iter().chain(others).find(|path| path.is_file());
        found.ok_or_else(|| format!("it has no mask in {}", masks.display()))
    }
}

fn listed_below(folder: &Path, image: String, format: Option<Format>) -> Listed {
    let path = folder.join(&image);
    listed(image, path, format)
}

fn listed(image: String, path: PathBuf, format: Option<Format>) -> Listed {
    let output = PathBuf::from(output_name(&image, format));
    Listed { image, path, output }
}

/// A listed path as a name below the output folder: without the root, and without `.` and `..`.
fn name_in_list(line: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(line).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str().unwrap_or_default()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match parts.is_empty() {
        true => Err(anyhow::anyhow!("{line:?} names no file")),
        false => Ok(parts.join("/")),
    }
}

/// The photo's own name where its suffix says a format that is written (and asked for); otherwise with another
/// suffix added: x.tiff becomes x.tiff.png, which no x.png can meet.
fn output_name(image: &str, format: Option<Format>) -> String {
    let formats = format.map_or(vec![Format::Png, Format::Jpg, Format::Webp], |format| vec![format]);
    let suffix = Path::new(image).extension().and_then(|s| s.to_str()).unwrap_or_default().to_ascii_lowercase();
    let kept = formats.iter().any(|format| format.suffixes().contains(&suffix.as_str()));
    if kept {
        image.to_string()
    } else {
        format!("{image}.{}", formats[0].suffixes()[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photos(images: &[&str]) -> Photos {
        let listed = images.iter().map(|image| listed_below(Path::new("photos"), image.to_string(), None)).collect();
        Photos { listed, unusable: Vec::new() }
    }

    #[test]
    fn names_stay_where_the_format_can_be_written() {
        for (image, format, output) in [
            ("a/x.jpg", None, "a/x.jpg"),
            ("x.JPEG", None, "x.JPEG"),
            ("x.png", Some(Format::Jpg), "x.png.jpg"),
            ("x.jpeg", Some(Format::Jpg), "x.jpeg"),
            ("x.tiff", None, "x.tiff.png"),
            ("x", None, "x.png"),
            ("x.avif", Some(Format::Webp), "x.avif.webp"),
        ] {
            assert_eq!(output_name(image, format), output);
        }
    }

    #[test]
    fn names_that_meet_are_refused_with_both() {
        assert!(photos(&["a/x.jpg", "b/x.jpg", "x.jpg", "x.png", "x.bmp"]).refuse_collisions(&[0.5, 1.0]).is_ok());
        let refused = |images: &[&str], sweep: &[f64]| {
            photos(images).refuse_collisions(sweep).expect_err("they meet").to_string()
        };
        for (images, sweep) in [
            (["x.tiff", "x.tiff.png"], vec![]),
            (["x.png", "x.strength-0.5.png"], vec![0.5]),
            (["x.bmp", "x.bmp.png/y.png"], vec![]),
        ] {
            let line = refused(&images, &sweep);
            assert!(images.iter().all(|image| line.contains(image)), "{line}");
        }
    }

    #[test]
    fn a_list_names_photos_anywhere() {
        for (line, name) in
            [("a/x.jpg", "a/x.jpg"), ("./x.jpg", "x.jpg"), ("../x.jpg", "x.jpg"), ("/a/b/x.jpg", "a/b/x.jpg")]
        {
            assert_eq!(name_in_list(line).expect("a file"), name);
        }
        assert!(name_in_list("..").is_err());
    }
}
