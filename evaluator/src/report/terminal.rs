//! The table that closes a run on standard output.

use super::numbers::{heading, interval, strength, value, NOTHING};
use super::Report;
use crate::summary::{Headline, Section};

/// Headline table, one line an emotion where there are several, equal-LPIPS rows and gates.
pub fn render(report: &Report) -> String {
    let mut out = format!("{} · {}\n\n", report.title, report.date);
    out += &columns(&headline_rows(report, &report.summary));
    if report.emotions.len() > 1 {
        out += &format!("\n{}", columns(&emotion_rows(report)));
    }
    for line in equal_lines(report, &report.summary) {
        out += &format!("\n{line}");
    }
    for gate in &report.gates {
        let metric = gate.minus.as_ref().map_or(gate.metric.clone(), |minus| format!("{} - {minus}", gate.metric));
        let value = gate.value.map_or(NOTHING.to_string(), |v| format!("{v:.4}"));
        out += &format!(
            "\ngate {}: {metric} {} (found {value})",
            if gate.passed { "ok    " } else { "FAILED" },
            gate.bound
        );
    }
    out + "\n"
}

fn headline_rows(report: &Report, section: &Section) -> Vec<Vec<String>> {
    let mut head = vec!["method".to_string(), "strength".into(), "n".into()];
    for about in &report.metrics {
        head.push(heading(about));
        if about.key == "emo_a" {
            head.push("95 %".into());
        }
    }
    let mut rows = vec![head];
    rows.extend(section.headlines.iter().map(|h| headline_row(report, h)));
    rows
}

fn headline_row(report: &Report, headline: &Headline) -> Vec<String> {
    let row = &headline.row;
    let mut cells = vec![row.about.name.to_string(), strength(row), row.n.to_string()];
    for (about, measure) in report.metrics.iter().zip(&row.measures) {
        cells.push(value(about, measure));
        if about.key == "emo_a" {
            cells.push(interval(about, measure).unwrap_or_default());
        }
    }
    cells
}

/// Emo-A of every method and the featured method's LPIPS, one line an emotion.
fn emotion_rows(report: &Report) -> Vec<Vec<String>> {
    let place = |key: &str| report.metrics.iter().position(|m| m.key == key).expect("a metric of the report");
    let (emo_a, lpips) = (place("emo_a"), place("lpips"));
    let names = report.summary.headlines.iter().map(|h| format!("{} Emo-A %", h.row.about.name));
    let mut rows =
        vec![std::iter::once("emotion".to_string()).chain(names).chain(["LPIPS".into()]).collect::<Vec<_>>()];
    let sections = report.emotions.iter().map(|(e, s)| (e.name(), s)).chain([("mean", &report.summary)]);
    for (name, section) in sections {
        let mut cells = vec![name.to_string()];
        for headline in &report.summary.headlines {
            let row = section.row(headline.row.about.key);
            cells.push(row.map_or(NOTHING.into(), |r| value(&report.metrics[emo_a], &r.measures[emo_a])));
        }
        let featured = report.featured.and_then(|key| section.row(key));
        cells.push(featured.map_or(NOTHING.into(), |r| value(&report.metrics[lpips], &r.measures[lpips])));
        rows.push(cells);
    }
    rows
}

/// One line for each method that was compared at equal LPIPS.
pub fn equal_lines(report: &Report, section: &Section) -> Vec<String> {
    let place = |key: &str| report.metrics.iter().position(|m| m.key == key).expect("a metric of the report");
    let (emo_a, lpips) = (place("emo_a"), place("lpips"));
    let line = |headline: &Headline| {
        let equal = headline.at_equal_lpips.as_ref()?;
        let (name, reference) = (headline.row.about.name, equal.reference);
        let Some(row) = &equal.row else {
            return Some(format!("{name}: every strength run lies above the LPIPS of {reference}"));
        };
        let end = if equal.at_the_end { ", the largest that was run" } else { "" };
        Some(format!(
            "{name} at no more LPIPS than {reference}: Emo-A {} %, LPIPS {} (strength {}{end})",
            value(&report.metrics[emo_a], &row.measures[emo_a]),
            value(&report.metrics[lpips], &row.measures[lpips]),
            strength(row),
        ))
    };
    section.headlines.iter().filter_map(line).collect()
}

/// Cells in columns, the first to the left and the others to the right.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| match c {
            0 => format!("{cell:<0$}", widths[0]),
            _ => format!("{cell:>0$}", widths[c]),
        });
        out += cells.collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    }
    out
}
