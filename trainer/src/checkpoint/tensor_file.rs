//! Named f32 tensors as safetensors bytes; equal tensors give equal bytes.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

/// A safetensors file of `tensors`.
pub fn to_bytes(tensors: &BTreeMap<String, Tensor>) -> anyhow::Result<Vec<u8>> {
    let single = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.to_kind(Kind::Float));
    Ok(diffusion::weights::to_bytes(&tensors.iter().map(single).collect::<Vec<_>>(), None)?)
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
