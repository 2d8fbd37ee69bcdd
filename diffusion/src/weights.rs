//! Safetensors weights by name: read once, checked for name, shape and dtype, every tensor accounted for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// How the numbers of a kernel follow one another in memory; images on their way through a network follow its kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// A channel after the other (NCHW).
    #[default]
    Contiguous,
    /// A pixel after the other, each with all its channels (NHWC): what a GPU's tensor cores compute in.
    ChannelsLast,
}

/// All tensors of one model, from one safetensors file or a sharded set with its index.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    used: RefCell<BTreeSet<String>>,
}

impl Weights {
    /// Reads `folder`/`stem`.safetensors, or the shards named by `folder`/`stem`.safetensors.index.json, as `kind` on `device`.
    ///
    /// `stem` is `diffusion_pytorch_model` for diffusers and `model` for transformers.
    /// Fails on pickle-only folders, damaged files and tensors that are not floating point.
    pub fn from_folder(folder: &Path, stem: &str, device: Device, kind: Kind) -> Result<Self> {
        let files = model_files(folder, stem)?;
        let mut all = BTreeMap::new();
        for file in &files {
            all.extend(read_file(file, device, kind)?);
        }
        Ok(Self::from_tensors(folder.to_path_buf(), all))
    }

    /// Reads one safetensors file as `kind` on `device`.
    pub fn from_file(path: &Path, device: Device, kind: Kind) -> Result<Self> {
        Ok(Self::from_tensors(path.to_path_buf(), read_file(path, device, kind)?))
    }

    /// Wraps tensors that are already in memory; `path` is what errors will name.
    pub fn from_tensors(path: PathBuf, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { path, tensors, used: RefCell::default() }
    }

    /// The view from which networks take their tensors.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// Lays the kernels of convolutions (out, in, h, w) as `layout` says; their values stay.
    pub fn laid(mut self, layout: Layout) -> Self {
        if layout == Layout::ChannelsLast {
            self.tensors.values_mut().filter(|tensor| tensor.dim() == 4).for_each(|kernel| {
                *kernel = kernel.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
            });
        }
        self
    }

    /// Renames every tensor: the room for old checkpoints' names.
    pub fn rename(mut self, rename: impl Fn(&str) -> String) -> Self {
        self.tensors = std::mem::take(&mut self.tensors).into_iter().map(|(k, v)| (rename(&k), v)).collect();
        self
    }

