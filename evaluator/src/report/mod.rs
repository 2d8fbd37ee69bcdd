//! The report: one set of numbers, rendered as report.json, report.md and a self-contained index.html.

pub mod equal;
pub mod gates;
pub mod history;
pub mod html;
pub mod json;
pub mod markdown;
pub mod numbers;
pub mod pictures;
pub mod plots;
pub mod provenance;
pub mod publish;
pub mod published;
pub mod sheets;
pub mod terminal;
pub mod trend;

use std::path::Path;

use emotions::Emotion;
use serde_json::Value;

use crate::config::plan::Plan;
use crate::config::published::Published;
use crate::error::{Error, Result};
use crate::evaluation::evaluate::Evaluation;
use crate::evaluation::evaluation_plan::EvaluatedMethod;
use crate::methods::About;
use crate::metrics::{self, Family};
use crate::report::gates::Outcome;
use crate::report::history::{History, RunRecord};
use crate::scores::comparisons::{self, Comparison};
use crate::scores::costs::{self, Cost, EditTime};
use crate::scores::summary::Section;

use trend::Trend;

/// Everything the three renderings share.
#[derive(Debug)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// The night, YYYY-MM-DD.
    pub date: String,
    /// The metrics, in the order of the tables.
    pub metrics: Vec<metrics::About>,
    /// The headline: the one emotion, or the mean over several.
    pub summary: Section,
    /// One section for each emotion.
    pub emotions: Vec<(Emotion, Section)>,
    /// The shown pictures, one set for each emotion.
    pub pictures: Vec<pictures::Shown>,
    /// The method whose cases are shown.
    pub featured: Option<&'static str>,
    /// Sources, judges, models, versions, seeds.
    pub provenance: Value,
    /// The results of the gates.
    pub gates: Vec<Outcome>,
    /// Tonight compared with earlier nights.
    pub trend: Trend,
    /// Figures of papers.
    pub published: Vec<Published>,
    /// The judges' names, in order.
    pub judges: Vec<String>,
    /// Every method against the featured one.
    pub comparisons: Vec<Comparison>,
    /// What an edit of each method costs.
    pub costs: Vec<Cost>,
}

impl Report {
    /// Summarises an evaluation; the shown pictures go to `folder`/images.
    pub fn new(plan: &Plan, evaluation: &Evaluation, history: &History, folder: &Path) -> Result<Self> {
        let sections = plan.emotions.iter().map(|&e| (e, Section::new(plan, evaluation, &[e])));
        let mut report = Self {
            title: plan.config.title.clone(),
            date: history.date.clone(),
            metrics: evaluation.scores.metrics.iter().copied().chain(evaluation.sets.abouts()).collect(),
            summary: Section::new(plan, evaluation, &plan.emotions),
            emotions: sections.collect(),
            pictures: pictures::choose(plan, evaluation, folder)?,
            featured: evaluation.featured,
            provenance: provenance::of(plan, evaluation)?,
            gates: Vec::new(),
            trend: Trend::new(&[], RunRecord::default()),
            published: plan.published.clone(),
            judges: provenance::judge_names(&evaluation.observer),
            comparisons: comparisons::all(plan, evaluation),
            costs: costs_of(plan, evaluation)?,
        };
        report.trend = Trend::new(history.before(), RunRecord::of(&json::render(&report)));
        let numbers = json::render(&report);
        report.gates = plan.gates.iter().map(|gate| gate.check(&numbers)).collect();
        report.trend.decide(report.passed());
        Ok(report)
    }

    /// What the history keeps of it.
    pub fn record(&self) -> &RunRecord {
        self.trend.current()
    }

    /// Writes report.json, report.md, index.html and costs.json into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(&json::render(self)).expect("a report is plain data") + "\n";
        let files = [("report.json", json), ("report.md", markdown::render(self)), ("index.html", html::render(self)?)];
        for (name, text) in files {
            let path = folder.join(name);
            durable::write(&path, text.as_bytes()).map_err(|e| Error::io(&path, e))?;
        }
        costs::write(&self.costs, folder)
    }

    /// The metrics of a family, in the order of its table's columns.
    pub fn metrics_of(&self, family: Family) -> impl Iterator<Item = &metrics::About> + '_ {
        self.metrics.iter().filter(move |about| about.family == family)
    }

    /// The metric `key`, which every report has.
    pub fn metric(&self, key: &str) -> &metrics::About {
        self.metrics.iter().find(|about| about.key == key).expect("a metric of the report")
    }

    /// The methods of any emotion, in the order of the tables; the mean over the emotions has only those that took
    /// part for all.
    pub fn methods(&self) -> Vec<About> {
        let mut methods: Vec<About> = Vec::new();
        for (_, section) in &self.emotions {
            let mut place = 0;
            for about in section.headlines.iter().map(|h| h.row.about) {
                place = methods.iter().position(|m| m.key == about.key).unwrap_or_else(|| {
                    methods.insert(place, about);
                    place
                }) + 1;
            }
        }
        methods
    }

    /// Whether every gate holds.
    pub fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }
}

/// The costs of the methods of any emotion.
fn costs_of(plan: &Plan, evaluation: &Evaluation) -> Result<Vec<Cost>> {
    let mut methods: Vec<EvaluatedMethod> = Vec::new();
    for evaluated_method in evaluation.evaluated_methods.iter().flat_map(|(_, evaluated_methods)| evaluated_methods) {
        if methods.iter().all(|known| known.about.key != evaluated_method.about.key) {
            methods.push(evaluated_method.clone());
        }
    }
    let seconds = |key: &str| {
        let series = evaluation.scores.series.iter().filter(|series| series.method == key);
        series.map(|series| series.time).sum::<EditTime>().seconds_an_edit()
    };
    costs::of(plan, &methods, seconds)
}
