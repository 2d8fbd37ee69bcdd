//! The results of earlier nights: `output_dir/history.jsonl`, one line for each date, made from the reports' own
//! numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::error::{Error, Result};

/// The file's name.
pub const FILE: &str = "history.jsonl";
/// The family of metrics that is stored.
const REMEMBERED: &str = "headline";

/// One night's headline.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RunRecord {
    /// YYYY-MM-DD.
    pub date: String,
    /// The report's heading.
    pub title: String,
    /// Whether every gate held.
    pub passed: bool,
    /// Hash of everything that makes two nights comparable: photos, emotions and judges.
    pub conditions: String,
    /// By the method's key.
    pub methods: BTreeMap<String, Scores>,
}

/// A method's headline row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Scores {
    /// Its name for people.
    pub name: String,
    /// Whether it is a control.
    pub control: bool,
    /// The headline's strength.
    pub strength: Option<f64>,
    /// Number of edits counted.
    pub n: u64,
    /// Means by the metric's key; none if one was infinite or undefined.
    pub values: BTreeMap<String, Option<f64>>,
    /// 95 % intervals by the metric's key.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

/// The nights other than the one that is being evaluated.
#[derive(Clone, Debug)]
pub struct History {
    path: PathBuf,
    /// The date under evaluation.
    pub date: String,
    /// Every other night, by date.
    records: Vec<RunRecord>,
}

impl RunRecord {
    /// The headline of a report.json.
    pub fn of(report: &Value) -> Self {
        let text = |key: &str| report[key].as_str().unwrap_or_default().to_string();
        let keys: Vec<&str> = report["metrics"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|metric| metric["family"] == REMEMBERED)
            .filter_map(|metric| metric["key"].as_str())
            .collect();
        let methods = report["methods"].as_object().into_iter().flatten();
        Self {
            date: text("date"),
            title: text("title"),
            passed: report["passed"].as_bool().unwrap_or_default(),
            conditions: conditions(report),
            methods: methods.map(|(key, method)| (key.clone(), Scores::of(method, &keys))).collect(),
        }
    }
}

impl Scores {
    fn of(method: &Value, keys: &[&str]) -> Self {
        let interval = |key: &&str| {
            let ends = method[format!("{key}_interval")].as_array()?;
            Some([ends.first()?.as_f64()?, ends.get(1)?.as_f64()?])
        };
        Self {
            name: method["name"].as_str().unwrap_or_default().to_string(),
            control: method["control"].as_bool().unwrap_or_default(),
            strength: method["strength"].as_f64(),
            n: method["n"].as_u64().unwrap_or_default(),
            values: keys.iter().map(|key| (key.to_string(), method[*key].as_f64())).collect(),
            intervals: keys.iter().filter_map(|key| Some((key.to_string(), interval(key)?))).collect(),
        }
    }
}

/// Figures are comparable if the same judges saw edits of the same photos towards the same emotions.
fn conditions(report: &Value) -> String {
    let of = |pointer: &str| report.pointer(pointer).cloned().unwrap_or_default();
    let emotions: Vec<&String> = report["emotions"].as_object().into_iter().flat_map(|e| e.keys()).collect();
    let photos = ["manifest", "filter", "n", "target_excluded_from_headline"];
    let photos = photos.map(|key| of(&format!("/provenance/sources/{key}")));
    let judges = ["classifier", "clip", "lpips"].map(|judge| of(&format!("/provenance/{judge}/hash")));
    let further = report.pointer("/provenance/judges").and_then(Value::as_array).into_iter().flatten().skip(1);
    let judges: Vec<Value> = judges.into_iter().chain(further.map(|judge| judge["hash"].clone())).collect();
    let state = of("/provenance/sources/state");
    let photos: Vec<Value> = photos.into_iter().chain((!state.is_null()).then_some(state)).collect();
    let named = json!({
        "photos": photos,
        "judges": judges,
        "templates": of("/provenance/clip/templates"),
        "emotions": emotions,
    });
    blake3::hash(named.to_string().as_bytes()).to_hex()[..16].to_string()
}

impl History {
    /// Reads `output_dir`'s file, and the reports there of nights that the file lacks: it may be lost, or its writer
    /// may have been killed. `date` is the night under evaluation; an earlier report of that date is ignored.
    ///
    /// # Errors
    /// A line that cannot be read, by its number.
    pub fn read(output_dir: &Path, date: &str) -> Result<Self> {
        let path = output_dir.join(FILE);
        let mut records = match fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(path, error)),
        };
        records.extend(reports_but_of(&records, output_dir));
        records.retain(|record| record.date != date);
        records.sort_by(|a, b| a.date.cmp(&b.date));
        Ok(Self { path, date: date.to_string(), records })
    }

    /// The nights before the one under evaluation, by date.
    pub fn before(&self) -> &[RunRecord] {
        &self.records[..self.records.partition_point(|record| record.date < self.date)]
    }

    /// Writes the file anew with `record`, whole or not at all.
    pub fn remember(&self, record: &RunRecord) -> Result<()> {
        let mut records: Vec<&RunRecord> = self.records.iter().chain([record]).collect();
        records.sort_by(|a, b| a.date.cmp(&b.date));
        let line = |record: &&RunRecord| serde_json::to_string(record).expect("a night is plain data") + "\n";
        let text: String = records.iter().map(line).collect();
        durable::write(&self.path, text.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<RunRecord>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let record = |(place, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|reason| Error::History {
            path: path.to_path_buf(),
            line: place + 1,
            reason,
        })
    };
    lines.map(record).collect()
}

