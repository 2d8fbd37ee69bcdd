//! Named f32 tensors as safetensors bytes; equal tensors give equal bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

struct Bytes {
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl View for &Bytes {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// The little-endian bytes of a tensor, as f32.
pub fn raw(tensor: &Tensor) -> anyhow::Result<Vec<u8>> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut data = vec![0; tensor.numel() * 4];
    tensor.f_copy_data_u8(&mut data, tensor.numel())?;
    Ok(data)
}

/// A safetensors file of `tensors`.
pub fn to_bytes(tensors: &BTreeMap<String, Tensor>) -> anyhow::Result<Vec<u8>> {
    let mut views = BTreeMap::new();
    for (name, tensor) in tensors {
        let shape = tensor.size().iter().map(|&d| d as usize).collect();
        views.insert(name.clone(), Bytes { shape, data: raw(tensor)? });
    }
    Ok(safetensors::serialize(views.iter().map(|(name, view)| (name.as_str(), view)), None)?)
}

/// The tensors of a safetensors file; kinds other than f32 are refused by name. Errors name `path`.
pub fn from_bytes(path: &Path, bytes: &[u8]) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| anyhow::anyhow!("{}: not a readable safetensors file ({e})", path.display()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            let found = view.dtype();
            anyhow::bail!("{}: tensor {name} has dtype {found:?}, a checkpoint's are F32", path.display());
        }
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        tensors.insert(name.to_string(), Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?);
    }
    Ok(tensors)
}
