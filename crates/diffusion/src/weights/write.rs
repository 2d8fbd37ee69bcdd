//! Tensors written as a safetensors file.

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Writes named tensors as one safetensors file in their own kinds, with `metadata` in the header; the file appears as
/// a whole.
pub fn write_file(path: &Path, tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Result<()> {
    durable::write(path, &to_bytes(tensors, metadata)?).map_err(|e| Error::io(path, e))
}

/// The content of the file that [`write_file`] writes; equal tensors give equal bytes.
pub fn to_bytes(tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Result<Vec<u8>> {
    let views = tensors.iter().map(|(name, t)| Ok((name.clone(), OwnedView::new(t)?))).collect::<Result<Vec<_>>>()?;
    let mut bytes =
        safetensors::serialize(views, metadata).map_err(|e| Error::invalid("tensors to save", e.to_string()))?;
    sort_metadata(&mut bytes);
    Ok(bytes)
}

/// Sorts the header's metadata, which comes from a hash map: equal tensors give equal files.
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
