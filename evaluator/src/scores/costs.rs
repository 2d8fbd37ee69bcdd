//! What an edit of each method costs: seconds, trained parameters, minutes of training. Seconds come from a clock and
//! differ from night to night, so they go into costs.json; report.json is the same byte for byte for the same inputs.

use std::iter::Sum;
use std::ops::AddAssign;
use std::path::Path;

use diffusion::run::Run;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::config::plan::{Plan, PlannedRun};
use crate::error::{Error, Result};
use crate::evaluation::evaluation_plan::EvaluatedMethod;
use crate::methods::baselines::PlannedBaseline;

/// The file in the report's folder.
pub const FILE: &str = "costs.json";
/// The trainer's log of steps.
const STEPS: &str = "metrics.jsonl";

/// How long edits took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EditTime {
    /// Of all edits together, as if each had been made alone.
    pub seconds: f64,
    /// How many there were.
    pub edits: usize,
}

impl EditTime {
    /// The mean; none without edits.
    pub fn seconds_an_edit(self) -> Option<f64> {
        (self.edits > 0).then(|| self.seconds / self.edits as f64)
    }
}

impl AddAssign for EditTime {
    fn add_assign(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.edits += more.edits;
    }
}

impl Sum for EditTime {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |mut sum, time| {
            sum += time;
            sum
        })
    }
}

/// What one method costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The method's key.
    pub method: &'static str,
    /// Its heading.
    pub name: &'static str,
    /// Wall time of one edit made alone, encoding and inversion included; the mean over its edits.
    #[serde(skip)]
    pub seconds_an_edit: Option<f64>,
    /// Numbers that were trained for one emotion; the largest count if runs differ. None if nothing is trained.
    pub parameters: Option<u64>,
    /// Minutes of the run's steps, over all emotions that share it; the mean over runs. None if the runs have no log.
    pub training_minutes: Option<f64>,
    /// The device of tonight's edits.
    pub device: &'static str,
}

/// The costs of every method that took part, the shuffled control left out.
pub fn of(
    plan: &Plan, evaluated_methods: &[EvaluatedMethod], seconds: impl Fn(&str) -> Option<f64>,
) -> Result<Vec<Cost>> {
    let device = if plan.device.is_cuda() { "cuda" } else { "cpu" };
    let plain =
        evaluated_methods.iter().filter(|evaluated_method| evaluated_method.about.key != crate::methods::SHUFFLED);
    plain
        .map(|evaluated_method| {
            let key = evaluated_method.about.key;
            let runs = runs_of(plan, key);
            let parameters: Vec<u64> = runs.iter().map(|run| parameters(run)).collect::<Result<_>>()?;
            let minutes: Vec<f64> = runs.iter().filter_map(|run| minutes(&run.folder)).collect();
            Ok(Cost {
                method: key,
                name: evaluated_method.about.name,
                seconds_an_edit: seconds(key),
                parameters: parameters.into_iter().max(),
                training_minutes: (!minutes.is_empty()).then(|| minutes.iter().sum::<f64>() / minutes.len() as f64),
                device,
            })
        })
        .collect()
}

/// The runs whose learned numbers a method uses, each folder once.
fn runs_of<'a>(plan: &'a Plan, key: &str) -> Vec<&'a Run> {
    let trained = plan.runs.iter().filter(|planned| planned.method.key() == key).map(|PlannedRun { run, .. }| run);
    let takes = |planned: &&PlannedBaseline| planned.settings.about().key == key && planned.settings.is_trained();
    let baselines = plan.baselines.iter().filter(takes);
    let tokens = baselines.flat_map(|PlannedBaseline { runs, .. }| runs.values().map(|(_, run)| run));
    let mut runs: Vec<&Run> = trained.chain(tokens).collect();
    runs.sort_by(|a, b| a.folder.cmp(&b.folder));
    runs.dedup_by(|a, b| a.folder == b.folder);
    runs
}

/// Numbers in a run's learned files.
fn parameters(run: &Run) -> Result<u64> {
    let mut count = 0;
    for path in run.files().into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "safetensors")) {
        count += Tensor::read_safetensors(&path)?.iter().map(|(_, tensor)| tensor.numel() as u64).sum::<u64>();
    }
    Ok(count)
}

/// Minutes of a run's steps, by its log of steps; none if there is no log or no such value in it.
fn minutes(folder: &Path) -> Option<f64> {
    #[derive(Deserialize)]
    struct Step {
        #[serde(rename = "perf/step_seconds")]
        seconds: Option<f64>,
    }
    let text = std::fs::read_to_string(folder.join(STEPS)).ok()?;
    // The last line of a killed run may be incomplete.
    let steps = text.lines().filter_map(|line| serde_json::from_str::<Step>(line).ok()?.seconds);
    let seconds: Vec<f64> = steps.collect();
    (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / 60.0)
}

/// Writes costs.json beside the report.
pub fn write(costs: &[Cost], folder: &Path) -> Result<()> {
    let cost = |cost: &Cost| {
        let mut value = serde_json::to_value(cost).expect("plain data");
        value["seconds_an_edit"] = serde_json::json!(cost.seconds_an_edit);
        value
    };
    let text = serde_json::to_string_pretty(&costs.iter().map(cost).collect::<Vec<_>>()).expect("plain data") + "\n";
    let path = folder.join(FILE);
    durable::write(&path, text.as_bytes()).map_err(|e| Error::io(&path, e))
}
