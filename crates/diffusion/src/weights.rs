//! Safetensors weights by name: read once, checked for name, shape and dtype, every tensor accounted for.

mod file;
mod files;
pub(crate) mod names;
mod write;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use self::file::{Held, SafetensorsFile};
use crate::error::{Error, Result};

pub use files::{model_files, variant_rank, ModelFiles};
pub use write::{to_bytes, write_file};

/// The stem of diffusers' weights files.
pub const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";
/// The stem of transformers' weights files.
pub const TRANSFORMERS_STEM: &str = "model";

/// The memory format of convolution kernels. Images in a network follow the format of its kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryFormat {
    /// One channel after the other (NCHW).
    #[default]
    Contiguous,
    /// One pixel after the other, each with all its channels (NHWC); tensor cores compute in this format.
    ChannelsLast,
}

/// How much of a weights file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Everything: the network computes.
    Values,
    /// The headers only: every name, shape and dtype is checked, but the tensors hold no numbers and take no memory.
    /// A model that loads from its headers loads whole too.
    Shapes,
}

/// Where weights go, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Their device.
    pub device: Device,
    /// The kind they are cast to.
    pub kind: Kind,
    /// The memory format of kernels.
    pub memory_format: MemoryFormat,
    /// Whether their numbers are read.
    pub contents: Contents,
}

impl Placement {
    /// Values on `device` as `kind`, contiguous.
    pub fn new(device: Device, kind: Kind) -> Self {
        Self { device, kind, memory_format: MemoryFormat::default(), contents: Contents::Values }
    }

    /// No values: names, shapes and dtypes are checked from the headers alone.
    pub fn headers(kind: Kind) -> Self {
        Self { contents: Contents::Shapes, ..Self::new(Device::Cpu, kind) }
    }
}

/// All tensors of one model, from one safetensors file or a sharded set with its index.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    others: BTreeMap<String, String>, // dtypes of tensors that are not floating point
    metadata: HashMap<String, String>,
    used: RefCell<BTreeSet<String>>,
}

impl Weights {
    /// Reads the model `stem` in `folder`, whole or sharded, of the variant that [`model_files`] chooses.
    ///
    /// `stem` is `diffusion_pytorch_model` for diffusers and `model` for transformers.
    /// Fails on pickle-only folders and damaged files.
    pub fn from_folder(folder: &Path, stem: &str, placement: Placement) -> Result<Self> {
        let files = model_files(folder, stem)?;
        if let (Some(variant), Contents::Values) = (&files.variant, placement.contents) {
            let all = files.variants.join(", ");
            tracing::info!("{}: reading the variant {variant} (there: {all})", folder.display());
        }
        Self::from_files(folder, &files.paths, placement, |_| true)
    }

    /// Reads, of the model `stem` in a folder or of a single file, the tensors whose names `wanted` accepts.
    pub(crate) fn only(path: &Path, stem: &str, placement: Placement, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        match path.is_file() {
            true => Self::from_part(path, placement, wanted),
            false => Self::from_files(path, &model_files(path, stem)?.paths, placement, wanted),
        }
    }

    fn from_files(
        folder: &Path, paths: &[PathBuf], placement: Placement, wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut all = Held::default();
        for path in paths {
            let held = SafetensorsFile::open(path)?.read(placement, &wanted)?;
            if let Some(twice) = held.names().find(|name| all.has(name)) {
                let message = format!("tensor {twice} is in another of the shards too");
                return Err(Error::Weights { path: path.clone(), message });
            }
            all.tensors.extend(held.tensors);
            all.others.extend(held.others);
        }
        Ok(Self::of(folder.to_path_buf(), all, HashMap::new()).laid(placement))
    }

    /// Reads one safetensors file.
    pub fn from_file(path: &Path, placement: Placement) -> Result<Self> {
        Self::from_part(path, placement, |_| true)
    }

    /// Reads the tensors of one file whose names `wanted` accepts, as if the file held no others.
    pub(crate) fn from_part(path: &Path, placement: Placement, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let metadata = file.metadata();
        Ok(Self::of(path.to_path_buf(), file.read(placement, wanted)?, metadata).laid(placement))
    }

    fn of(path: PathBuf, held: Held, metadata: HashMap<String, String>) -> Self {
        let Held { tensors, others } = held;
        Self { path, tensors, others, metadata, used: RefCell::default() }.rename(names::without_wrappers)
    }

