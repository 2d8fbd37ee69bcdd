//! The finished parts of an evaluation: one for each emotion's edits of a batch, written as a whole or not at all.
//!
//! The processes of one evaluation exchange their results here, and a killed night goes on from here. The same
//! recipe, weights, photos and program find their parts again; anything else starts anew. The report is made from
//! these alone, in the order of the batches, so that it does not depend on who made them or when.
//!
//! A part is NAME.json with its records, and beside it NAME.safetensors with what the networks made of its pictures:
//! tensor `2.features` belongs to the third of the records' `sets`. The JSON is written last; without it there is no
//! part.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::metrics::sets::seen::Seen;
use crate::scores::judgements::Judgements;
use crate::scores::sets::Set;
use crate::scores::Series;

/// The file that names the evaluation.
const IDENTITY: &str = "identity";
/// The version of the records; other versions are refused.
const FORMAT: u32 = 2;
/// The suffix of finished parts.
const SUFFIX: &str = "json";
/// The suffix of their tensors.
const TENSORS: &str = "safetensors";
/// The pause between two looks for a part of another process.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The files of one evaluation.
#[derive(Clone, Debug)]
pub struct Parts {
    folder: PathBuf,
}

/// The results of one batch.
#[derive(Debug, Default)]
pub struct Part {
    /// The edits, by method, emotion and strength.
    pub series: Vec<Series>,
    /// What the judges say of labelled pictures.
    pub judgements: Judgements,
    /// What the metrics of whole sets need, in the order in which it is to be added.
    pub seen: Vec<(Set, Seen)>,
}

/// A part's JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    format: u32,
    series: Vec<Series>,
    judgements: Judgements,
    sets: Vec<Set>,
}

impl Parts {
    /// Makes `folder` the folder of the evaluation `identity`; files of another evaluation are deleted. One process
    /// does this before the others use [`at`](Self::at).
    pub fn open(folder: &Path, identity: &str) -> Result<Self> {
        let file = folder.join(IDENTITY);
        if folder.exists() && fs::read_to_string(&file).ok().as_deref() != Some(identity) {
            fs::remove_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        durable::write(&file, identity.as_bytes()).map_err(|e| Error::io(&file, e))?;
        Ok(Self::at(folder))
    }

    /// The files in a folder that [`open`](Self::open) has prepared.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// How many parts are finished.
    pub fn finished(&self) -> usize {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(|entry| entry.ok());
        entries.filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == SUFFIX)).count()
    }

    /// Whether the part `name` is finished.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Stores a part.
    pub fn save(&self, name: &str, part: Part) -> Result<()> {
        let Part { series, judgements, seen } = part;
        let (mut sets, mut tensors) = (Vec::new(), Vec::new());
        for (place, (set, seen)) in seen.into_iter().enumerate() {
            tensors.extend(seen.named().into_iter().map(|(key, tensor)| (named(place, key), tensor.shallow_clone())));
            sets.push(set);
        }
        diffusion::weights::write_file(&self.folder.join(name).with_extension(TENSORS), &tensors, None)?;
        let records = Records { format: FORMAT, series, judgements, sets };
        let (path, text) = (self.path(name), serde_json::to_vec(&records).expect("records are plain data"));
        durable::write(&path, &text).map_err(|e| Error::io(&path, e))
    }

    /// The part `name`, once it is finished; meanwhile `check` says whether it can still come.
    pub fn wait(&self, name: &str, check: impl Fn() -> Result<()>) -> Result<Part> {
        while !self.has(name) {
            std::thread::sleep(LOOK_EVERY);
            match check() {
                // It may have been finished just before its process left.
                Err(error) if !self.has(name) => return Err(error),
                _ => {}
            }
        }
        let path = self.path(name);
        let text = fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let records: Records = serde_json::from_slice(&text).map_err(|e| self.refused(name, e.to_string()))?;
        if records.format != FORMAT {
            return Err(self.refused(name, format!("has format {} instead of {FORMAT}", records.format)));
        }
        let tensors = Tensor::read_safetensors(path.with_extension(TENSORS))?;
        let mut tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let seen = |(place, set)| {
            let numbers = Seen::from_named(|key| tensors.remove(&named(place, key)));
            Ok((set, numbers.ok_or_else(|| self.refused(name, format!("its set {place} lacks tensors")))?))
        };
        let Records { series, judgements, sets, .. } = records;
        Ok(Part { series, judgements, seen: sets.into_iter().enumerate().map(seen).collect::<Result<_>>()? })
    }

    /// The error for a part that is not what this evaluation writes.
    pub fn refused(&self, name: &str, message: String) -> Error {
        Error::Part { path: self.path(name), message }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(SUFFIX)
    }
}

