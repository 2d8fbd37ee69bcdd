//! One error enum for the crate; every variant names the file or value at fault and says what to do.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between files on disk and tensors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A JSON file does not parse or lacks a key.
    #[error("{}: not a valid configuration: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// serde_json's reason, with line and column.
        source: serde_json::Error,
    },
    /// A configuration asks for something this crate does not implement.
    #[error("{}: {key}: {message}", path.display())]
    Unsupported {
        /// The config.json.
        path: PathBuf,
        /// The key whose value is at fault.
        key: String,
        /// What was found and what is supported.
        message: String,
    },
    /// Weights are only there as a pickle file, which can run code when read.
    #[error(
        "{}: pickle weights are refused because reading them can run code; convert them once with: \
         python3 -c 'import torch,sys;from safetensors.torch import save_file;\
         save_file({{k:v.contiguous() for k,v in torch.load(sys.argv[1],weights_only=True,map_location=\"cpu\").items()}},sys.argv[2])' \
         {} {}", path.display(), path.display(), path.with_extension("safetensors").display()
    )]
    Pickle {
        /// The refused file.
        path: PathBuf,
    },
    /// A weights file is damaged or not safetensors.
    #[error("{}: not a readable safetensors file ({message}); copy or download it again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// An index names a file that is not there.
    #[error("{}: no such file, and {} names it; the model is not here whole, copy or download it again", path.display(), index.display())]
    MissingShard {
        /// The file that is missing.
        path: PathBuf,
        /// The index that names it.
        index: PathBuf,
    },
    /// A tensor the configuration needs is not in the file.
    #[error("{}: tensor {name} is missing; the weights do not belong to this config.json", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor {name} has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape the configuration implies.
        expected: Vec<i64>,
        /// The shape in the file.
        found: Vec<i64>,
    },
    /// A tensor's element type is none of f32, f16, bf16.
    #[error("{}: tensor {name} has dtype {found}, expected f32, f16 or bf16", path.display())]
    Dtype {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type found.
        found: String,
    },
    /// The file holds tensors that the configuration does not use.
    #[error("{}: {count} tensors are not used by this architecture, first {first}; the weights do not belong to this config.json", path.display())]
    UnusedTensors {
        /// The file or folder.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first by name.
        first: String,
    },
    /// A photo cannot be read as an image.
    #[error("{}: not a readable image ({message})", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        message: String,
    },
    /// A value given by the caller is out of its range.
    #[error("{what}: {message}")]
    Invalid {
        /// The parameter, prompt or file.
        what: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A result is NaN or infinite. It is never shown, stored or measured as a picture.
    #[error("{what}: {count} of {total} values are not finite; {hint}")]
    NotFinite {
        /// What was computed.
        what: String,
        /// How many of its values are NaN or infinite.
        count: i64,
        /// How many there are.
        total: i64,
        /// Where this comes from and what to do.
        hint: &'static str,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    /// Refuses a tensor with a value that is NaN or infinite; `what` names it.
    pub(crate) fn unless_finite(what: impl Into<String>, tensor: &tch::Tensor) -> Result<()> {
        let finite = tensor.isfinite().sum(tch::Kind::Int64).int64_value(&[]);
        let total = tensor.numel() as i64;
        match finite == total {
            true => Ok(()),
            false => Err(Error::NotFinite {
                what: what.into(),
                count: total - finite,
                total,
                hint: "the weights, the scheduler's settings or the strength are beyond what this element type holds",
            }),
        }
    }

    /// Whether the computation failed rather than its input was wrong.
    pub fn is_failure(&self) -> bool {
        matches!(self, Error::Torch(_) | Error::NotFinite { .. })
    }

    pub(crate) fn invalid(what: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), message: message.into() }
    }
}
