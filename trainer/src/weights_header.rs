//! The headers of weights files: sizes and types without reading the weights.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{bail, Context};

const MAX_HEADER_BYTES: u64 = 100 << 20;

/// Number of parameters in all of a model's files. A file shorter than its header says is an error that names it.
pub fn num_parameters(folder: &Path, stem: &str) -> anyhow::Result<u64> {
    let files = diffusion::weights::model_files(folder, stem)?;
    files.iter().map(|file| in_file(file)).sum()
}

fn in_file(path: &Path) -> anyhow::Result<u64> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let size = file.metadata().with_context(|| path.display().to_string())?.len();
    let damaged = || format!("{}: not a readable safetensors file; copy or download it again", path.display());
    let mut length = [0; 8];
    file.read_exact(&mut length).with_context(damaged)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES.min(size) {
        bail!("{} (its header would be {length} bytes)", damaged());
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).with_context(damaged)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&header).with_context(damaged)?;
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__").map(|(_, tensor)| tensor);
    let (mut count, mut end) = (0, 0);
    for tensor in tensors {
        let numbers = |key: &str| tensor[key].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64);
        count += numbers("shape").product::<u64>();
        end = end.max(numbers("data_offsets").next_back().unwrap_or(0));
    }
    if 8 + length + end != size {
        bail!("{} (it has {size} bytes, its header says {})", damaged(), 8 + length + end);
    }
    Ok(count)
}