fn named(place: usize, key: &str) -> String {
    format!("{place}.{key}")
}

#[cfg(test)]
mod tests {
    use emotions::Emotion;
    use tch::{Device, Kind};

    use super::*;
    use crate::scores::costs::EditTime;
    use crate::scores::Case;

    fn case(source: usize, lpips: f64) -> Case {
        Case {
            source,
            shows_target: false,
            target: Emotion::Awe,
            predicted: vec![Some(Emotion::Awe), None],
            probability: 0.1 + 0.2,
            nearer_to_another: true,
            failed: lpips.is_nan(),
            drawings: 2,
            values: [("emo_a", 1.0), ("lpips", lpips)].into_iter().collect(),
        }
    }

    fn part() -> Part {
        let random = |columns| Tensor::rand([3, columns], (Kind::Float, Device::Cpu));
        let seen =
            Seen { features: random(4), probabilities: random(8), changes: random(4), inception: Some(random(2048)) };
        let time = EditTime { seconds: 1.5, edits: 2 };
        let cases = vec![case(0, 0.3), case(1, f64::NAN), case(2, f64::INFINITY)];
        let series = Series { method: "joint".into(), emotion: Emotion::Awe, strength: Some(0.7), cases, time };
        Part {
            series: vec![series],
            judgements: Judgements::default(),
            seen: vec![(Set::Edits { method: "joint".into(), emotion: Emotion::Awe }, seen)],
        }
    }

    #[test]
    fn a_part_comes_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let parts = Parts::open(&folder.path().join("work"), "one").expect("made");
        let written = part();
        let (series, set) = (written.series.clone(), written.seen[0].0.clone());
        let tensors: Vec<Tensor> = written.seen[0].1.named().into_iter().map(|(_, tensor)| tensor.copy()).collect();
        parts.save("a", written).expect("written");
        let read = parts.wait("a", || Ok(())).expect("readable");
        assert_eq!(format!("{:?}", read.series), format!("{series:?}"), "NaN is not equal to itself");
        assert_eq!(read.seen[0].0, set);
        assert_eq!(read.seen[0].1.named().into_iter().map(|(_, tensor)| tensor.copy()).collect::<Vec<_>>(), tensors);
        assert_eq!(parts.finished(), 1);
    }

    #[test]
    fn what_another_version_wrote_or_nobody_finished_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let parts = Parts::open(&folder.path().join("work"), "one").expect("made");
        parts.save("a", part()).expect("written");
        let path = parts.path("a");
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, text.replace("\"format\":2", "\"format\":1")).expect("written");
        let error = parts.wait("a", || Ok(())).expect_err("another format").to_string();
        assert!(error.contains("a.json: has format 1 instead of 2; delete it"), "{error}");
        fs::write(&path, &text[..text.len() / 2]).expect("written");
        assert!(parts.wait("a", || Ok(())).is_err());
        fs::write(&path, &text).expect("written");
        diffusion::weights::write_file(&path.with_extension(TENSORS), &[], None).expect("written");
        let error = parts.wait("a", || Ok(())).expect_err("no tensors").to_string();
        assert!(error.contains("its set 0 lacks tensors"), "{error}");
    }
}
