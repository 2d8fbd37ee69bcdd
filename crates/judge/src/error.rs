//! Why a judge cannot be loaded; the cause is always the input.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when a judge is loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The classifier was part of a training loss.
    #[error("{}: takes_part_in_losses is true: a classifier of a loss cannot score; use another one", .0.display())]
    InLoss(PathBuf),
    /// The classifier reads another CLIP's embeddings.
    #[error(
        "{}: was trained on the embeddings of {clip}, and the weights it is given have another hash; name the folder of \
         that CLIP",
        path.display()
    )]
    OtherClip {
        /// The classifier's config.json.
        path: PathBuf,
        /// The CLIP that it names.
        clip: String,
    },
    /// Configuration or weights cannot be read or used.
    #[error(transparent)]
    Model(#[from] diffusion::Error),
}
