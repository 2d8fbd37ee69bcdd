//! TensorBoard's event file: scalars, pictures and text, as hand-built Summary messages.
//!
//! tensorboard-rs writes the records; its own text and image-batch calls are `unimplemented!()`.

use std::collections::HashMap;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use protobuf::RepeatedField;
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{Summary, SummaryMetadata, SummaryMetadata_PluginData, Summary_Image, Summary_Value};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::types::DataType;
use tensorboard_rs::summary_writer::FileWriter;

/// An open event file.
pub struct Events {
    writer: FileWriter,
}

impl Events {
    /// Opens a new file in `folder`. Readers drop what earlier files hold from `step` on: a resumed run overwrites it.
    pub fn create(folder: &Path, step: u64) -> anyhow::Result<Self> {
        // The writer's thread would only panic on a folder that cannot be written.
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

    fn add(&mut self, step: u64, values: Vec<Summary_Value>) {
        let mut summary = Summary::new();
        summary.set_value(RepeatedField::from(values));
        self.writer.add_summary(summary, step as usize);
    }
}

/// The configuration as a table of keys and values, nested keys joined by dots.
pub fn table(config: &serde_json::Value) -> String {
    let mut rows = HashMap::new();
    flatten("", config, &mut rows);
    let mut lines: Vec<String> = rows.into_iter().map(|(k, v)| format!("| {k} | {v} |")).collect();
    lines.sort();
    format!("| key | value |\n|---|---|\n{}\n", lines.join("\n"))
}

fn flatten(prefix: &str, value: &serde_json::Value, rows: &mut HashMap<String, String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, rows);
            }
        }
        other => {
            rows.insert(prefix.into(), other.to_string().replace('|', "\\|"));
        }
    }
}
