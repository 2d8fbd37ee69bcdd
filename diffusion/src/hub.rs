//! A model by name: a folder, or a Hugging Face id found in the local cache (the layout Python's huggingface_hub
//! uses) or fetched into it.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::{Error, Result};

/// Files that mark a snapshot as a model. They are fetched last, so a fetch that broke off is taken up again.
const ROOT_FILES: [&str; 2] = ["model_index.json", "config.json"];
const DEFAULT_REVISION: &str = "main";

/// Where models are looked up. Only a program's `main` reads the environment that decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// HF_HOME: the folder that holds `hub/models--org--name`.
    pub home: PathBuf,
    /// HF_HUB_OFFLINE: never fetch.
    pub offline: bool,
}

/// A hub id, `org/name` or `name`, with an optional `@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Id {
    name: String,
    revision: String,
}

/// The folder of the model `name`: `name` itself where it is a folder, otherwise the cached snapshot of that hub id,
/// otherwise, unless offline, the snapshot after fetching its configuration and safetensors.
pub fn resolve(name: &str, hub: &Hub) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let id = Id::parse(name)?;
    if let Some(snapshot) = cached(&id, hub) {
        return Ok(snapshot);
    }
    if hub.offline {
        return Err(id.error(format!(
            "no such folder, and not in the cache {} (offline); give a folder, or fetch it once with: \
             huggingface-cli download {} --exclude '*.bin' '*.ckpt'",
            id.folder(hub).display(),
            id.name
        )));
    }
    fetch(&id, hub)
}

