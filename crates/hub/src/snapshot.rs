//! What the cache has of a repository, and what is missing for a whole model.

use std::path::{Path, PathBuf};

use diffusion::json;
use diffusion::weights::{model_files, DIFFUSERS_STEM, TRANSFORMERS_STEM};

use crate::id::Id;

/// The parts of a pipeline that are read, and the stem of their weights.
const PARTS: [(&str, Option<&str>); 5] = [
    ("unet", Some(DIFFUSERS_STEM)),
    ("vae", Some(DIFFUSERS_STEM)),
    ("text_encoder", Some(TRANSFORMERS_STEM)),
    ("tokenizer", None),
    ("scheduler", None),
];
const INDEX: &str = "model_index.json";
const CONFIG: &str = "config.json";

/// A snapshot's folder in the cache.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) folder: PathBuf,
}

impl Snapshot {
    /// The commit that `refs/<revision>` names, or `<revision>` itself if it is a commit.
    pub(crate) fn find(cache: &Path, id: &Id) -> Option<Self> {
        let repository = id.folder(cache);
        let written = std::fs::read_to_string(repository.join("refs").join(&id.revision)).ok();
        let commit = written.as_deref().map_or(id.revision.as_str(), str::trim);
        let folder = repository.join("snapshots").join(commit);
        folder.is_dir().then_some(Self { folder })
    }

    /// The files without which this is no model; each entry lists alternatives. For a pipeline these are the files of
    /// `parts` (of all parts that are read, if none is named); for any other model, its own.
    pub(crate) fn missing(&self, parts: &[&str]) -> Vec<String> {
        let has = |file: &str| self.folder.join(file).is_file();
        if !has(INDEX) && !has(CONFIG) {
            // A snapshot that was fetched in part, by folder, may lack both; then the parts that are asked for
            // decide.
            if parts.is_empty() || !parts.iter().all(|part| self.folder.join(part).is_dir()) {
                return vec![format!("{INDEX} or {CONFIG}")];
            }
        }
        if has(CONFIG) && !has(INDEX) {
            return self.missing_of_model();
        }
        let wanted = PARTS.iter().filter(|(part, _)| parts.is_empty() || parts.contains(part));
        wanted.flat_map(|(part, stem)| self.missing_of_part(part, *stem)).collect()
    }

    /// A model that is no pipeline: its weights, and for a CLIP the files that read texts and pictures.
    fn missing_of_model(&self) -> Vec<String> {
        let config = json::read(&self.folder.join(CONFIG)).unwrap_or_default();
        let stem = if config.get("_class_name").is_some() { DIFFUSERS_STEM } else { TRANSFORMERS_STEM };
        let mut missing = self.missing_weights("", stem);
        if config.get("model_type").is_some_and(|kind| kind == "clip") {
            missing.extend(self.missing_tokenizer(""));
            missing.extend(self.missing_file("preprocessor_config.json"));
        }
        missing
    }

    fn missing_of_part(&self, part: &str, stem: Option<&str>) -> Vec<String> {
        let prefix = format!("{part}/");
        match (part, stem) {
            (_, Some(stem)) => {
                let config = self.missing_file(&format!("{prefix}{CONFIG}"));
                config.into_iter().chain(self.missing_weights(&prefix, stem)).collect()
            }
            ("tokenizer", _) => self.missing_tokenizer(&prefix),
            _ => self.missing_file(&format!("{prefix}scheduler_config.json")).into_iter().collect(),
        }
    }

    fn missing_file(&self, file: &str) -> Option<String> {
        (!self.folder.join(file).is_file()).then(|| file.to_string())
    }

    /// The weights, whole or with every shard. If there is only a pickle, the safetensors file beside it is missing.
    fn missing_weights(&self, prefix: &str, stem: &str) -> Vec<String> {
        match model_files(&self.folder.join(prefix), stem) {
            Ok(_) => Vec::new(),
            Err(diffusion::Error::MissingShard { path, .. }) => {
                vec![path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string()]
            }
            Err(_) => vec![format!("{prefix}{stem}.safetensors")],
        }
    }

    fn missing_tokenizer(&self, prefix: &str) -> Vec<String> {
        let lacks = |file: &str| self.missing_file(&format!("{prefix}{file}"));
        if lacks("tokenizer.json").is_none() {
            return Vec::new();
        }
        ["vocab.json", "merges.txt"].into_iter().filter_map(lacks).collect()
    }
}
