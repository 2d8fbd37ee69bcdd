//! A run as a custom pipeline for diffusers: pipeline.py, which needs nothing of ours, and edit.safetensors.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use diffusion::run::Run;
use diffusion::weights;
use program::LogFormat;
use serde_json::Value;

use crate::failure::BadInput;

/// The pipeline, in which marks stand for what differs between runs.
const TEMPLATE: &str = include_str!("pipeline.py");
/// The pipeline's file.
const PIPELINE: &str = "pipeline.py";
/// What the run learned.
const TENSORS: &str = "edit.safetensors";

/// Writes a run as a custom pipeline for diffusers: a Python file and its tensors.
#[derive(Clone, Debug, Parser)]
#[command(name = "editor export", arg_required_else_help = true, after_help = EXAMPLE)]
pub struct ExportArgs {
    /// A trained run's folder (`output_dir` of its recipe).
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// The folder to write pipeline.py and edit.safetensors into; made if it is missing.
    #[arg(long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

const EXAMPLE: &str = "Example:
  editor export --run runs/awe --output awe-pipeline
  python3 -c 'from diffusers import DiffusionPipeline; from PIL import Image
  pipe = DiffusionPipeline.from_pretrained(\"BASE\", custom_pipeline=\"awe-pipeline/pipeline.py\", trust_remote_code=True)
  pipe(Image.open(\"photo.jpg\"), \"awe\").images[0].save(\"out.png\")'";

/// Writes both files and returns them.
pub fn run(args: &ExportArgs) -> Result<Vec<PathBuf>> {
    let run = Run::open(&args.run)?;
    let tensors = run.named_tensors()?;
    let output = &args.output;
    std::fs::create_dir_all(output).with_context(|| format!("--output {}", output.display()))?;
    let folder = std::fs::canonicalize(output).with_context(|| format!("--output {}", output.display()))?;
    let paths = [PIPELINE, TENSORS].map(|name| output.join(name));
    if let Some(taken) = paths.iter().find(|path| path.exists() && !is_ours(output)) {
        let message = format!("{} is there, and is no export; name another folder", taken.display());
        return Err(BadInput(format!("--output: {message}")).into());
    }
    weights::write_file(&paths[1], &tensors, None)?;
    let written = durable::write(&paths[0], pipeline(&run, &folder)?.as_bytes());
    written.with_context(|| paths[0].display().to_string())?;
    Ok(paths.to_vec())
}

/// Whether an earlier export lies in `folder`.
fn is_ours(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join(PIPELINE)).is_ok_and(|text| text.contains("written by `editor export`"))
}

/// The Python file for `run`, exported to `folder`.
fn pipeline(run: &Run, folder: &Path) -> Result<String> {
    let config = &run.config;
    let settings = serde_json::to_value(config)?;
    let kept = ["base", "emotions", "tokens", "delta", "prompts", "edit", "resolution"];
    let settings = settings.as_object().into_iter().flatten().filter(|(key, _)| kept.contains(&key.as_str()));
    let settings = Value::Object(settings.map(|(key, value)| (key.clone(), value.clone())).collect());
    let text = TEMPLATE.replace("@EMOTIONS@", &config.emotions.join(", "));
    let text = text.replace("@EMOTION@", config.emotions.first().map_or("", String::as_str));
    let text = text.replace("@FOLDER_LITERAL@", &literal(&folder.to_string_lossy().into(), 0));
    // The last: a prompt may hold anything.
    Ok(text.replace("@SETTINGS@", &literal(&settings, 0)))
}

/// A JSON value as Python writes it; JSON's strings are Python's too.
fn literal(value: &Value, depth: usize) -> String {
    let indent = |depth: usize| " ".repeat(4 * depth);
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| literal(value, depth)).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(entries) => {
            let line = |(key, value): (&String, &Value)| {
                format!("{}{}: {},\n", indent(depth + 1), literal(&key.as_str().into(), 0), literal(value, depth + 1))
            };
            format!("{{\n{}{}}}", entries.iter().map(line).collect::<String>(), indent(depth))
        }
        Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_python() {
        let value = serde_json::json!({"a": null, "b": [true, false], "c": {"d": "say \"é\\n\"\n", "e": 0.5}});
        let expected = "{\n    \"a\": None,\n    \"b\": [True, False],\n    \"c\": {\n        \"d\": \"say \\\"é\\\\n\\\"\\n\",\n        \"e\": 0.5,\n    },\n}";
        assert_eq!(literal(&value, 0), expected);
    }
}
