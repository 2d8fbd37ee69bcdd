//! The tables beside the metrics' own: what judges find over all edits, methods against the featured one, true
//! pictures, costs. The page and the Markdown both show them.

use serde::Serialize;
use serde_json::Value;

use super::numbers::{heading, number, signed, strength, NOTHING};
use super::Report;
use crate::metrics::statistics::paired::Difference;
use crate::metrics::About;
use crate::scores::comparisons::Comparison;
use crate::scores::rows::Row;

/// A table, ready to be written.
#[derive(Clone, Debug, Serialize)]
pub struct Sheet {
    /// Its anchor in the page.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// Its explanation.
    pub note: String,
    /// The columns; the first is that of names.
    pub columns: Vec<String>,
    /// The rows, one cell for each column.
    pub rows: Vec<Vec<String>>,
}

/// Every table that has content.
pub fn all(report: &Report) -> Vec<Sheet> {
    let sheets = [judges(report), shares(report), comparisons(report), truth(report), costs(report)];
    sheets.into_iter().filter(|sheet| !sheet.rows.is_empty()).collect()
}

fn words(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| column.to_string()).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// The judges, and how they read real pictures.
fn judges(report: &Report) -> Sheet {
    let real = &report.provenance["judges_on_real_images"];
    let cell = |value: &Value, show: &dyn Fn(f64) -> String| value.as_f64().map_or(NOTHING.into(), show);
    let row = |(place, judge): (usize, &Value)| {
        let agreement = place.checked_sub(1).map(|further| &real["agreement"][further]).unwrap_or(&Value::Null);
        vec![
            judge["name"].as_str().unwrap_or_default().to_string(),
            judge["architecture"].as_str().unwrap_or_default().to_string(),
            judge["hash"].as_str().unwrap_or_default().chars().take(12).collect(),
            cell(&real["accuracy"][place]["accuracy"], &percent),
            cell(&agreement["agreement"], &percent),
            cell(&agreement["kappa"], &|kappa| format!("{kappa:.3}")),
        ]
    };
    let judges = report.provenance["judges"].as_array();
    Sheet {
        id: "judges",
        title: "Judges".into(),
        note: format!(
            "In no loss. Right and agreeing (with the first; κ is Cohen's) on {} real pictures, the emotions' own images.",
            real["n"]
        ),
        columns: words(&["judge", "architecture", "hash", "right %", "agrees %", "κ"]),
        rows: judges.into_iter().flatten().enumerate().map(row).collect(),
    }
}

/// Every headline row but the shuffled control's, whose edits belong to another row.
fn rows(report: &Report) -> impl Iterator<Item = &Row> {
    let rows = report.summary.headlines.iter().map(|headline| &headline.row);
    rows.filter(|row| row.about.key != crate::methods::SHUFFLED)
}

/// What the judges find over all edits.
fn shares(report: &Report) -> Sheet {
    let row = |row: &Row, judge: usize| {
        let none = row.share_of_none(judge);
        let shares = row.shares[judge].iter().chain([&none]).map(|&share| percent(share));
        let name = [row.about.name.to_string(), strength(row), report.judges[judge].clone()];
        name.into_iter().chain(shares).chain([row.failed.to_string()]).collect()
    };
    let of = |all: &Row| (0..all.shares.len()).map(|judge| row(all, judge)).collect::<Vec<_>>();
    let emotions = emotions::Emotion::ALL.iter().map(|emotion| emotion.name());
    let columns: Vec<&str> =
        ["method", "strength", "judge"].into_iter().chain(emotions).chain(["none of them", "failed edits"]).collect();
    Sheet {
        id: "shares",
        title: "Classes found over all edits, %".into(),
        note: "A method whose edits all become one emotion, or all become pleasant, shows here. Edits that failed are of no \
               class and count as misses."
            .into(),
        columns: words(&columns),
        rows: rows(report).flat_map(of).collect(),
    }
}

/// Every method against the featured one.
fn comparisons(report: &Report) -> Sheet {
    let name = |key: &str| report.methods().iter().find(|m| m.key == key).map_or(String::new(), |m| m.name.to_string());
    let row = |compared: &Comparison| {
        let (about, overall) = (&compared.metric, compared.overall.as_ref()?);
        let clear: Vec<&str> =
            compared.emotions.iter().filter(|of| of.is_clear()).map(|of| of.emotion.name()).collect();
        Some(vec![
            compared.method.name.to_string(),
            heading(about),
            overall.n.to_string(),
            difference(about, overall),
            p_value(overall.p),
            overall.least.map_or(NOTHING.into(), |least| number(about, least)),
            if clear.is_empty() { "none".into() } else { clear.join(", ") },
        ])
    };
    let featured = report.featured.map(name).unwrap_or_default();
    Sheet {
        id: "comparisons",
        title: format!("{featured} minus the others, on the same sources"),
        note: "Paired bootstrap over sources: the 95 % interval and the two-sided p of the mean over the emotions; the least \
               difference that so many sources show in 80 % of such evaluations (5 % level); and the emotions whose own \
               difference is significant at 5 % after Holm's correction. report.json has each emotion's numbers."
            .into(),
        columns: words(&["method", "metric", "n", "difference", "p", "least to be seen", "clear for"]),
        rows: report.comparisons.iter().filter_map(row).collect(),
    }
}

fn difference(about: &About, of: &Difference) -> String {
    let interval = of.interval.map(|[low, high]| format!(" ({} to {})", signed(about, low), signed(about, high)));
    signed(about, of.difference) + &interval.unwrap_or_default()
}

fn p_value(p: Option<f64>) -> String {
    match p {
        None => NOTHING.into(),
        Some(p) if p < 0.001 => "< 0.001".into(),
        Some(p) => format!("{p:.3}"),
    }
}

/// How many edits were compared with true pictures.
fn truth(report: &Report) -> Sheet {
    let row = |row: &Row| {
        let truth = &row.truth;
        vec![
            row.about.name.to_string(),
            strength(row),
            truth.pairs.to_string(),
            format!("{:.2}", truth.drawings),
            truth.undefined.to_string(),
        ]
    };
    Sheet {
        id: "truth",
        title: "True pictures".into(),
        note:
            "Edits of subjects that the data set shows in the target's state as well; of several true pictures the one \
               nearest to the edit in LPIPS counts. Pairs of equal pictures, and edits that failed, are left out of \
               what is measured against the truth. Read the others' truth gain against the oracle's."
                .into(),
        columns: words(&["method", "strength", "pairs", "true pictures a pair", "left out"]),
        rows: rows(report).filter(|row| row.truth.pairs > 0).map(row).collect(),
    }
}

/// What an edit costs.
fn costs(report: &Report) -> Sheet {
    let cell = |value: Option<f64>, decimals: usize| value.map_or(NOTHING.into(), |v| format!("{v:.decimals$}"));
    let row = |cost: &crate::scores::costs::Cost| {
        vec![
            cost.name.to_string(),
            cell(cost.seconds_an_edit, 3),
            cost.parameters.map_or(NOTHING.into(), |count| count.to_string()),
            cell(cost.training_minutes, 1),
            cost.device.to_string(),
        ]
    };
    Sheet {
        id: "costs",
        title: "Costs".into(),
        note: "Seconds of one edit by itself, encoding and inversion included, as tonight's clock had them; parameters that \
               were trained; minutes of a run's steps, where its log says so."
            .into(),
        columns: words(&["method", "seconds an edit", "parameters", "training minutes", "device"]),
        rows: report.costs.iter().map(row).collect(),
    }
}
