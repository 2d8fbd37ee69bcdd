//! What the page says of the runs: emotions, settings, and the files and hashes that an edit comes from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diffusion::run::Run;
use serde_json::{json, Value};

/// The recipe as the trainer resolved it, in a run's folder.
const RECIPE: &str = "config.resolved.yaml";

/// A run as clients see it.
pub struct Card {
    /// Its folder's name, made unique.
    pub name: String,
    /// Its emotions.
    pub emotions: Vec<String>,
    /// For GET /api/runs.
    pub json: Value,
    files: Vec<File>,
}

struct File {
    name: String, // below the run's folder
    path: PathBuf,
    hash: String,
}

impl Card {
    /// The cards of all runs; `seen` is what the base model of each has seen only. Hashes every file of the runs.
    pub fn of_all(runs: &[Run], seen: &[Option<String>]) -> Result<Vec<Self>> {
        let mut names = HashSet::new();
        runs.iter().zip(seen).map(|(run, seen)| Self::of(run, unique(&mut names, run), seen.as_deref())).collect()
    }

    fn of(run: &Run, name: String, seen_only: Option<&str>) -> Result<Self> {
        let recipe = Some(run.folder.join(RECIPE)).filter(|path| path.is_file());
        let paths = run.files().into_iter().chain(recipe);
        let files = paths.map(|path| File::of(&run.folder, path)).collect::<Result<Vec<_>>>()?;
        let config = &run.config;
        let address = |file: &File| format!("/api/runs/{name}/files/{}", file.name);
        let recipe = files.iter().find(|file| file.name == RECIPE).map(address);
        let listed: Vec<Value> =
            files.iter().map(|file| json!({"name": file.name, "blake3": file.hash, "url": address(file)})).collect();
        let json = json!({
            "name": name,
            "emotions": config.emotions,
            "base": config.base,
            "prompts": config.prompts,
            "edit": config.edit,
            "resolution": config.resolution,
            "recipe": recipe,
            "files": listed,
            "seen_only": seen_only,
        });
        Ok(Self { emotions: config.emotions.clone(), name, json, files })
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.files.iter().find(|file| file.name == name).map(|file| &*file.path)
    }
}

impl File {
    fn of(folder: &Path, path: PathBuf) -> Result<Self> {
        let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        Ok(Self { name, hash: blake3::hash(&content).to_hex().to_string(), path })
    }
}

/// A name for addresses: letters, digits, '.', '_' and '-' of the folder's name, numbered if it is taken.
fn unique(taken: &mut HashSet<String>, run: &Run) -> String {
    let folder = run.folder.canonicalize().unwrap_or_else(|_| run.folder.clone());
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = folder.file_name().unwrap_or_default().to_string_lossy().chars().map(plain).collect();
    let name = if name.trim_matches('.').is_empty() { "run".to_string() } else { name };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.expect("there is always another number");
    taken.insert(free.clone());
    free
}
