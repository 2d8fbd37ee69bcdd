//! The columns of what is computed once: inversions, and what CLIP sees of them. Any Parquet reader opens them.
//!
//! A row carries CRC-32s of its numbers, one for each piece that is read by itself. So nothing need be hashed before
//! the first row is read.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytemuck::NoUninit;
use half::f16;

use crate::error::{Error, Result};
use crate::format::manifest::Latent;

/// The image's id.
pub const IMAGE_ID: &str = "image_id";
/// The timestep of an embedding.
pub const TIMESTEP: &str = "timestep";
/// z_0, the image's own latent, not scaled.
pub const LATENT: &str = "latent";
/// The UNet's output at every timestep.
pub const OUTPUTS: &str = "outputs";
/// CLIP's embedding of a decoded P_t, not normalised.
pub const EMBEDDING: &str = "embedding";
/// CRC-32 of the latent's bytes and of each output's, or of the embedding's.
pub const CHECKS: &str = "checks";

/// The inversion of one image, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Inverted {
    /// blake3 of the image's pixels.
    pub image_id: String,
    /// Its split.
    pub split: String,
    /// z_0, not scaled, (c·h·w).
    pub latent: Vec<f16>,
    /// The UNet's output at every timestep, (n·c·h·w).
    pub outputs: Vec<f16>,
}

/// What CLIP sees of an image's P_t.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// blake3 of the image's pixels.
    pub image_id: String,
    /// t.
    pub timestep: i64,
    /// The embedding, not normalised, (p).
    pub embedding: Vec<f32>,
}

/// The schema of inversions over `num_timesteps` of latents of this shape.
pub fn inversions_schema(latent: &Latent, num_timesteps: usize) -> Schema {
    let shape = [latent.channels, latent.height, latent.width].map(|side| side as usize);
    let [channels, height, width] = shape;
    Schema::new(vec![
        text(IMAGE_ID),
        text("split"),
        numbers_field::<f16>(LATENT, "float16", &shape),
        numbers_field::<f16>(OUTPUTS, "float16", &[num_timesteps, channels, height, width]),
        numbers_field::<u32>(CHECKS, "uint32", &[1 + num_timesteps]),
    ])
}

/// The schema of embeddings of `width` numbers.
pub fn references_schema(width: usize) -> Schema {
    Schema::new(vec![
        text(IMAGE_ID),
        Field::new(TIMESTEP, DataType::Int32, false),
        numbers_field::<f32>(EMBEDDING, "float32", &[width]),
        numbers_field::<u32>(CHECKS, "uint32", &[1]),
    ])
}

/// Rows of inversions as a batch of `schema`. Refuses numbers that are not finite.
pub fn inversions_batch(schema: &Arc<Schema>, rows: &[Inverted]) -> Result<RecordBatch> {
    for row in rows {
        let bad = row.outputs.chunks(row.latent.len()).position(|output| !output.iter().all(|v| v.is_finite()));
        if let Some(k) = bad {
            let message = format!(
                "the UNet's output at timestep index {k} is not finite in half precision; set mixed_precision to bf16 or no"
            );
            return Err(Error::invalid(format!("image {}", row.image_id), message));
        }
    }
    let checks: Vec<Vec<u32>> = rows.iter().map(checks).collect();
    let columns = vec![
        texts(rows.iter().map(|row| row.image_id.as_str())),
        texts(rows.iter().map(|row| row.split.as_str())),
        numbers(rows.iter().map(|row| &row.latent[..]))?,
        numbers(rows.iter().map(|row| &row.outputs[..]))?,
        numbers(checks.iter().map(|row| &row[..]))?,
    ];
    RecordBatch::try_new(schema.clone(), columns).map_err(mismatch)
}

/// Rows of embeddings as a batch of `schema`. Refuses numbers that are not finite.
pub fn references_batch(schema: &Arc<Schema>, rows: &[Reference]) -> Result<RecordBatch> {
    if let Some(row) = rows.iter().find(|row| !row.embedding.iter().all(|v| v.is_finite())) {
        let message = format!("CLIP's embedding of its P_t at timestep {} is not finite", row.timestep);
        return Err(Error::invalid(format!("image {}", row.image_id), message));
    }
    let checks: Vec<[u32; 1]> = rows.iter().map(|row| [check(&row.embedding)]).collect();
    let columns = vec![
        texts(rows.iter().map(|row| row.image_id.as_str())),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.timestep as i32))) as ArrayRef,
        numbers(rows.iter().map(|row| &row.embedding[..]))?,
        numbers(checks.iter().map(|row| &row[..]))?,
    ];
    RecordBatch::try_new(schema.clone(), columns).map_err(mismatch)
}

/// CRC-32 of the numbers' little-endian bytes.
pub fn check<T: NoUninit>(numbers: &[T]) -> u32 {
    crc32fast::hash(bytemuck::cast_slice(numbers))
}

fn checks(row: &Inverted) -> Vec<u32> {
    std::iter::once(check(&row.latent)).chain(row.outputs.chunks(row.latent.len()).map(check)).collect()
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// A column of `T`s, little-endian. One value a row: as a list, Parquet would hold levels for each number, and its
/// writer would allocate memory for each in half precision. What NumPy calls the type, and the shape, are beside it.
fn numbers_field<T>(name: &str, numpy: &str, shape: &[usize]) -> Field {
    let bytes = shape.iter().product::<usize>() * size_of::<T>();
    let described = [("dtype".to_string(), numpy.to_string()), ("shape".to_string(), format!("{shape:?}"))];
    Field::new(name, DataType::FixedSizeBinary(bytes as i32), false).with_metadata(HashMap::from(described))
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn numbers<'a, T: NoUninit>(rows: impl Iterator<Item = &'a [T]>) -> Result<ArrayRef> {
    let array = FixedSizeBinaryArray::try_from_iter(rows.map(bytemuck::cast_slice::<T, u8>));
    Ok(Arc::new(array.map_err(mismatch)?))
}

fn mismatch(reason: impl ToString) -> Error {
    Error::invalid("rows", reason.to_string())
}