    /// The view from which networks take their tensors.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// The names of all tensors, including those that are not floating point.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().chain(self.others.keys()).map(String::as_str)
    }

    /// Every floating-point tensor by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names and dtypes of the tensors that are not floating point.
    pub(crate) fn not_floating(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().map(|(name, dtype)| (name.as_str(), dtype.as_str()))
    }

    /// The string metadata of a single file's header.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// How many numbers all floating-point tensors hold.
    pub fn num_parameters(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.numel() as u64).sum()
    }

    /// Puts the kernels of convolutions (out, in, h, w) into the memory format; their values stay.
    fn laid(mut self, placement: Placement) -> Self {
        if placement.memory_format == MemoryFormat::ChannelsLast && placement.contents == Contents::Values {
            self.tensors.values_mut().filter(|tensor| tensor.dim() == 4).for_each(|kernel| {
                *kernel = kernel.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
            });
        }
        self
    }

    /// Renames every tensor; old checkpoints' names are translated here.
    pub fn rename(mut self, rename: impl Fn(&str) -> String) -> Self {
        self.tensors = std::mem::take(&mut self.tensors).into_iter().map(|(k, v)| (rename(&k), v)).collect();
        self.others = std::mem::take(&mut self.others).into_iter().map(|(k, v)| (rename(&k), v)).collect();
        self
    }

    /// Replaces each floating-point tensor by the tensors, with their names, that `convert` makes of it.
    pub(crate) fn convert(mut self, convert: impl Fn(String, Tensor) -> Result<Vec<(String, Tensor)>>) -> Result<Self> {
        let mut converted = BTreeMap::new();
        for (name, tensor) in std::mem::take(&mut self.tensors) {
            converted.extend(convert(name, tensor)?);
        }
        self.tensors = converted;
        Ok(self)
    }

    /// Keeps only the tensors whose names `wanted` accepts.
    pub(crate) fn retain(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        self.tensors.retain(|name, _| wanted(name));
        self.others.retain(|name, _| wanted(name));
        self
    }

    /// Fails if a tensor was never asked for, other than those `ignored` allows (buffers such as `position_ids`).
    pub fn finish(&self, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let used = self.used.borrow();
        let unused: Vec<&str> = self.names().filter(|k| !used.contains(*k) && !ignored(k)).collect();
        match unused.first() {
            None => Ok(()),
            Some(first) => {
                Err(Error::UnusedTensors { path: self.path.clone(), count: unused.len(), first: (*first).into() })
            }
        }
    }
}

/// A prefix into [`Weights`], written `unet.down_blocks.0`.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The scope one name below this one.
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        Scope { weights: self.weights, prefix: self.key(&name.to_string()) }
    }

    /// Whether a tensor of that name exists here.
    pub fn has(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(&self.key(name))
    }

    /// The tensor `name`, which must have `shape`.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.tensor_of_any_shape(name)?;
        if tensor.size() != shape {
            return Err(Error::Shape {
                path: self.weights.path.clone(),
                name: self.key(name),
                expected: shape.to_vec(),
                found: tensor.size(),
            });
        }
        Ok(tensor)
    }

    /// The tensor `name`, whatever its shape.
    pub fn tensor_of_any_shape(&self, name: &str) -> Result<Tensor> {
        let key = self.key(name);
        let Some(tensor) = self.weights.tensors.get(&key) else {
            let path = self.weights.path.clone();
            return Err(match self.weights.others.get(&key) {
                Some(found) => Error::Dtype { path, name: key, found: found.clone() },
                None => Error::MissingTensor { path, name: key },
            });
        };
        self.weights.used.borrow_mut().insert(key);
        Ok(tensor.shallow_clone())
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}

/// blake3 over the bytes of a model's weights files, in order: what shards and runs record.
pub fn hash(folder: &Path, stem: &str) -> Result<String> {
    let files = model_files(folder, stem)?.paths;
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    hashes::of("bytes, one file after the other", &paths, || {
        let mut hasher = blake3::Hasher::new();
        for &path in &paths {
            let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
            hasher.update_reader(file).map_err(|e| Error::io(path, e))?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    })
}

/// blake3 over the tensors of one file whose names begin with `prefix`, names and bytes: what identifies a part of it.
pub(crate) fn hash_within(path: &Path, prefix: &str) -> Result<String> {
    hashes::of(&format!("tensors below {prefix}"), &[path], || {
        let mut hasher = blake3::Hasher::new();
        let wanted = |name: &str| name.starts_with(prefix);
        SafetensorsFile::open(path)?.each(wanted, |name, bytes| {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        })?;
        Ok(hasher.finalize().to_hex().to_string())
    })
}

/// The 64-bit integer `name` in a safetensors file, where it holds one.
pub(crate) fn integer(path: &Path, name: &str) -> Result<Option<i64>> {
    let mut found = None;
    SafetensorsFile::open(path)?.each(
        |other| other == name,
        |_, bytes| {
            found = bytes.try_into().ok().map(i64::from_le_bytes);
        },
    )?;
    Ok(found)
}

/// The string metadata in a safetensors file's header.
pub fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    Ok(SafetensorsFile::open(path)?.metadata())
}
