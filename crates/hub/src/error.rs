//! Why a model cannot be found or fetched.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between a model's name and its files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is neither a path that exists nor an id.
    #[error("model {name}: no such folder or file, and not a hub id (org/name) either")]
    NoName {
        /// As written.
        name: String,
    },
    /// Nothing says where the cache is.
    #[error("model {id}: no such folder, and there is nowhere to look for a hub id: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set")]
    NoCache {
        /// The id.
        id: String,
    },
    /// Offline, and the cache does not have it.
    #[error("model {id}: no such folder, and {} (offline); give a folder, or fetch it once with: hf download {id} --exclude '*.bin' '*.ckpt'", found(folder, missing))]
    Offline {
        /// The id.
        id: String,
        /// The cache's folder for it.
        folder: PathBuf,
        /// What the snapshot lacks; empty if there is no snapshot.
        missing: Vec<String>,
    },
    /// The hub does not provide it.
    #[error("model {id}: {message}")]
    Fetch {
        /// The id.
        id: String,
        /// What was tried and what to do.
        message: String,
    },
}

fn found(folder: &Path, missing: &[String]) -> String {
    match missing.is_empty() {
        true => format!("not in the cache {}", folder.display()),
        false => format!("the cache {} holds it only in part, without {}", folder.display(), missing.join(", ")),
    }
}