    /// Fails if a tensor was never asked for, other than those `ignored` allows (buffers such as `position_ids`).
    pub fn finish(&self, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let used = self.used.borrow();
        let unused: Vec<&String> = self.tensors.keys().filter(|k| !used.contains(*k) && !ignored(k)).collect();
        match unused.first() {
            None => Ok(()),
            Some(first) => {
                Err(Error::UnusedTensors { path: self.path.clone(), count: unused.len(), first: (*first).clone() })
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
            return Err(Error::MissingTensor { path: self.weights.path.clone(), name: key });
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

/// The safetensors files that make up a model in `folder`: one, or the shards of an index, sorted.
pub fn model_files(folder: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let whole = folder.join(format!("{stem}.safetensors"));
    if whole.is_file() {
        return Ok(vec![whole]);
    }
    let index = folder.join(format!("{stem}.safetensors.index.json"));
    if index.is_file() {
        return index_files(folder, &index);
    }
    let half = folder.join(format!("{stem}.fp16.safetensors"));
    if half.is_file() {
        return Ok(vec![half]);
    }
    for pickle in [format!("{stem}.bin"), format!("{stem}.pt"), format!("{stem}.ckpt"), "pytorch_model.bin".into()] {
        let path = folder.join(pickle);
        if path.is_file() {
            return Err(Error::Pickle { path });
        }
    }
    Err(Error::io(
        whole,
        std::io::Error::new(std::io::ErrorKind::NotFound, "no such file; expected the model's weights here"),
    ))
}

fn index_files(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let json = read_json(index)?;
    let Some(map) = json.get("weight_map").and_then(|m| m.as_object()) else {
        return Err(Error::Weights { path: index.to_path_buf(), message: "no weight_map".into() });
    };
    let mut names = BTreeSet::new();
    for name in map.values().filter_map(|v| v.as_str()) {
        if name.contains('/') || name.contains("..") {
            return Err(Error::Weights {
                path: index.to_path_buf(),
                message: format!("shard {name} lies outside the folder"),
            });
        }
        names.insert(folder.join(name));
    }
    Ok(names.into_iter().collect())
}

/// blake3 over the bytes of a model's weights files, in order: what shards and runs record.
pub fn hash(folder: &Path, stem: &str) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for path in model_files(folder, stem)? {
        let file = std::fs::File::open(&path).map_err(|e| Error::io(&path, e))?;
        hasher.update_reader(file).map_err(|e| Error::io(&path, e))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A JSON file as a value, errors naming the file.
pub fn read_json(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

fn read_file(path: &Path, device: Device, kind: Kind) -> Result<BTreeMap<String, Tensor>> {
    if path.extension().is_some_and(|e| ["bin", "pt", "pth", "ckpt", "pkl"].iter().any(|p| e == *p)) {
        return Err(Error::Pickle { path: path.to_path_buf() });
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .map_err(|e| Error::Weights { path: path.to_path_buf(), message: e.to_string() })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let found = match view.dtype() {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::F16 => Kind::Half,
            safetensors::Dtype::BF16 => Kind::BFloat16,
            safetensors::Dtype::F64 => Kind::Double,
            // Index buffers (position_ids) are never asked for; a wrong weight is refused where it is used.
            safetensors::Dtype::I64 => continue,
            other => {
                return Err(Error::Dtype { path: path.to_path_buf(), name: name.into(), found: format!("{other:?}") })
            }
        };
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, found)?;
        tensors.insert(name.to_string(), tensor.to_kind(kind).to_device(device));
    }
    Ok(tensors)
}

/// Writes named tensors as one safetensors file in their own kinds, with `metadata` in the header.
pub fn write_file(
    path: &Path, tensors: &[(String, Tensor)], metadata: Option<std::collections::HashMap<String, String>>,
) -> Result<()> {
    let views = tensors.iter().map(|(name, t)| Ok((name.clone(), OwnedView::new(t)?))).collect::<Result<Vec<_>>>()?;
    let mut bytes = safetensors::serialize(views, metadata)
        .map_err(|e| Error::Weights { path: path.to_path_buf(), message: e.to_string() })?;
    sort_metadata(&mut bytes);
    std::fs::write(path, bytes).map_err(|e| Error::io(path, e))
}

/// Sorts the header's metadata, which comes out of a hash map: equal tensors make equal files.
fn sort_metadata(bytes: &mut [u8]) {
    let (length, rest) = bytes.split_at_mut(8);
    let length = u64::from_le_bytes(length.try_into().expect("invariant: eight bytes")) as usize;
    let header = &mut rest[..length];
    let mut keys: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).expect("invariant: the header was just written");
    if let Some(serde_json::Value::Object(metadata)) = keys.get_mut("__metadata__") {
        metadata.sort_keys();
        let sorted = serde_json::to_vec(&keys).expect("invariant: JSON");
        header.fill(b' ');
        header[..sorted.len()].copy_from_slice(&sorted);
    }
}

/// The string metadata in a safetensors file's header.
pub fn read_metadata(path: &Path) -> Result<std::collections::HashMap<String, String>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|e| Error::Weights { path: path.to_path_buf(), message: e.to_string() })?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// A tensor's bytes, copied out of libtorch for the safetensors writer.
struct OwnedView {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl OwnedView {
    fn new(tensor: &Tensor) -> Result<Self> {
        let dtype = match tensor.kind() {
            Kind::Float => safetensors::Dtype::F32,
            Kind::Half => safetensors::Dtype::F16,
            Kind::BFloat16 => safetensors::Dtype::BF16,
            Kind::Double => safetensors::Dtype::F64,
            Kind::Int64 => safetensors::Dtype::I64,
            other => return Err(Error::invalid("tensor to save", format!("kind {other:?} is not supported"))),
        };
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let mut data = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut data, tensor.numel())?;
        Ok(Self { dtype, shape: tensor.size().iter().map(|&d| d as usize).collect(), data })
    }
}

impl safetensors::View for OwnedView {
    fn dtype(&self) -> safetensors::Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        std::borrow::Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}
