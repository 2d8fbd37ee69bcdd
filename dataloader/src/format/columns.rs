//! Rows to Arrow columns and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, Float16Array, Float32Array, Int32Array, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::Schema;
use half::f16;

use crate::format::manifest::is_hash;
use crate::format::row::{emotions_of, Entry, Row};
use crate::format::schema::{crop_fields, half_item, image_fields, CLIP, IMAGE};

type Result<T> = std::result::Result<T, String>;

/// The rows as one batch of `schema`.
pub fn batch_from_rows(schema: Arc<Schema>, rows: &[&Row]) -> Result<RecordBatch> {
    let columns: Result<Vec<ArrayRef>> = schema.fields().iter().map(|f| column(f.name(), rows)).collect();
    RecordBatch::try_new(schema, columns?).map_err(|e| e.to_string())
}

fn column(name: &str, rows: &[&Row]) -> Result<ArrayRef> {
    let texts =
        |get: fn(&Row) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|r| get(r)))) };
    let maybe_texts =
        |get: fn(&Row) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(|r| get(r)).collect::<StringArray>()) };
    let numbers =
        |get: fn(&Row) -> Option<f32>| -> ArrayRef { Arc::new(rows.iter().map(|r| get(r)).collect::<Float32Array>()) };
    let halves = |get: fn(&Row) -> Option<&[f16]>| half_lists(name, rows.iter().map(|r| get(r)));
    Ok(match name {
        "image_id" => texts(|r| &r.entry.image_id),
        "source" => texts(|r| &r.entry.source),
        "path" => texts(|r| &r.entry.path),
        "split" => texts(|r| &r.entry.split),
        "emotion" => maybe_texts(|r| r.entry.emotion.map(|e| e.name())),
        "namespace" => maybe_texts(|r| r.entry.namespace.as_deref()),
        "label" => maybe_texts(|r| r.entry.label.as_deref()),
        "subject" => maybe_texts(|r| r.entry.subject.as_deref()),
        "state" => maybe_texts(|r| r.entry.state.as_deref()),
        "valence" => numbers(|r| r.entry.valence),
        "arousal" => numbers(|r| r.entry.arousal),
        "ambiguity" => numbers(|r| r.entry.ambiguity),
        "attributes" => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.attributes.to_string()))),
        "width" => whole(rows.iter().map(|r| r.width)),
        "height" => whole(rows.iter().map(|r| r.height)),
        "crop" => {
            let parts = (0..4).map(|part| whole(rows.iter().map(move |r| r.crop[part]))).collect();
            Arc::new(StructArray::try_new(crop_fields(), parts, None).map_err(|e| e.to_string())?)
        }
        IMAGE => {
            let bytes = BinaryArray::from_iter_values(rows.iter().map(|r| &r.image));
            let parts = vec![Arc::new(bytes) as ArrayRef, texts(|r| &r.entry.path)];
            Arc::new(StructArray::try_new(image_fields(), parts, None).map_err(|e| e.to_string())?)
        }
        "latent_mean" => halves(|r| Some(&r.encoding.latent_mean))?,
        "latent_std" => halves(|r| Some(&r.encoding.latent_std))?,
        "flip_mean" => halves(|r| Some(&r.encoding.flip_mean))?,
        "flip_std" => halves(|r| Some(&r.encoding.flip_std))?,
        CLIP => halves(|r| r.encoding.clip_embedding.as_deref())?,
        other => return Err(format!("no column {other}")),
    })
}

fn whole(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(values.map(|v| v as i32).collect::<Int32Array>())
}

fn half_lists<'a>(name: &str, lists: impl Iterator<Item = Option<&'a [f16]>>) -> Result<ArrayRef> {
    let mut all: Vec<f16> = Vec::new();
    let (mut width, mut count) = (None, 0);
    for list in lists {
        let list = list.ok_or_else(|| format!("column {name} lacks a value"))?;
        if width.is_some_and(|w| w != list.len()) {
            return Err(format!("column {name} has lists of different lengths"));
        }
        width = Some(list.len());
        count += 1;
        all.extend_from_slice(list);
    }
    let values = Float16Array::new(ScalarBuffer::from(all), None);
    let width = width.filter(|_| count > 0).ok_or("a batch has no rows")?;
    let array = FixedSizeListArray::try_new(half_item(), width as i32, Arc::new(values), None);
    Ok(Arc::new(array.map_err(|e| e.to_string())?))
}

/// The light columns of a batch.
pub fn entries_from_batch(batch: &RecordBatch) -> Result<Vec<Entry>> {
    let columns = LightColumns::of(batch)?;
    (0..batch.num_rows()).map(|row| columns.entry(row)).collect()
}