/// Nights that are not `known` and whose reports lie in `output_dir`; folders without a readable one are passed over.
fn reports_but_of(known: &[RunRecord], output_dir: &Path) -> Vec<RunRecord> {
    let folders = fs::read_dir(output_dir).into_iter().flatten().filter_map(|entry| entry.ok());
    let report = |folder: &Path| serde_json::from_slice::<Value>(&fs::read(folder.join("report.json")).ok()?).ok();
    let record = |entry: fs::DirEntry| {
        let name =
            entry.file_name().into_string().ok().filter(|name| known.iter().all(|record| record.date != *name))?;
        report(&entry.path()).map(|report| RunRecord::of(&report)).filter(|record| record.date == name)
    };
    folders.filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(date: &str, emo_a: f64, classifier: &str) -> Value {
        json!({
            "date": date, "title": "Nights", "passed": true,
            "metrics": [{"key": "emo_a", "family": "headline"}, {"key": "psnr", "family": "headline"},
                        {"key": "kld", "family": "further"}],
            "methods": {"joint": {"name": "Joint", "control": false, "strength": 1.0, "n": 4, "emo_a": emo_a,
                                  "emo_a_interval": [0.1, 0.9], "psnr": null, "kld": 2.0}},
            "emotions": {"awe": {}},
            "provenance": {"sources": {"manifest": "m", "n": 4}, "classifier": {"hash": classifier}},
        })
    }

    #[test]
    fn a_night_is_remembered_in_its_place_and_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for (date, emo_a) in [("2026-01-03", 0.3), ("2026-01-01", 0.1), ("2026-01-02", 0.9), ("2026-01-02", 0.2)] {
            let history = History::read(folder.path(), date).expect("readable");
            assert!(history.before().iter().all(|record| record.date.as_str() < date));
            history.remember(&RunRecord::of(&report(date, emo_a, "c"))).expect("written");
        }
        let history = History::read(folder.path(), "2026-02-01").expect("readable");
        let found: Vec<_> =
            history.before().iter().map(|n| (n.date.as_str(), n.methods["joint"].values["emo_a"])).collect();
        assert_eq!(found, [("2026-01-01", Some(0.1)), ("2026-01-02", Some(0.2)), ("2026-01-03", Some(0.3))]);
        let joint = &history.before()[0].methods["joint"];
        assert_eq!((joint.values["psnr"], joint.intervals.get("emo_a")), (None, Some(&[0.1, 0.9])));
        assert!(!joint.values.contains_key("kld"), "the headline's metrics are remembered");
    }

    #[test]
    fn other_judges_or_photos_are_other_conditions() {
        let record = |classifier| RunRecord::of(&report("2026-01-01", 0.1, classifier)).conditions;
        assert_eq!(record("c"), record("c"));
        assert_ne!(record("c"), record("d"));
    }

    #[test]
    fn a_lost_file_is_made_anew_from_the_reports() {
        let folder = tempfile::tempdir().expect("a folder");
        for date in ["2026-01-01", "2026-01-02"] {
            fs::create_dir(folder.path().join(date)).expect("made");
            fs::write(folder.path().join(date).join("report.json"), report(date, 0.5, "c").to_string())
                .expect("written");
        }
        fs::create_dir(folder.path().join("notes")).expect("made");
        let history = History::read(folder.path(), "2026-01-02").expect("readable");
        assert_eq!(history.before().iter().map(|n| n.date.as_str()).collect::<Vec<_>>(), ["2026-01-01"]);
    }

    #[test]
    fn a_night_whose_writer_was_killed_before_its_line_is_found_by_its_report() {
        let folder = tempfile::tempdir().expect("a folder");
        let remembered = History::read(folder.path(), "2026-01-01").expect("nothing there");
        remembered.remember(&RunRecord::of(&report("2026-01-01", 0.1, "c"))).expect("written");
        for date in ["2026-01-01", "2026-01-02"] {
            fs::create_dir(folder.path().join(date)).expect("made");
            fs::write(folder.path().join(date).join("report.json"), report(date, 0.5, "c").to_string())
                .expect("written");
        }
        let history = History::read(folder.path(), "2026-01-03").expect("readable");
        let found: Vec<_> = history.before().iter().map(|n| n.methods["joint"].values["emo_a"]).collect();
        assert_eq!(found, [Some(0.1), Some(0.5)], "the file's line, then the report's");
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::read(folder.path(), "2026-01-01").expect("nothing there");
        history.remember(&RunRecord::of(&report("2026-01-01", 0.1, "c"))).expect("written");
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, format!("{text}{}", &text[..40])).expect("written");
        let error = History::read(folder.path(), "2026-01-02").expect_err("half a line").to_string();
        assert!(error.contains("history.jsonl, line 2"), "{error}");
        assert!(fs::read_to_string(&path).expect("still there").starts_with(&text), "nothing is lost");
    }
}
