//! The table on standard output at the end of a run.

use super::equal;
use super::numbers::{flags, heading, interval, number, strength, value, NOTHING};
use super::Report;
use crate::metrics::{About, Family};
use crate::scores::summary::{Headline, Section};

/// Headline table, one line for each of several emotions, the comparison at equal LPIPS, flags and gates.
pub fn render(report: &Report) -> String {
    let mut out = format!("{} · {}\n\n", report.title, report.date);
    out += &columns(&headline_rows(report, &report.summary));
    if report.emotions.len() > 1 {
        out += &format!("\n{}", columns(&emotion_rows(report)));
    }
    if let Some(title) = equal::title(report, &report.summary) {
        out += &format!("\n{title}\n{}", columns(&equal_rows(report, &report.summary)));
    }
    out += &since(report);
    for headline in report.summary.headlines.iter().filter(|h| !h.flags.is_empty()) {
        out += &format!("\n{}: {}", headline.row.about.name, flags(&headline.flags).join(", "));
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

/// The featured method's change since the last comparable night.
fn since(report: &Report) -> String {
    let (Some(title), Some(featured)) = (report.trend.title(), report.featured) else { return String::new() };
    let Some(change) = report.trend.changes([featured].into_iter()).pop() else { return String::new() };
    let told = report.metrics.iter().filter(|m| ["emo_a", "lpips"].contains(&m.key)).filter_map(|about| {
        let (then, now) = change.of(about.key)?;
        Some(format!("{} {} → {}", heading(about), number(about, then), number(about, now)))
    });
    format!("\n{title}: {} {}", change.now.name, told.collect::<Vec<_>>().join(", "))
}

fn headline_rows(report: &Report, section: &Section) -> Vec<Vec<String>> {
    let mut head = vec!["method".to_string(), "strength".into(), "n".into()];
    for about in report.metrics_of(Family::Headline) {
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
    for about in report.metrics_of(Family::Headline) {
        let measure = &row.measures[about.key];
        cells.push(value(about, measure));
        if about.key == "emo_a" {
            cells.push(interval(about, measure).unwrap_or_default());
        }
    }
    cells
}

/// Emo-A of every method and the featured method's LPIPS, one line for each emotion.
fn emotion_rows(report: &Report) -> Vec<Vec<String>> {
    let methods = report.methods();
    let names = methods.iter().map(|m| m.name.to_string());
    let mut rows =
        vec![std::iter::once("Emo-A %".to_string()).chain(names).chain(["LPIPS".into()]).collect::<Vec<_>>()];
    let sections = report.emotions.iter().map(|(e, s)| (e.name(), s)).chain([("mean", &report.summary)]);
    for (name, section) in sections {
        let cell = |method: &str, metric: &str| {
            section.row(method).map_or(NOTHING.into(), |row| value(report.metric(metric), &row.measures[metric]))
        };
        let cells = methods.iter().map(|m| cell(m.key, "emo_a"));
        let featured = cell(report.featured.unwrap_or_default(), "lpips");
        rows.push(std::iter::once(name.to_string()).chain(cells).chain([featured]).collect());
    }
    rows
}

fn equal_rows(report: &Report, section: &Section) -> Vec<Vec<String>> {
    let shown = ["emo_a", "emo_s", "lpips", "psnr", "ssim", "clip_i"];
    let metrics: Vec<&About> = report.metrics.iter().filter(|about| shown.contains(&about.key)).collect();
    let head = ["method".to_string(), "made of".into()].into_iter();
    let mut rows: Vec<Vec<String>> = vec![head.chain(metrics.iter().map(|about| heading(about))).collect()];
    for line in equal::lines(section) {
        let numbers = metrics.iter().map(|about| value(about, &line.measures[about.key]));
        let name = if line.flags.is_empty() { line.name.to_string() } else { format!("{} ⚑", line.name) };
        rows.push([name, line.made_of].into_iter().chain(numbers).collect());
    }
    rows
}

/// Cells in columns; the first is aligned left, the others right.
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
