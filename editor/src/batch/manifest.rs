//! What was done in an output folder: manifest.json, and while a batch runs a record of each finished photo in .editor/.
//!
//! Processes that share a batch never talk. Each writes the records of its own photos, aside and renamed; whichever
//! finds that every photo has one puts them together. A record of other settings is as good as none.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::failure::BadInput;

/// Lists every photo of a finished batch.
pub const MANIFEST: &str = "manifest.json";
/// What the batch keeps while it runs.
const WORK: &str = ".editor";
const FORMAT_VERSION: u32 = 1;

/// Everything that decides an edit's bytes, beside the photo and its mask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// blake3 of the run's files: its settings, tokens and deltas.
    pub run: String,
    /// Emotions and their weights.
    pub emotions: Vec<(String, f64)>,
    /// In the order of the strip.
    pub strengths: Vec<f64>,
    /// Whether each strength has a file of its own, beside a strip.
    pub sweep: bool,
    /// Whether the photo stands beside its edit.
    pub compare: bool,
    /// About the side that is edited, in pixels.
    pub resolution: i64,
    /// Timesteps of inversion and edit.
    pub steps: usize,
    /// `--precision`.
    pub precision: String,
    /// The suffix of every picture, where one was asked for.
    pub format: Option<String>,
    /// Whether photos have masks.
    pub masks: bool,
    /// `--feather`.
    pub feather: Option<u32>,
}

/// What became of a photo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its path from the photos' folder on, or as the list has it.
    pub image: String,
    /// blake3 of its file; none if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hash: Option<String>,
    /// blake3 of its mask's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_hash: Option<String>,
    /// The pictures that were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Written>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A picture in the output folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// From the output folder on.
    pub path: String,
    /// blake3 of its file.
    pub hash: String,
}

/// manifest.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format_version: u32,
    /// What all edits have in common.
    pub settings: Settings,
    /// How many photos have their edits.
    pub edited: usize,
    /// How many have none.
    pub failed: usize,
    /// Every photo, by name.
    pub photos: Vec<Record>,
}

/// A record in .editor/, with the batch that it belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct Filed {
    settings: String,
    record: Record,
}

/// An output folder.
#[derive(Debug)]
pub struct Folder {
    output: PathBuf,
    settings: Settings,
    /// blake3 of the settings.
    key: String,
}

impl Folder {
    /// Opens `output` for edits with `settings`. Refuses a folder with edits of other settings, and one in which
    /// somebody else has put a file where `outputs` go, unless `overwrite` says otherwise.
    pub fn open(output: &Path, settings: &Settings, outputs: &[PathBuf], overwrite: bool) -> Result<Self> {
        let key = blake3::hash(&serde_json::to_vec(settings)?).to_hex().to_string();
        let folder = Self { output: output.to_path_buf(), settings: settings.clone(), key };
        let refuse = |what: String| BadInput(format!("--output {}: {what}", output.display()));
        match folder.former()? {
            Some(former) if former == *settings => return Ok(folder),
            Some(former) if !overwrite => {
                let what = differences(&former, settings)?;
                return Err(refuse(format!(
                    "it has edits of other settings ({what}); name another folder, or add --overwrite"
                ))
                .into());
            }
            Some(former) => {
                warn!(
                    "{}: edits of other settings are made anew ({})",
                    output.display(),
                    differences(&former, settings)?
                );
            }
            None => {
                let taken = outputs.iter().find(|path| fs::symlink_metadata(output.join(path)).is_ok());
                if let Some(path) = taken.filter(|_| !overwrite) {
                    let what = format!(
                        "{} is there, and no earlier batch made it; name another folder, or add --overwrite",
                        path.display()
                    );
                    return Err(refuse(what).into());
                }
            }
        }
        fs::create_dir_all(folder.records()).with_context(|| folder.records().display().to_string())?;
        folder.replace(&folder.settings_file(), &serde_json::to_vec_pretty(settings)?)?;
        Ok(folder)
    }

    /// The settings of the newest batch; a manifest follows the settings file of its batch.
    fn former(&self) -> Result<Option<Settings>> {
        if let Some(settings) = read(&self.settings_file())? {
            return Ok(Some(settings));
        }
        Ok(read::<Manifest>(&self.output.join(MANIFEST))?.map(|manifest| manifest.settings))
    }

