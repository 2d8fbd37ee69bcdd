//! The columns of a trajectory's timesteps.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::{LATENT, NOISE};

/// The Arrow schema: image, split, rung (the timestep's index), timestep, and (c·h·w) numbers each of latent and noise.
pub fn schema(width: usize) -> Schema {
    let list = |name| Field::new(name, DataType::FixedSizeList(item(), width as i32), false);
    Schema::new(vec![
        Field::new("image_id", DataType::Utf8, false),
        Field::new("split", DataType::Utf8, false),
        Field::new("rung", DataType::Int32, false),
        Field::new("timestep", DataType::Int32, false),
        list(LATENT),
        list(NOISE),
    ])
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, false))
}

/// One image's timesteps; `latents` and `noises` hold (n, c·h·w) numbers each.
pub fn batch(
    image_id: &str, split: &str, timesteps: &[i64], latents: Vec<f32>, noises: Vec<f32>,
) -> Result<RecordBatch, String> {
    let num_timesteps = timesteps.len();
    let width = latents.len() / num_timesteps.max(1);
    let text =
        |value: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, num_timesteps))) as ArrayRef;
    let whole = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let list = |values: Vec<f32>| -> Result<ArrayRef, String> {
        let values = Arc::new(Float32Array::from(values));
        let list = FixedSizeListArray::try_new(item(), width as i32, values, None);
        Ok(Arc::new(list.map_err(|e| e.to_string())?))
    };
    let columns = vec![
        text(image_id),
        text(split),
        whole((0..num_timesteps as i32).collect()),
        whole(timesteps.iter().map(|&t| t as i32).collect()),
        list(latents)?,
        list(noises)?,
    ];
    RecordBatch::try_new(Arc::new(schema(width)), columns).map_err(|e| e.to_string())
}
