//! Tonight compared with earlier nights: what changed since the last comparable one, and a plot of all.
//!
//! Nights are comparable if the same judges saw edits of the same photos towards the same emotions.

use std::fmt::Write;

use serde_json::{json, Value};

use super::plots::{decimal, grid_line, legend, look, mark, nice_step, LEFT, RIGHT, WIDTH};
use crate::metrics::About;
use crate::report::history::{RunRecord, Scores};

/// The most nights in the plot and in report.json.
const SHOWN: usize = 60;

const HEIGHT: f64 = 150.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 22.0;
/// The distance between two dates below the plot.
const DATE_WIDTH: f64 = 62.0;

/// Tonight and the nights before it, by date.
#[derive(Debug)]
pub struct Trend {
    records: Vec<RunRecord>, // tonight is the last
}

/// A method's change since the last comparable night.
#[derive(Debug)]
pub struct Change<'a> {
    /// Then.
    pub then: &'a Scores,
    /// Now.
    pub now: &'a Scores,
}

impl Change<'_> {
    /// Both means of a metric; none if one is missing.
    pub fn of(&self, metric: &str) -> Option<(f64, f64)> {
        Some((self.then.values.get(metric).copied()??, self.now.values.get(metric).copied()??))
    }

    /// Whether each night's mean lies outside the other's 95 % interval.
    pub fn is_clear(&self, metric: &str) -> bool {
        let outside = |value: f64, scores: &Scores| {
            scores.intervals.get(metric).is_some_and(|[low, high]| value < *low || value > *high)
        };
        self.of(metric).is_some_and(|(then, now)| outside(then, self.now) && outside(now, self.then))
    }
}

impl Trend {
    /// Tonight after the nights `before`.
    pub fn new(before: &[RunRecord], current: RunRecord) -> Self {
        let first = before.len().saturating_sub(SHOWN - 1);
        Self { records: before[first..].iter().cloned().chain([current]).collect() }
    }

    /// Records whether tonight's gates hold.
    pub fn decide(&mut self, passed: bool) {
        self.records.last_mut().expect("tonight is there").passed = passed;
    }

    /// The night that the report is of.
    pub fn current(&self) -> &RunRecord {
        self.records.last().expect("tonight is there")
    }

    /// The last night before under the same conditions.
    pub fn previous(&self) -> Option<&RunRecord> {
        let current = self.current();
        self.records.iter().rev().skip(1).find(|record| record.conditions == current.conditions)
    }

    /// `Since 2026-01-30`; none without a comparable night.
    pub fn title(&self) -> Option<String> {
        self.previous().map(|record| format!("Since {}", record.date))
    }

    /// What is compared, and which later nights are skipped.
    pub fn note(&self) -> String {
        let since = self.previous().map_or("", |record| record.date.as_str());
        let others = self.records.iter().rev().skip(1).filter(|record| record.date.as_str() > since).count();
        let others = match others {
            0 => String::new(),
            1 => " One night between had other photos, emotions or judges and is passed over.".into(),
            n => format!(" {n} nights between had other photos, emotions or judges and are passed over."),
        };
        format!("⚑ marks changes where each night's mean lies outside the other's 95 % interval.{others}")
    }

    /// Every method of tonight that the last comparable night also had, in the order of `keys`.
    pub fn changes<'a>(&'a self, keys: impl Iterator<Item = &'a str>) -> Vec<Change<'a>> {
        let Some(previous) = self.previous() else { return Vec::new() };
        let change = |key| Some(Change { then: previous.methods.get(key)?, now: self.current().methods.get(key)? });
        keys.filter_map(change).collect()
    }

    /// `history` of report.json.
    pub fn json(&self) -> Value {
        let conditions = &self.current().conditions;
        let record = |record: &RunRecord| {
            let mut value = serde_json::to_value(record).expect("a night is plain data");
            value["comparable"] = (record.conditions == *conditions).into();
            value
        };
        json!({"previous": self.previous(), "nights": self.records.iter().map(record).collect::<Vec<_>>()})
    }

