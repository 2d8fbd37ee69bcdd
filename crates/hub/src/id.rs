//! A hub id, `org/name` or `name`, with an optional `@revision`.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const DEFAULT_REVISION: &str = "main";

/// A repository of models at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    /// `org/name` or `name`.
    pub(crate) name: String,
    /// A branch, tag or commit.
    pub(crate) revision: String,
}

impl Id {
    /// Fails on names that cannot be an id, such as a path that does not exist.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let (repo, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
        let part = |s: &str| {
            let plain = s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            plain && !s.is_empty() && !s.starts_with('.') && !s.contains("..")
        };
        let parts: Vec<&str> = repo.split('/').collect();
        let safe_revision = !revision.is_empty() && revision.split('/').all(part);
        if parts.len() > 2 || !parts.iter().all(|p| part(p)) || !safe_revision {
            return Err(Error::NoName { name: name.into() });
        }
        Ok(Self { name: repo.into(), revision: revision.into() })
    }

    /// The error that the cache does not have it, or lacks these files of it, and nothing may be fetched.
    pub(crate) fn offline(&self, cache: &Path, missing: Vec<String>) -> Error {
        Error::Offline { id: self.name.clone(), folder: self.folder(cache), missing }
    }

    /// The error that the hub does not provide it.
    pub(crate) fn not_fetched(&self, message: String) -> Error {
        Error::Fetch { id: self.name.clone(), message }
    }

    /// Its folder in a cache.
    pub(crate) fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.name.replace('/', "--")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_says_so() {
        for path in ["./none", "/none/at/all", "a/b/c", "../x", "org/..", "", "org/name@../x"] {
            let message = Id::parse(path).expect_err("no id").to_string();
            assert!(message.contains("no such folder"), "{message}");
        }
        let id = Id::parse("org/name@refs/pr/1").expect("an id");
        assert_eq!(id, Id { name: "org/name".into(), revision: "refs/pr/1".into() });
    }
}
