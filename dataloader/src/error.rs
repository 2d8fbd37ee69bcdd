//! One error enum for the crate; every variant names the file or value at fault and says what to do.

use std::path::Path;

use recipe::secrets::masked;
use recipe::RecipeError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between images, shards and batches.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, folder or object could not be read or written.
    #[error("{url}: {message}")]
    Store {
        /// The file, folder or object.
        url: String,
        /// The system's or the store's reason.
        message: String,
    },
    /// A folder holds no manifest.json.
    #[error("{url}: not a data set: there is no manifest.json; make one with `dataloader shard --config …`")]
    NotADataset {
        /// The folder or URL.
        url: String,
    },
    /// The manifest is damaged, edited or of another version.
    #[error("{url}: {message}")]
    Manifest {
        /// The manifest.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// A shard is not the file its manifest describes.
    #[error("{url}: damaged shard: {message}; copy it again or re-run `dataloader shard`")]
    Shard {
        /// The shard.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file of what runs compute once is not what was written.
    #[error("{file}: damaged: {message}; delete the file: what is in it is computed again at the next start")]
    Precomputed {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// An image's bytes cannot be decoded.
    #[error("{path}: not a readable image ({message})")]
    Image {
        /// The image's path in its source.
        path: String,
        /// The decoder's reason.
        message: String,
    },
    /// No row is left after filtering.
    #[error("{url}: no row passes the filter ({filter}); `dataloader inspect {url}` shows what there is")]
    Empty {
        /// The data set.
        url: String,
        /// The filter, as YAML on one line.
        filter: String,
    },
    /// A value given by the caller is out of its range.
    #[error("{what}: {message}")]
    Invalid {
        /// The parameter or key.
        what: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// More images were unreadable than the recipe allows.
    #[error(
        "{bad} of {total} images were quarantined, more than quarantine.max_fraction {allowed} allows; first: {first}"
    )]
    TooManyQuarantined {
        /// How many were unusable.
        bad: usize,
        /// How many there were.
        total: usize,
        /// The recipe's limit.
        allowed: f64,
        /// Path and reason of the first.
        first: String,
    },
    /// A recipe is not valid.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Another program holds the output folder.
    #[cfg(feature = "encode")]
    #[error("output: {0}")]
    Busy(#[from] collective::LockError),
    /// A model cannot be loaded or run.
    #[cfg(feature = "encode")]
    #[error(transparent)]
    Model(#[from] diffusion::Error),
    /// A model cannot be found or fetched.
    #[cfg(feature = "encode")]
    #[error(transparent)]
    Hub(#[from] hub::Error),
}

impl Error {
    pub(crate) fn store(url: impl Into<String>, message: impl ToString) -> Self {
        let (url, message) = (url.into(), message.to_string());
        Error::Store { url: masked(&url).into_owned(), message: masked(&message).into_owned() }
    }

    pub(crate) fn file(path: &Path, reason: impl ToString) -> Self {
        Self::store(path.display().to_string(), reason)
    }

    pub(crate) fn shard(url: impl Into<String>, message: impl ToString) -> Self {
        Error::Shard { url: url.into(), message: message.to_string() }
    }

    /// A wrong value, and what is wrong with it.
    pub fn invalid(what: impl Into<String>, message: impl Into<String>) -> Self {
        let (what, message) = (what.into(), message.into());
        Error::Invalid { what: masked(&what).into_owned(), message: masked(&message).into_owned() }
    }

    /// Whether the input is wrong (a process should exit with 2), rather than the run.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Error::Store { .. } => false,
            #[cfg(feature = "encode")]
            Error::Busy(error) => matches!(error, collective::LockError::Held { .. }),
            #[cfg(feature = "encode")]
            Error::Model(error) => !error.is_failure(),
            _ => true,
        }
    }
}