    /// Emo-A and LPIPS of `metrics` over the nights, with a line for each of tonight's `keys` but the controls; empty
    /// if tonight is the first.
    pub fn plot<'a>(&'a self, metrics: &[About], keys: impl Iterator<Item = &'a str>) -> String {
        if self.records.len() < 2 {
            return String::new();
        }
        let current = &self.current().methods;
        let named = |key: &'a str| Some((key, current.get(key).filter(|s| !s.control)?.name.as_str()));
        let methods: Vec<(&str, &str)> = keys.filter_map(named).collect();
        let panels = metrics.iter().filter(|m| ["emo_a", "lpips"].contains(&m.key)).map(|m| self.panel(m, &methods));
        panels.collect::<String>() + &legend(methods.iter().map(|&(key, name)| (key, name, true)))
    }

    fn panel(&self, about: &About, methods: &[(&str, &str)]) -> String {
        let panel = Panel::new(&self.records, about, methods);
        let title = super::numbers::heading(about);
        let mut out = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} by night\">\
             <text x=\"{LEFT}\" y=\"14\">{title}</text>"
        );
        out += &panel.frame();
        for (key, _) in methods {
            out += &panel.line(key);
        }
        out + "</svg>"
    }
}

fn value(record: &RunRecord, method: &str, metric: &str) -> Option<f64> {
    record.methods.get(method)?.values.get(metric).copied()?
}

/// One metric over the nights, evenly spaced.
struct Panel<'a> {
    records: &'a [RunRecord],
    about: &'a About,
    step: f64, // between two grid lines
    top: f64,
}

impl<'a> Panel<'a> {
    fn new(records: &'a [RunRecord], about: &'a About, methods: &[(&str, &str)]) -> Self {
        if about.percent {
            return Self { records, about, step: 0.25, top: 1.0 };
        }
        let values =
            records.iter().flat_map(|record| methods.iter().filter_map(|(key, _)| value(record, key, about.key)));
        let largest = values.fold(0.05, f64::max);
        let step = nice_step(largest * 2.0);
        Self { records, about, step, top: (largest / step).ceil() * step }
    }

    fn x(&self, place: usize) -> f64 {
        LEFT + 8.0 + place as f64 / (self.records.len() - 1) as f64 * (WIDTH - LEFT - RIGHT - 16.0)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (1.0 - value / self.top) * (HEIGHT - TOP - BOTTOM)
    }

    fn frame(&self) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut out = String::new();
        for tick in 0..=(self.top / self.step).round() as usize {
            let value = self.step * tick as f64;
            let label = decimal(if self.about.percent { value * 100.0 } else { value });
            out += &grid_line(self.y(value), &label);
        }
        let apart = (WIDTH - LEFT - RIGHT) / (self.records.len() - 1) as f64;
        let every = (DATE_WIDTH / apart).ceil() as usize;
        for (place, record) in self.records.iter().enumerate().rev().step_by(every.max(1)) {
            let (x, date) = (self.x(place), record.date.get(5..).unwrap_or_default());
            let anchor = if place + 1 == self.records.len() { "end" } else { "middle" };
            let _ = write!(
                out,
                "<text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{date}</text>",
                bottom + 14.0
            );
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>");
        out
    }

    /// The line is interrupted where the conditions change; nights under other conditions than tonight's are hollow.
    fn line(&self, method: &str) -> String {
        let look = look(method);
        let current = &self.records.last().expect("tonight is there").conditions;
        let mut out = format!("<g class=\"{}\">", look.class);
        let mut first = 0;
        for stretch in self.records.chunk_by(|a, b| a.conditions == b.conditions) {
            let points: Vec<(f64, f64)> = (first..)
                .zip(stretch)
                .filter_map(|(place, record)| Some((self.x(place), self.y(value(record, method, self.about.key)?))))
                .collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(out, "<polyline points=\"{}\" stroke-dasharray=\"{}\"/>", path.join(" "), look.dash);
            let hollow = stretch.first().is_some_and(|record| record.conditions != *current);
            let marks: String = points.iter().map(|&(x, y)| mark(look, x, y, 3.0)).collect();
            let _ = write!(out, "<g class=\"{}\">{marks}</g>", if hollow { "m-hollow" } else { "" });
            first += stretch.len();
        }
        out + "</g>"
    }
}
