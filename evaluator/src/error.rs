//! One error enum for the library half of the evaluator; messages say what was wrong, where, and what to do.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between a recipe and a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the recipe has a value that cannot work.
    #[error("{key}: {message}")]
    Config {
        /// The key's path.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A judge cannot be loaded or is not allowed to judge.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// The classifier reads the embeddings that a run was trained to please.
    #[error(
        "{}: reads the embeddings of {clip}, which took part in the loss of {run}: a judge that shares a loss's eyes \
         cannot score; use another one, or set models.allow_classifier_on_loss_clip, which the report will say",
        folder.display()
    )]
    ClassifierOnLossClip {
        /// The classifier's folder.
        folder: PathBuf,
        /// The CLIP as the run names it.
        clip: String,
        /// The run's folder.
        run: String,
    },
    /// A model or run cannot be read or used.
    #[error(transparent)]
    Model(#[from] diffusion::Error),
    /// A model cannot be found or fetched.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// The sources cannot be read.
    #[error(transparent)]
    Data(#[from] dataloader::Error),
    /// The recipe is not valid.
    #[error(transparent)]
    Recipe(#[from] recipe::RecipeError),
    /// The processes of one evaluation do not find or keep one another.
    #[error(transparent)]
    Ranks(#[from] collective::Error),
    /// A process of this evaluation has ended before its work was done.
    #[error("process {rank}: {whom}; what is finished is kept: start all processes again")]
    Gone {
        /// The process that noticed.
        rank: usize,
        /// Which are gone, and how.
        whom: String,
    },
    /// A tensor cannot be made, read or written.
    #[error(transparent)]
    Tensor(#[from] tch::TchError),
    /// Another evaluation holds the output folder.
    #[error("output_dir: {0}")]
    Busy(collective::LockError),
    /// A line of the history cannot be read.
    #[error("{}, line {line}: {reason}; mend or delete the line, or delete the file to make it anew from the reports", path.display())]
    History {
        /// The history.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
    /// A finished part is not what this evaluation writes.
    #[error("{}: {message}; delete it, and its batch is evaluated anew", path.display())]
    Part {
        /// The part.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The report cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A picture cannot be compressed.
    #[error("a picture cannot be encoded: {0}")]
    Picture(#[from] image::ImageError),
    /// The page cannot be rendered.
    #[error("the report's template: {0:#}")]
    Template(#[from] minijinja::Error),
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Config { key: key.into(), message: message.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    /// Whether the input is wrong (exit code 2) rather than the run (1).
    pub fn is_bad_input(&self) -> bool {
        match self {
            Error::Config { .. }
            | Error::ClassifierOnLossClip { .. }
            | Error::Recipe(_)
            | Error::History { .. }
            | Error::Busy(collective::LockError::Held { .. }) => true,
            Error::Model(error) | Error::Judge(judge::Error::Model(error)) => !error.is_failure(),
            Error::Hub(_) | Error::Judge(_) => true,
            Error::Data(error) => error.is_bad_input(),
            Error::Ranks(_)
            | Error::Gone { .. }
            | Error::Tensor(_)
            | Error::Busy(collective::LockError::Io { .. })
            | Error::Part { .. }
            | Error::Io { .. }
            | Error::Picture(_)
            | Error::Template(_) => false,
        }
    }
}