impl Id {
    fn parse(name: &str) -> Result<Self> {
        let (repo, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
        let part = |s: &str| {
            let plain = s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            plain && !s.is_empty() && !s.starts_with('.') && !s.contains("..")
        };
        let parts: Vec<&str> = repo.split('/').collect();
        let safe_revision = !revision.is_empty() && revision.split('/').all(part);
        if parts.len() > 2 || !parts.iter().all(|p| part(p)) || !safe_revision {
            let message = "no such folder, and not a hub id (org/name) either".to_string();
            return Err(Error::Hub { id: name.into(), message });
        }
        Ok(Self { name: repo.into(), revision: revision.into() })
    }

    fn folder(&self, hub: &Hub) -> PathBuf {
        hub.home.join("hub").join(format!("models--{}", self.name.replace('/', "--")))
    }

    fn error(&self, message: String) -> Error {
        Error::Hub { id: self.name.clone(), message }
    }
}

/// The complete snapshot in the cache: the one that refs/<revision> names, or <revision> itself if it is a commit.
fn cached(id: &Id, hub: &Hub) -> Option<PathBuf> {
    let folder = id.folder(hub);
    let written = std::fs::read_to_string(folder.join("refs").join(&id.revision)).ok();
    let commit = written.as_deref().map_or(id.revision.as_str(), str::trim);
    let snapshot = folder.join("snapshots").join(commit);
    ROOT_FILES.iter().any(|file| snapshot.join(file).is_file()).then_some(snapshot)
}

fn fetch(id: &Id, hub: &Hub) -> Result<PathBuf> {
    let advice = "check the id and the connection, or give a folder";
    let failed = |e: hf_hub::api::sync::ApiError| id.error(format!("could not be fetched ({e}); {advice}"));
    let cache = Cache::new(hub.home.join("hub"));
    let api = ApiBuilder::from_cache(cache).with_progress(false).build().map_err(failed)?;
    let repo = api.repo(Repo::with_revision(id.name.clone(), RepoType::Model, id.revision.clone()));
    let siblings = repo.info().map_err(failed)?.siblings;
    let files = wanted(siblings.into_iter().map(|s| s.rfilename).collect());
    if !files.iter().any(|f| f.ends_with(".safetensors")) {
        return Err(id.error("has no safetensors weights; choose a repository or revision that has".into()));
    }
    download(&repo, &files).map_err(failed)?;
    cached(id, hub).ok_or_else(|| {
        id.error(format!(
            "was fetched but holds no {}; it is not a diffusers or transformers model",
            ROOT_FILES.join(" or ")
        ))
    })
}

fn download(repo: &ApiRepo, files: &[String]) -> std::result::Result<(), hf_hub::api::sync::ApiError> {
    files.iter().try_for_each(|file| repo.get(file).map(|_| ()))
}

/// Configuration, vocabularies and weights, one precision each, no single-file checkpoints of whole pipelines; the
/// files of [`ROOT_FILES`] last.
fn wanted(all: Vec<String>) -> Vec<String> {
    let pipeline = all.iter().any(|f| f == "model_index.json");
    let takes = |file: &String| {
        let text = file.ends_with(".json") || file.ends_with(".txt");
        let variant = [".fp16.", ".non_ema.", ".bf16."].iter().any(|v| file.contains(v));
        let weights = file.ends_with(".safetensors") && !variant && (!pipeline || file.contains('/'));
        (text || weights) && !file.contains("..") && !skipped_component(file)
    };
    let mut files: Vec<String> = all.into_iter().filter(takes).collect();
    files.sort_by_key(|f| (ROOT_FILES.contains(&f.as_str()), f.clone()));
    files
}

fn skipped_component(file: &str) -> bool {
    ["safety_checker/", "onnx/", "flax/", "openvino/"].iter().any(|c| file.starts_with(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offline(home: &Path) -> Hub {
        Hub { home: home.to_path_buf(), offline: true }
    }

    fn snapshot(home: &Path, repo: &str, commit: &str, file: &str) -> PathBuf {
        let folder = home.join("hub").join(repo).join("snapshots").join(commit);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(file), "{}").expect("a file");
        folder
    }

    fn reference(home: &Path, repo: &str, name: &str, commit: &str) {
        let refs = home.join("hub").join(repo).join("refs");
        std::fs::create_dir_all(&refs).expect("a folder");
        std::fs::write(refs.join(name), commit).expect("a file");
    }

    #[test]
    fn a_folder_is_itself() {
        let home = tempfile::tempdir().expect("a folder");
        let name = home.path().to_str().expect("a name");
        assert_eq!(resolve(name, &offline(home.path())).expect("found"), home.path());
    }

    #[test]
    fn an_id_is_found_where_python_left_it() {
        let home = tempfile::tempdir().expect("a folder");
        let repo = "models--org--a-model.1";
        let old = snapshot(home.path(), repo, "aaaa", "model_index.json");
        let new = snapshot(home.path(), repo, "bbbb", "config.json");
        reference(home.path(), repo, "main", "bbbb\n");
        reference(home.path(), repo, "fp16", "aaaa");
        let hub = offline(home.path());
        assert_eq!(resolve("org/a-model.1", &hub).expect("main"), new);
        assert_eq!(resolve("org/a-model.1@fp16", &hub).expect("a branch"), old);
        assert_eq!(resolve("org/a-model.1@aaaa", &hub).expect("a commit"), old);
    }

    #[test]
    fn a_missing_model_says_where_it_was_sought_and_what_to_do() {
        let home = tempfile::tempdir().expect("a folder");
        snapshot(home.path(), "models--org--half", "cccc", "unfinished.json");
        reference(home.path(), "models--org--half", "main", "cccc");
        for id in ["org/none", "org/half", "gpt2"] {
            let message = resolve(id, &offline(home.path())).expect_err("not there").to_string();
            assert!(message.contains(id) && message.contains("models--"), "{message}");
            assert!(message.contains("huggingface-cli download"), "{message}");
        }
        for path in ["./none", "/none/at/all", "a/b/c", "../x", "org/..", "", "org/name@../x"] {
            let message = resolve(path, &offline(home.path())).expect_err("no id").to_string();
            assert!(message.contains("no such folder"), "{message}");
        }
    }

    #[test]
    fn only_what_is_needed_is_fetched_and_the_index_last() {
        let all = [
            "model_index.json",
            "v1-5-pruned.safetensors",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "safety_checker/model.safetensors",
            "tokenizer/merges.txt",
            "README.md",
        ];
        let files = wanted(all.iter().map(|f| f.to_string()).collect());
        let expected = [
            "tokenizer/merges.txt",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "model_index.json",
        ];
        assert_eq!(files, expected);
        let clip = wanted(vec!["config.json".into(), "model.safetensors".into(), "pytorch_model.bin".into()]);
        assert_eq!(clip, ["model.safetensors", "config.json"]);
    }
}
