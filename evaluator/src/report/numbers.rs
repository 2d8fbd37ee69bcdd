//! Measures as people read them.

use crate::metrics::{About, Better};
use crate::scores::failures::Flag;
use crate::scores::rows::{Measure, Row};

/// The mark for a value that was not measured.
pub const NOTHING: &str = "–";

/// The mean: `71.7`, `∞` or `–`.
pub fn value(about: &About, measure: &Measure) -> String {
    match measure.value {
        None => NOTHING.into(),
        Some(value) if value.is_infinite() => "∞".into(),
        Some(value) => number(about, value),
    }
}

/// The interval: `58.7 to 84.8`, or nothing.
pub fn interval(about: &About, measure: &Measure) -> Option<String> {
    let [low, high] = measure.interval?;
    Some(format!("{} to {}", number(about, low), number(about, high)))
}

/// A column's heading with its unit: `Emo-A %`.
pub fn heading(about: &About) -> String {
    if about.unit.is_empty() {
        about.title.into()
    } else {
        format!("{} {}", about.title, about.unit)
    }
}

/// The direction that is better, as a sign.
pub fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => "↑",
        Better::Lower => "↓",
        Better::One => "→1",
    }
}

/// A strength: `1`, `0.5`, or `–` if there is none.
pub fn strength(row: &Row) -> String {
    row.strength.map_or_else(|| NOTHING.into(), |s| s.to_string())
}

/// A row's flags: `⚑ source lost in 40 of 46`.
pub fn flags(flags: &[Flag]) -> Vec<String> {
    flags.iter().map(|flag| format!("⚑ {} in {} of {}", flag.reason, flag.edits, flag.of)).collect()
}

/// A change with its sign: `+1.2`.
pub fn signed(about: &About, change: f64) -> String {
    let text = number(about, change);
    if text.starts_with('−') || text.chars().all(|c| c == '0' || c == '.') {
        return text;
    }
    format!("+{text}")
}

/// A value in the metric's unit and decimals.
pub fn number(about: &About, value: f64) -> String {
    let value = if about.percent { value * 100.0 } else { value };
    let text = format!("{value:.*}", about.decimals).replace('-', "−");
    // A rounded zero has no sign.
    match text.strip_prefix('−') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.into(),
        _ => text,
    }
}
