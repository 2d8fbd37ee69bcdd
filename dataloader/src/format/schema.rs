//! The columns of a shard, as Arrow types and as Hugging Face features.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::{json, Map, Value};

/// The training image, as Hugging Face stores one: its compressed bytes and its path.
pub const IMAGE: &str = "image";

/// The four latent columns: mean and standard deviation of the posterior, plain and mirrored.
pub const LATENTS: [&str; 4] = ["latent_mean", "latent_std", "flip_mean", "flip_std"];

/// CLIP's image embedding; it exists only if a CLIP was configured.
pub const CLIP: &str = "clip_embedding";

/// The key under which `datasets` finds its features in a Parquet file.
pub const HUGGING_FACE_KEY: &str = "huggingface";

/// Lengths of the two kinds of number lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Numbers per latent, c·h·w.
    pub latent: usize,
    /// Numbers per CLIP embedding.
    pub clip: Option<usize>,
}

/// The Arrow schema of a shard.
pub fn schema(widths: Widths) -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let maybe_text = |name: &str| Field::new(name, DataType::Utf8, true);
    let maybe_number = |name: &str| Field::new(name, DataType::Float32, true);
    let whole = |name: &str| Field::new(name, DataType::Int32, false);
    let mut fields = vec![
        text("image_id"),
        text("source"),
        text("path"),
        text("split"),
        maybe_text("emotion"),
        maybe_text("namespace"),
        maybe_text("label"),
        maybe_text("subject"),
        maybe_text("state"),
        maybe_number("valence"),
        maybe_number("arousal"),
        maybe_number("ambiguity"),
        text("attributes"),
        whole("width"),
        whole("height"),
        Field::new("crop", DataType::Struct(crop_fields()), false),
        Field::new(IMAGE, DataType::Struct(image_fields()), true),
    ];
    fields.extend(LATENTS.map(|name| Field::new(name, half_list(widths.latent), false)));
    fields.extend(widths.clip.map(|width| Field::new(CLIP, half_list(width), false)));
    let schema = Schema::new(fields);
    // pyarrow, and so `datasets`, looks for metadata in the Arrow schema; other readers look in the file's footer.
    let features = hugging_face_features(&schema);
    schema.with_metadata([(HUGGING_FACE_KEY.to_string(), features)])
}

/// The fields of the column `image`. `datasets` accepts a column as images only if its storage type equals its own,
/// including which fields may be null.
pub fn image_fields() -> Fields {
    vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into()
}

/// The fields of the column `crop`, in the photo's pixels.
pub fn crop_fields() -> Fields {
    ["x", "y", "w", "h"].map(|name| Field::new(name, DataType::Int32, false)).to_vec().into()
}

/// The item of a list of half-precision numbers.
pub fn half_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float16, false))
}

fn half_list(width: usize) -> DataType {
    DataType::FixedSizeList(half_item(), width as i32)
}

/// The light columns of `schema`: all but pixels, latents and embeddings.
pub fn is_light(column: &str) -> bool {
    column != IMAGE && column != CLIP && !LATENTS.contains(&column)
}

/// The features as `datasets` writes them, so that it shows images as images.
pub fn hugging_face_features(schema: &Schema) -> String {
    let features: Map<String, Value> = schema.fields().iter().map(|f| (f.name().clone(), feature(f))).collect();
    json!({"info": {"features": features}}).to_string()
}

fn feature(field: &Field) -> Value {
    let value = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    match field.data_type() {
        _ if field.name() == IMAGE => json!({"_type": "Image"}),
        DataType::Utf8 => value("string"),
        DataType::Int32 => value("int32"),
        DataType::FixedSizeBinary(_) => value("binary"),
        DataType::Float32 => value("float32"),
        DataType::FixedSizeList(item, width) => {
            json!({"feature": feature(item), "length": width, "_type": "Sequence"})
        }
        DataType::Float16 => value("float16"),
        DataType::Struct(fields) => fields.iter().map(|f| (f.name().clone(), feature(f))).collect(),
        other => unreachable!("the schema has no {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_name_every_column_and_the_image() {
        let schema = schema(Widths { latent: 16, clip: Some(8) });
        let features: Value = serde_json::from_str(&hugging_face_features(&schema)).expect("JSON");
        let features = features["info"]["features"].as_object().expect("an object");
        assert_eq!(features.len(), schema.fields().len());
        assert_eq!(features["image"]["_type"], "Image");
        assert_eq!(features["latent_mean"]["length"], 16);
        assert_eq!(features["crop"]["x"]["dtype"], "int32");
    }
}
