//! TensorBoard's event file: scalars, pictures, text, histograms and settings, as hand-built Summary messages.
//!
//! tensorboard-rs writes the records; its own text and image-batch calls are `unimplemented!()`.

use std::collections::BTreeMap;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use protobuf::RepeatedField;
use tch::{Device, Kind, Tensor};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{
    HistogramProto, Summary, SummaryMetadata, SummaryMetadata_PluginData, Summary_Image, Summary_Value,
};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::types::DataType;
use tensorboard_rs::summary_writer::FileWriter;

use crate::logging::hparams;

/// An open event file.
pub struct Events {
    writer: FileWriter,
}

impl Events {
    /// Opens a new file in `folder`. Readers drop values of earlier files from `step` on, so a resumed run overwrites
    /// them.
    pub fn create(folder: &Path, step: u64) -> anyhow::Result<Self> {
        // On a folder that cannot be written, the writer's thread would only panic.
        std::fs::create_dir_all(folder).map_err(|e| anyhow::anyhow!("{}: {e}", folder.display()))?;
        let mut events = Self { writer: FileWriter::new(folder) };
        let mut session = SessionLog::new();
        session.set_status(SessionLog_SessionStatus::START);
        let mut event = Event::new();
        event.set_session_log(session);
        events.writer.add_event(&event, step as usize);
        Ok(events)
    }

    /// Scalars of one step, by tag.
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) {
        let value = |(tag, scalar): &(String, f64)| {
            let mut value = Summary_Value::new();
            value.set_tag(tag.clone());
            value.set_simple_value(*scalar as f32);
            value
        };
        self.add(step, scalars.iter().map(value).collect());
        self.writer.flush();
    }

    /// A picture.
    pub fn picture(&mut self, step: u64, tag: &str, picture: &RgbImage) -> anyhow::Result<()> {
        let mut png = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png)?;
        let mut image = Summary_Image::new();
        image.set_width(picture.width() as i32);
        image.set_height(picture.height() as i32);
        image.set_colorspace(3);
        image.set_encoded_image_string(png.into_inner());
        let mut value = Summary_Value::new();
        value.set_tag(tag.into());
        value.set_image(image);
        self.add(step, vec![value]);
        self.writer.flush();
        Ok(())
    }

    /// Markdown in the text tab.
    pub fn text(&mut self, step: u64, tag: &str, markdown: &str) {
        let mut tensor = TensorProto::new();
        tensor.set_dtype(DataType::DT_STRING);
        tensor.set_string_val(RepeatedField::from(vec![markdown.as_bytes().to_vec()]));
        let mut plugin = SummaryMetadata_PluginData::new();
        plugin.set_plugin_name("text".into());
        let mut metadata = SummaryMetadata::new();
        metadata.set_plugin_data(plugin);
        let mut value = Summary_Value::new();
        value.set_tag(format!("{tag}/text_summary"));
        value.set_metadata(metadata);
        value.set_tensor(tensor);
        self.add(step, vec![value]);
        self.writer.flush();
    }

    /// The run's settings for the HPARAMS tab.
    pub fn hparams(
        &mut self, step: u64, run: &Path, settings: &BTreeMap<String, serde_json::Value>,
    ) -> anyhow::Result<()> {
        let mut plugin = SummaryMetadata_PluginData::new();
        plugin.set_plugin_name("hparams".into());
        plugin.set_content(hparams::session_start(&run.display().to_string(), settings)?);
        let mut metadata = SummaryMetadata::new();
        metadata.set_plugin_data(plugin);
        let mut value = Summary_Value::new();
        value.set_tag("_hparams_/session_start_info".into());
        value.set_metadata(metadata);
        value.set_tensor(TensorProto::new());
        self.add(step, vec![value]);
        self.writer.flush();
        Ok(())
    }

    /// The distribution of each tensor's values, 30 buckets of equal width.
    pub fn histograms(&mut self, step: u64, tensors: &[(String, Tensor)]) {
        let value = |(tag, tensor): &(String, Tensor)| {
            let mut value = Summary_Value::new();
            value.set_tag(tag.clone());
            value.set_histo(histogram(tensor));
            value
        };
        self.add(step, tensors.iter().map(value).collect());
        self.writer.flush();
    }

    fn add(&mut self, step: u64, values: Vec<Summary_Value>) {
        let mut summary = Summary::new();
        summary.set_value(RepeatedField::from(values));
        self.writer.add_summary(summary, step as usize);
    }
}

fn histogram(tensor: &Tensor) -> HistogramProto {
    const BUCKETS: i64 = 30;
    let values = tensor.detach().to_kind(Kind::Double).to_device(Device::Cpu).flatten(0, -1);
    let number = |t: Tensor| t.double_value(&[]);
    let (low, high) = (number(values.min()), number(values.max()));
    let width = ((high - low) / BUCKETS as f64).max(f64::MIN_POSITIVE);
    // A bucket's limit is its upper edge; the last edge is a little higher, so that the largest value is inside.
    let limits = (1..=BUCKETS).map(|k| if k == BUCKETS { high + width } else { low + width * k as f64 }).collect();
    let counts = values.to_kind(Kind::Float).histc(BUCKETS);
    let mut histogram = HistogramProto::new();
    histogram.set_min(low);
    histogram.set_max(high);
    histogram.set_num(values.numel() as f64);
    histogram.set_sum(number(values.sum(Kind::Double)));
    histogram.set_sum_squares(number(values.square().sum(Kind::Double)));
    histogram.set_bucket_limit(limits);
    histogram.set_bucket((0..BUCKETS).map(|k| counts.double_value(&[k])).collect());
    histogram
}

/// The configuration as a table of keys and values, nested keys joined by dots.
pub fn table(config: &serde_json::Value) -> String {
    let line =
        |(key, value): (String, serde_json::Value)| format!("| {key} | {} |", value.to_string().replace('|', "\\|"));
    let lines: Vec<String> = flat(config).into_iter().map(line).collect();
    format!("| key | value |\n|---|---|\n{}\n", lines.join("\n"))
}

/// The configuration's values by key, nested keys joined by dots.
pub fn flat(config: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    let mut values = BTreeMap::new();
    flatten("", config, &mut values);
    values
}

fn flatten(prefix: &str, value: &serde_json::Value, values: &mut BTreeMap<String, serde_json::Value>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, values);
            }
        }
        other => {
            values.insert(prefix.into(), other.clone());
        }
    }
}
