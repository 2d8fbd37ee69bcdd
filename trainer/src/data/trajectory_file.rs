//! One source's inversion on disk: safetensors `latents` and the UNet's outputs, which are named `noises` because
//! they most often are, (n, c, h, w) f32 each, with their hash in the header. Timesteps are read one at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{bail, Context};
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use crate::checkpoint::tensor_file::{raw, write_whole};

const HASH_KEY: &str = "blake3";
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// Writes the whole file or nothing.
pub fn write(path: &Path, latents: &Tensor, noises: &Tensor) -> anyhow::Result<()> {
    let (first, second) = (raw(latents)?, raw(noises)?);
    let shape: Vec<usize> = latents.size().iter().map(|&d| d as usize).collect();
    let view = |data| safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), data);
    let hash = hash(&first, &second);
    let tensors = [("latents", view(&first)?), ("noises", view(&second)?)];
    let bytes = safetensors::serialize(tensors, Some(HashMap::from([(HASH_KEY.to_string(), hash)])))?;
    write_whole(path, &bytes)
}

fn hash(latents: &[u8], noises: &[u8]) -> String {
    blake3::Hasher::new().update(latents).update(noises).finalize().to_hex().to_string()
}

/// Whether the file is whole and of this shape. A file that cannot be read does not count as damaged.
pub fn is_good(path: &Path, shape: &[i64]) -> std::io::Result<bool> {
    let bytes = std::fs::read(path)?;
    let check = || -> anyhow::Result<bool> {
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let file = SafeTensors::deserialize(&bytes)?;
        let (latents, noises) = (file.tensor("latents")?, file.tensor("noises")?);
        let fits = |s: &[usize]| s.iter().map(|&d| d as i64).eq(shape.iter().copied());
        let stated = header.metadata().as_ref().and_then(|m| m.get(HASH_KEY));
        Ok(fits(latents.shape()) && fits(noises.shape()) && stated == Some(&hash(latents.data(), noises.data())))
    };
    Ok(check().unwrap_or(false))
}

/// z and the UNet's output at timestep index `k`, (c, h, w) each, of a file with `shape` (n, c, h, w).
pub fn read_timestep(path: &Path, shape: &[i64], k: usize) -> anyhow::Result<(Tensor, Tensor)> {
    let timestep_shape = &shape[1..];
    let timestep_bytes = timestep_shape.iter().product::<i64>() as u64 * 4;
    let read = || -> anyhow::Result<(Tensor, Tensor)> {
        let mut file = File::open(path)?;
        let data = data_offset(&mut file)?;
        let mut part = |tensor: u64| -> anyhow::Result<Tensor> {
            let mut bytes = vec![0; timestep_bytes as usize];
            file.seek(SeekFrom::Start(data + (tensor * shape[0] as u64 + k as u64) * timestep_bytes))?;
            file.read_exact(&mut bytes)?;
            Ok(Tensor::f_from_data_size(&bytes, timestep_shape, Kind::Float)?)
        };
        Ok((part(0)?, part(1)?))
    };
    read().with_context(|| format!("{}: cannot read this inversion; delete the file, it is made again", path.display()))
}

/// All timesteps: latents and noises, (n, c, h, w) each.
pub fn read_all(path: &Path) -> anyhow::Result<(Tensor, Tensor)> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut tensors = crate::checkpoint::tensor_file::from_bytes(path, &bytes)?;
    match (tensors.remove("latents"), tensors.remove("noises")) {
        (Some(latents), Some(noises)) => Ok((latents, noises)),
        _ => bail!("{}: not an inversion; delete the file, it is made again", path.display()),
    }
}

fn data_offset(file: &mut File) -> anyhow::Result<u64> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        bail!("a header of {length} bytes");
    }
    Ok(8 + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use diffusion::noise::normal;

    #[test]
    fn timesteps_come_back_and_damage_is_noticed() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.safetensors");
        let shape = [5, 2, 3, 3];
        let (latents, noises) = (normal(0, "z", 0, &shape), normal(0, "e", 0, &shape));
        write(&path, &latents, &noises)?;
        assert!(is_good(&path, &shape)? && !is_good(&path, &[4, 2, 3, 3])?);
        let (z, e) = read_timestep(&path, &shape, 3)?;
        assert_eq!((z, e), (latents.get(3), noises.get(3)));
        assert_eq!(read_all(&path)?, (latents, noises));
        let mut bytes = std::fs::read(&path)?;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes)?;
        assert!(!is_good(&path, &shape)?);
        std::fs::write(&path, &bytes[..last / 2])?;
        assert!(!is_good(&path, &shape)? && read_timestep(&path, &shape, 4).is_err());
        Ok(())
    }
}
