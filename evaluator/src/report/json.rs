//! report.json: every number by a stable path, such as `methods.joint.emo_a`.
//!
//! A mean is a number; its interval stands beside it as `<metric>_interval: [low, high]`. Infinite and undefined
//! values are null, and an infinite one says so in `<metric>_text`.

use serde_json::{json, Map, Value};

use super::Report;
use crate::metrics::About;
use crate::scores::by_metric::ByMetric;
use crate::scores::equal_lpips::EqualLpips;
use crate::scores::rows::{Measure, Row};
use crate::scores::summary::{Headline, Section};

/// The version, which counts changes that break readers.
pub const FORMAT_VERSION: u32 = 2;

/// The JSON schema of what [`render`] writes.
pub const SCHEMA: &str = include_str!("../../../manifests/schemas/report.schema.json");

/// The whole report without the bytes of its pictures.
pub fn render(report: &Report) -> Value {
    let emotions: Map<String, Value> = report
        .emotions
        .iter()
        .map(|(emotion, section)| (emotion.name().to_string(), section_json(report, section)))
        .collect();
    let summary = section_json(report, &report.summary);
    json!({
        "format_version": FORMAT_VERSION,
        "title": report.title,
        "date": report.date,
        "methods": summary["methods"],
        "curves": summary["curves"],
        "emotions": emotions,
        "featured_method": report.featured,
        "cases": report.pictures.iter().map(|shown| shown.json()).collect::<Vec<_>>(),
        "gates": report.gates,
        "passed": report.passed(),
        "metrics": report.metrics,
        "confidence": crate::metrics::statistics::bootstrap::CONFIDENCE,
        "history": report.trend.json(),
        "published": report.published,
        "comparisons": crate::scores::comparisons::json(&report.comparisons),
        "costs": report.costs,
        "provenance": report.provenance,
    })
}

fn section_json(report: &Report, section: &Section) -> Value {
    let methods: Map<String, Value> = section
        .headlines
        .iter()
        .map(|headline| (headline.row.about.key.to_string(), headline_json(report, headline)))
        .collect();
    let curves: Map<String, Value> = section
        .curves
        .iter()
        .filter_map(|rows| Some((rows.first()?.about.key.to_string(), rows)))
        .map(|(key, rows)| (key, rows.iter().map(|row| Value::Object(point(&report.metrics, row))).collect()))
        .collect();
    json!({"methods": methods, "curves": curves})
}

fn headline_json(report: &Report, headline: &Headline) -> Value {
    let row = &headline.row;
    let mut map = point(&report.metrics, row);
    map.insert("name".into(), row.about.name.into());
    map.insert("control".into(), row.about.control.into());
    map.insert("macro_f1".into(), json!(row.macro_f1));
    let per_class: Map<String, Value> = emotions::Emotion::ALL
        .into_iter()
        .filter_map(|e| Some((e.name().to_string(), json!(row.confusion.accuracy_of(e)?))))
        .collect();
    map.insert("emo_a_per_class".into(), Value::Object(per_class));
    map.insert("confusion".into(), json!(row.confusion));
    map.insert("failed".into(), row.failed.into());
    map.insert("predicted_shares".into(), shares_json(report, row));
    map.insert("truth".into(), json!(row.truth));
    let split = json!({
        "shows_target": point(&report.metrics, &headline.showing),
        "does_not_show_target": point(&report.metrics, &headline.not_showing),
    });
    map.insert("by_source".into(), split);
    map.insert("flags".into(), json!(headline.flags));
    if let Some(equal) = &headline.at_equal_lpips {
        map.insert("at_equal_lpips".into(), equal_json(&report.metrics, equal));
    }
    Value::Object(map)
}

/// Each judge's share of each class.
fn shares_json(report: &Report, row: &Row) -> Value {
    let shares = |judge: usize| -> Map<String, Value> {
        let emotions = emotions::Emotion::ALL.iter().zip(&row.shares[judge]);
        emotions.map(|(emotion, share)| (emotion.name().into(), json!(share))).collect()
    };
    let judge = |(judge, name): (usize, &String)| json!({"judge": name, "shares": shares(judge), "none": row.share_of_none(judge)});
    report.judges.iter().take(row.shares.len()).enumerate().map(judge).collect()
}

/// `between` has two strengths; the lower is null for the unedited photo.
fn equal_json(metrics: &[About], equal: &EqualLpips) -> Value {
    let mut map = Map::new();
    map.insert("reference".into(), equal.reference.into());
    map.insert("between".into(), json!([equal.mix.lower, equal.mix.upper]));
    map.insert("share_of_upper".into(), equal.mix.share.into());
    map.insert("is_largest_strength_run".into(), equal.mix.at_the_end.into());
    map.insert("n".into(), equal.n.into());
    map.insert("flags".into(), json!(equal.flags));
    insert_measures(&mut map, metrics, &equal.measures);
    Value::Object(map)
}

/// Strength, n and every measure with its interval.
fn point(metrics: &[About], row: &Row) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("strength".into(), json!(row.strength));
    map.insert("n".into(), row.n.into());
    insert_measures(&mut map, metrics, &row.measures);
    map
}

fn insert_measures(map: &mut Map<String, Value>, metrics: &[About], measures: &ByMetric<Measure>) {
    for (about, measure) in metrics.iter().filter_map(|about| Some((about, measures.get(about.key)?))) {
        map.insert(about.key.into(), json!(measure.value.filter(|v| v.is_finite())));
        map.insert(format!("{}_interval", about.key), json!(measure.interval));
        if measure.value.is_some_and(f64::is_infinite) {
            map.insert(format!("{}_text", about.key), "inf".into());
        }
    }
}
