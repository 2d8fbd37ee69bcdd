//! One safetensors file: its header, and its tensors with their numbers or as shapes alone.
//!
//! The format: the header's length in 8 bytes, a JSON header of names, dtypes, shapes and offsets, then the numbers.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::{Contents, Placement};
use crate::error::{Error, Result};

/// The format's own limit, as the safetensors library sets it.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;

/// A safetensors file whose header was read and fits its length.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    data: u64,
}

/// What a file holds: its floating-point tensors, and the dtypes of all others by name.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) others: BTreeMap<String, String>,
}

impl Held {
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys().chain(self.others.keys())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.others.contains_key(name)
    }
}

impl SafetensorsFile {
    /// Opens `path` and reads its header. Fails on pickles, and on files that are not what their header says.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|e| ["bin", "pt", "pth", "ckpt", "pkl"].iter().any(|p| e == *p)) {
            return Err(Error::Pickle { path: path.to_path_buf() });
        }
        let io = |e| Error::io(path, e);
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let damaged = |message: String| Error::Weights { path: path.to_path_buf(), message };
        let mut length = [0; LENGTH_BYTES as usize];
        if size < LENGTH_BYTES {
            return Err(damaged(format!("it has {size} bytes")));
        }
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES.min(size - LENGTH_BYTES) {
            return Err(damaged(format!("its header would be {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
        let data = LENGTH_BYTES + length;
        let stated = data + header.data_len() as u64;
        if stated != size {
            return Err(damaged(format!("it has {size} bytes, its header says {stated}")));
        }
        Ok(Self { path: path.to_path_buf(), file, header, data })
    }

    /// The header's string metadata.
    pub(super) fn metadata(&self) -> HashMap<String, String> {
        self.header.metadata().clone().unwrap_or_default()
    }

    /// Every tensor whose name `wanted` accepts, placed as `placement` says. They are read one after another, so that
    /// only one more is in memory at any time.
    pub(super) fn read(mut self, placement: Placement, wanted: impl Fn(&str) -> bool) -> Result<Held> {
        let mut held = Held::default();
        for name in self.header.offset_keys().into_iter().filter(|name| wanted(name)) {
            let info = self.header.info(&name).expect("invariant: the name is the header's");
            let Some(kind) = kind_of(info.dtype) else {
                held.others.insert(name, format!("{:?}", info.dtype));
                continue;
            };
            let (shape, offset) = (shape_of(&self.path, &name, info)?, info.data_offsets);
            let tensor = match placement.contents {
                Contents::Shapes => shape_alone(&shape, placement.kind)?,
                Contents::Values => {
                    let bytes = self.bytes(offset)?;
                    let tensor = Tensor::f_from_data_size(&bytes, &shape, kind)?;
                    tensor.f_to_kind(placement.kind)?.f_to_device(placement.device)?
                }
            };
            held.tensors.insert(name, tensor);
        }
        Ok(held)
    }

    /// The raw bytes of every tensor whose name `wanted` accepts, in the file's order.
    pub(super) fn each(mut self, wanted: impl Fn(&str) -> bool, mut take: impl FnMut(&str, &[u8])) -> Result<()> {
        for name in self.header.offset_keys() {
            if wanted(&name) {
                let offset = self.header.info(&name).expect("invariant: the name is the header's").data_offsets;
                take(&name, &self.bytes(offset)?);
            }
        }
        Ok(())
    }

    fn bytes(&mut self, (start, end): (usize, usize)) -> Result<Vec<u8>> {
        let mut bytes = vec![0; end - start];
        let read = self.file.seek(SeekFrom::Start(self.data + start as u64));
        read.and_then(|_| self.file.read_exact(&mut bytes)).map_err(|e| Error::io(&self.path, e))?;
        Ok(bytes)
    }
}

/// The kind of a floating-point dtype that libtorch computes in.
fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

fn shape_of(path: &Path, name: &str, info: &TensorInfo) -> Result<Vec<i64>> {
    let side = |&side: &usize| i64::try_from(side).ok();
    info.shape.iter().map(side).collect::<Option<_>>().ok_or_else(|| Error::Weights {
        path: path.to_path_buf(),
        message: format!("tensor {name} has the shape {:?}", info.shape),
    })
}

/// A tensor of that shape over a single zero: a loader can check everything about it, and nothing is read or held.
fn shape_alone(shape: &[i64], kind: Kind) -> Result<Tensor> {
    let ones = vec![1i64; shape.len()];
    Ok(Tensor::f_zeros(ones.as_slice(), (kind, Device::Cpu))?.f_expand(shape, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        std::fs::write(file.path(), bytes).expect("a file to write");
        file
    }

    #[test]
    fn shapes_alone_are_the_shapes_of_the_values() {
        let header = r#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},
            "n":{"dtype":"I32","shape":[1],"data_offsets":[12,16]},"s":{"dtype":"F32","shape":[],"data_offsets":[16,20]}}"#;
        let file = write(header, &[0; 20]);
        let read = |contents| {
            let placement = Placement { contents, ..Placement::new(Device::Cpu, Kind::Float) };
            SafetensorsFile::open(file.path()).and_then(|f| f.read(placement, |_| true)).expect("a good file")
        };
        let (values, shapes) = (read(Contents::Values), read(Contents::Shapes));
        assert_eq!(values.others, BTreeMap::from([("n".to_string(), "I32".to_string())]));
        assert_eq!(values.others, shapes.others);
        let described =
            |held: &Held| held.tensors.iter().map(|(name, t)| (name.clone(), t.size(), t.kind())).collect::<Vec<_>>();
        assert_eq!(described(&values), described(&shapes));
        assert_eq!(shapes.tensors["a"].size(), [2, 3]);
    }

    #[test]
    fn what_is_damaged_is_refused_before_anything_is_allocated() {
        let one = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        for (header, data) in [
            (one, 3),
            (one, 5),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
            ("{}}", 0),
        ] {
            let file = write(header, &vec![0; data]);
            let error = SafetensorsFile::open(file.path()).expect_err(header).to_string();
            assert!(error.contains("not a readable safetensors file"), "{error}");
        }
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        for bytes in [vec![], vec![1; 5], u64::MAX.to_le_bytes().to_vec(), (1u64 << 40).to_le_bytes().to_vec()] {
            std::fs::write(file.path(), &bytes).expect("a file to write");
            assert!(SafetensorsFile::open(file.path()).is_err(), "{bytes:?}");
        }
    }
}
