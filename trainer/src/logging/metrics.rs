//! metrics.jsonl and validation.jsonl: one line for each step, with TensorBoard's tags.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The open file.
pub struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens `folder`/`name` after `step` steps; lines of later steps are dropped, since these steps come again.
    pub fn open(folder: &Path, name: &str, step: u64) -> anyhow::Result<Self> {
        let path = folder.join(name);
        keep_until(&path, step).with_context(|| path.display().to_string())?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self { file: file.with_context(|| path.display().to_string())?, path })
    }

    /// The values of `tag` in the lines so far, by step.
    pub fn series(&self, tag: &str) -> BTreeMap<u64, f64> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let value = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some((line.get("step")?.as_u64()?, line.get(tag)?.as_f64()?))
        };
        text.lines().filter_map(value).collect()
    }

    /// Appends one line.
    pub fn write(&mut self, step: u64, scalars: &[(String, f64)]) -> anyhow::Result<()> {
        let mut line = serde_json::Map::from_iter([("step".to_string(), step.into())]);
        line.extend(scalars.iter().map(|(tag, value)| (tag.clone(), serde_json::json!(value))));
        let text = serde_json::to_string(&line)? + "\n";
        self.file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())
    }
}

fn keep_until(path: &Path, step: u64) -> std::io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let kept: Vec<String> = BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| step_of(line).is_some_and(|s| s <= step))
        .map(|line| line + "\n")
        .collect();
    durable::write(path, kept.concat().as_bytes())
}

/// None for a line that a killed process did not finish.
fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_drops_what_it_will_write_again() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut metrics = Metrics::open(dir.path(), "metrics.jsonl", 0)?;
        for step in 1..=3 {
            metrics.write(step, &[("loss/total".into(), step as f64)])?;
        }
        metrics.file.write_all(b"{\"step\":4,\"los")?;
        Metrics::open(dir.path(), "metrics.jsonl", 2)?.write(3, &[("loss/total".into(), 9.0)])?;
        let text = std::fs::read_to_string(dir.path().join("metrics.jsonl"))?;
        assert_eq!(text.lines().count(), 3);
        let series = Metrics::open(dir.path(), "metrics.jsonl", 3)?.series("loss/total");
        assert_eq!(series, BTreeMap::from([(1, 1.0), (2, 2.0), (3, 9.0)]));
        assert!(text.ends_with("{\"step\":3,\"loss/total\":9.0}\n"));
        Ok(())
    }
}
