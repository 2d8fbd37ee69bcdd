//! A model by name: a folder, a single safetensors file, or a Hugging Face id, found in the local cache (the layout
//! that Python's huggingface_hub uses) or fetched into it.
//!
//! This is the only crate that fetches models over a network. It reads no environment: a program's `main` passes it
//! in.

mod environment;
mod error;
mod fetch;
mod id;
mod snapshot;

use std::path::{Path, PathBuf};

pub use error::{Error, Result};
use id::Id;
use snapshot::Snapshot;

/// Where models are looked up, and how they are fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct Hub {
    /// The folder that holds `models--org--name`; none if nothing says where it is.
    pub cache: Option<PathBuf>,
    /// Whether nothing may be fetched.
    pub offline: bool,
    /// The hub's address.
    pub endpoint: String,
    /// The token for models that are not public.
    pub token: Option<String>,
}

/// Without the token.
impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        let Self { cache, offline, endpoint, .. } = self;
        let mut hub = f.debug_struct("Hub");
        hub.field("cache", cache).field("offline", offline).field("endpoint", endpoint).field("token", &token).finish()
    }
}

impl Hub {
    /// A hub that never fetches, over the cache in `cache`.
    pub fn offline(cache: impl Into<PathBuf>) -> Self {
        let endpoint = environment::ENDPOINT.to_string();
        Self { cache: Some(cache.into()), offline: true, endpoint, token: None }
    }

    /// The same hub, but offline if `offline` says so.
    pub fn or_offline(&self, offline: bool) -> Self {
        Self { offline: self.offline || offline, ..self.clone() }
    }

    /// The pipeline, CLIP or other model `name`. If `name` is a folder or a safetensors file, it is the model itself;
    /// otherwise it is a hub id, whose snapshot is returned. Missing files are fetched unless that is forbidden.
    pub fn model(&self, name: &str) -> Result<PathBuf> {
        self.find(name, &[])
    }

    /// As [`Hub::model`], if only some `parts` of a pipeline are needed, such as `["vae"]`.
    pub fn parts(&self, name: &str, parts: &[&str]) -> Result<PathBuf> {
        self.find(name, parts)
    }

    fn find(&self, name: &str, parts: &[&str]) -> Result<PathBuf> {
        let path = Path::new(name);
        if path.is_dir() || path.is_file() {
            return Ok(path.to_path_buf());
        }
        let id = Id::parse(name)?;
        let Some(cache) = &self.cache else {
            return Err(Error::NoCache { id: name.into() });
        };
        let missing = match Snapshot::find(cache, &id) {
            Some(snapshot) => match snapshot.missing(parts) {
                missing if missing.is_empty() => return Ok(snapshot.folder),
                missing => missing,
            },
            None => Vec::new(),
        };
        if self.offline {
            return Err(id.offline(cache, missing));
        }
        if !missing.is_empty() {
            tracing::info!("model {}: fetching what the cache lacks: {}", id.name, missing.join(", "));
        }
        fetch::fetch(self, cache, &id)?;
        let Some(snapshot) = Snapshot::find(cache, &id) else {
            return Err(id.not_fetched("was fetched, but the cache does not hold it".into()));
        };
        match snapshot.missing(parts) {
            missing if missing.is_empty() => Ok(snapshot.folder),
            missing => Err(id.not_fetched(format!("has no {}; it is not a model for this use", missing.join(", ")))),
        }
    }
}