    /// A folder for the pictures of process `rank` until they are whole.
    pub fn scratch(&self, rank: usize) -> Result<PathBuf> {
        let folder = self.output.join(WORK).join(format!("rank-{rank}"));
        // A killed process leaves its half pictures.
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).with_context(|| folder.display().to_string()),
            _ => {}
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    /// What became of each photo in batches of these settings, by name. What a finished batch could not edit is tried again
    /// by the next.
    pub fn done(&self) -> Result<BTreeMap<String, Record>> {
        let manifest = read::<Manifest>(&self.output.join(MANIFEST))?.filter(|m| m.settings == self.settings);
        let photos = manifest.map_or(Vec::new(), |manifest| manifest.photos);
        let edited = photos.into_iter().filter(|record| record.failed.is_none());
        let mut done: BTreeMap<String, Record> = edited.map(|record| (record.image.clone(), record)).collect();
        for entry in fs::read_dir(self.records()).into_iter().flatten().flatten() {
            let filed: Option<Filed> = read(&entry.path())?;
            if let Some(filed) = filed.filter(|filed| filed.settings == self.key) {
                done.insert(filed.record.image.clone(), filed.record);
            }
        }
        Ok(done)
    }

    /// Whether `record` still holds: its inputs are the same, and its pictures are there, whole.
    pub fn holds(&self, record: &Record, image_hash: &str, mask_hash: Option<&str>) -> bool {
        let whole = |written: &Written| {
            fs::read(self.output.join(&written.path)).is_ok_and(|bytes| hash(&bytes) == written.hash)
        };
        let same = record.image_hash.as_deref() == Some(image_hash) && record.mask_hash.as_deref() == mask_hash;
        same && record.outputs.iter().all(whole)
    }

    /// Writes what became of a photo.
    pub fn file(&self, record: Record) -> Result<()> {
        let path = self.records().join(format!("{}.json", hash(record.image.as_bytes())));
        fs::create_dir_all(self.records()).with_context(|| self.records().display().to_string())?;
        self.replace(&path, &serde_json::to_vec(&Filed { settings: self.key.clone(), record })?)
    }

    /// Writes manifest.json once every one of `images` has its record; none as long as other processes are at work.
    pub fn finish(&self, images: &[&str]) -> Result<Option<Manifest>> {
        let mut done = self.done()?;
        let Some(photos) = images.iter().map(|image| done.remove(*image)).collect::<Option<Vec<Record>>>() else {
            return Ok(None);
        };
        for gone in done.keys() {
            warn!("{gone} is no longer among the photos; what was made of it stays, and leaves {MANIFEST}");
        }
        let failed = photos.iter().filter(|record| record.failed.is_some()).count();
        let (edited, settings) = (photos.len() - failed, self.settings.clone());
        let manifest = Manifest { format_version: FORMAT_VERSION, settings, edited, failed, photos };
        let path = self.output.join(MANIFEST);
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        self.replace(&path, &text)?;
        // The manifest says it all. Another process that ends now may have removed it already.
        let _ = fs::remove_dir_all(self.output.join(WORK));
        Ok(Some(manifest))
    }

    /// The manifest of these settings, if the batch is finished.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        Ok(read::<Manifest>(&self.output.join(MANIFEST))?.filter(|m| m.settings == self.settings))
    }

    fn records(&self) -> PathBuf {
        self.output.join(WORK).join("records")
    }

    fn settings_file(&self) -> PathBuf {
        self.output.join(WORK).join("settings.json")
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        durable::write(path, content).with_context(|| path.display().to_string())
    }
}

/// blake3 in hex.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A JSON file; none if it is not there, or is not of this kind, as what a killed process left.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
        Ok(_) if path.to_string_lossy().ends_with(durable::SUFFIX) => Ok(None),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(e) => {
                let message = "it was not written by this program, or is damaged; name another folder, or remove it";
                Err(BadInput(format!("{}: {message} ({e})", path.display())).into())
            }
        },
    }
}

/// `strengths: was [1.0], is [0.5]`, for each setting that differs.
fn differences(former: &Settings, now: &Settings) -> Result<String> {
    let (former, now) = (serde_json::to_value(former)?, serde_json::to_value(now)?);
    let keys = now.as_object().into_iter().flatten().filter(|(key, value)| former.get(key.as_str()) != Some(value));
    let words = keys.map(|(key, value)| match key.as_str() {
        "run" => "run: its files are others".to_string(),
        _ => format!("{key}: was {}, is {value}", former.get(key.as_str()).unwrap_or(&serde_json::Value::Null)),
    });
    Ok(words.collect::<Vec<_>>().join("; "))
}