struct LightColumns<'a> {
    image_id: &'a StringArray,
    source: &'a StringArray,
    path: &'a StringArray,
    split: &'a StringArray,
    emotion: &'a StringArray,
    namespace: &'a StringArray,
    label: &'a StringArray,
    // Shards from before pairs existed lack these two.
    subject: Option<&'a StringArray>,
    state: Option<&'a StringArray>,
    valence: &'a Float32Array,
    arousal: &'a Float32Array,
    ambiguity: &'a Float32Array,
    attributes: &'a StringArray,
    width: &'a Int32Array,
    height: &'a Int32Array,
    crop: Vec<&'a Int32Array>,
}

impl<'a> LightColumns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let crop: &StructArray = typed(batch, "crop")?;
        Ok(Self {
            image_id: typed(batch, "image_id")?,
            source: typed(batch, "source")?,
            path: typed(batch, "path")?,
            split: typed(batch, "split")?,
            emotion: typed(batch, "emotion")?,
            namespace: typed(batch, "namespace")?,
            label: typed(batch, "label")?,
            subject: typed_if_there(batch, "subject")?,
            state: typed_if_there(batch, "state")?,
            valence: typed(batch, "valence")?,
            arousal: typed(batch, "arousal")?,
            ambiguity: typed(batch, "ambiguity")?,
            attributes: typed(batch, "attributes")?,
            width: typed(batch, "width")?,
            height: typed(batch, "height")?,
            crop: crop.columns().iter().map(|c| cast(c, "crop")).collect::<Result<_>>()?,
        })
    }

    fn entry(&self, row: usize) -> Result<Entry> {
        let text = |column: &StringArray| column.value(row).to_string();
        let maybe = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_string());
        let number = |column: &Float32Array| column.is_valid(row).then(|| column.value(row));
        let side = |column: &Int32Array| column.value(row).max(0) as u32;
        let attributes = serde_json::from_str(self.attributes.value(row)).map_err(|e| format!("attributes: {e}"))?;
        let emotion = maybe(self.emotion).map(|e| e.parse()).transpose();
        let crop: Vec<u32> = self.crop.iter().map(|c| side(c)).collect();
        let image_id = text(self.image_id);
        if !is_hash(&image_id) {
            return Err(format!("image_id {image_id:?} is no hash, and could lead outside a folder"));
        }
        Ok(Entry {
            image_id,
            source: text(self.source),
            path: text(self.path),
            split: text(self.split),
            emotion: emotion.map_err(|e: emotions::UnknownEmotion| e.to_string())?,
            emotions: emotions_of(&attributes),
            namespace: maybe(self.namespace),
            label: maybe(self.label),
            subject: self.subject.and_then(maybe),
            state: self.state.and_then(maybe),
            valence: number(self.valence),
            arousal: number(self.arousal),
            ambiguity: number(self.ambiguity),
            attributes,
            width: side(self.width),
            height: side(self.height),
            crop: crop.try_into().map_err(|_| "crop is not x, y, w, h")?,
        })
    }
}

fn typed<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    cast(batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))?, name)
}

fn typed_if_there<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a T>> {
    batch.column_by_name(name).map(|column| cast(column, name)).transpose()
}

fn cast<'a, T: 'static>(array: &'a ArrayRef, name: &str) -> Result<&'a T> {
    let found = array.data_type();
    array.as_any().downcast_ref().ok_or_else(|| format!("column {name} is {found}, which this program does not write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::row::tests::row;
    use crate::format::schema::{schema, Widths};

    #[test]
    fn an_id_that_could_lead_out_of_a_folder_is_refused() {
        let schema = Arc::new(schema(Widths { latent: 16, clip: Some(8) }));
        for id in ["../../x", "/etc/x", "", "ab.safetensors", "a b"] {
            let mut foreign = row("a");
            foreign.entry = Arc::new(Entry { image_id: id.into(), ..(*foreign.entry).clone() });
            let batch = batch_from_rows(schema.clone(), &[&foreign]).expect("a batch");
            let error = entries_from_batch(&batch).expect_err("refused");
            assert!(error.contains("no hash"), "{error}");
        }
    }

    #[test]
    fn shards_from_before_there_were_pairs_are_read() {
        let schema = Arc::new(schema(Widths { latent: 16, clip: Some(8) }));
        let mut paired = row("a");
        paired.entry =
            Arc::new(Entry { subject: Some("Ada".into()), state: Some("awe".into()), ..(*paired.entry).clone() });
        let batch = batch_from_rows(schema.clone(), &[&paired, &row("b")]).expect("a batch");
        let read = entries_from_batch(&batch).expect("readable");
        assert_eq!((&read[0], read[1].subject.as_deref()), (&*paired.entry, None));
        let old: Vec<usize> = (0..schema.fields().len())
            .filter(|&n| !["subject", "state"].contains(&schema.field(n).name().as_str()))
            .collect();
        let read = entries_from_batch(&batch.project(&old).expect("fewer columns")).expect("readable");
        assert_eq!((read[0].path.as_str(), &read[0].subject, &read[0].state), ("a", &None, &None));
    }
}
