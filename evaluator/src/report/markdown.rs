//! report.md: the same tables for a terminal pager or a code host.

use super::numbers::{arrow, flags, heading, interval, strength, value};
use super::pictures::Shown;
use super::{equal, Report};
use crate::summary::{Headline, Measure, Row, Section};

/// The report in Markdown; pictures are linked from images/.
pub fn render(report: &Report) -> String {
    let mut out = format!("# {}\n\n{}\n\n", report.title, report.date);
    out += &format!("{}\n\n", sources_line(report));
    out += &headlines(report, &report.summary);
    if let Some(title) = equal::title(report, &report.summary) {
        out += &format!("\n## {title}\n\n{}\n{}", equal_table(report, &report.summary), equal::NOTE);
        out.push('\n');
    }
    if report.emotions.len() > 1 {
        for (emotion, section) in &report.emotions {
            out += &format!("\n## {emotion}\n\n{}", headlines(report, section));
        }
    }
    out += &format!("\n## Strength\n\n{}", curves(report));
    out += &format!("\n## Sources that already show the target, and the others\n\n{}", by_source(report));
    if !report.gates.is_empty() {
        out += &format!("\n## Gates\n\n{}", gates(report));
    }
    for shown in &report.pictures {
        out += &pictures(shown);
    }
    out += &format!("\n## Definitions\n\n{}", definitions(report));
    out
}

/// What was edited and who judged, in one line.
pub fn sources_line(report: &Report) -> String {
    let text = |pointer: &str| {
        let value = report.provenance.pointer(pointer);
        value.map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_string))
    };
    let clip = match report.provenance.pointer("/clip/took_part_in_losses") {
        Some(serde_json::Value::Bool(true)) => {
            " The scoring CLIP was in the runs' losses: CLIP-I and CLIP dir. favour them."
        }
        _ => "",
    };
    let excluded = match report.provenance.pointer("/sources/target_excluded_from_headline") {
        Some(serde_json::Value::Bool(true)) => " Those that show the target already are left out of the headline.",
        _ => "",
    };
    format!(
        "{} held-out sources from {} (split {}).{excluded} Classifier {} ({}), in no loss.{clip} \
         Intervals: 95 % bootstrap over sources.",
        text("/sources/n"),
        text("/sources/shards"),
        text("/sources/filter/split"),
        text("/classifier/name"),
        text("/classifier/hash").chars().take(12).collect::<String>(),
    )
}

fn headlines(report: &Report, section: &Section) -> String {
    let name = |h: &Headline| [h.row.about.name.to_string()].into_iter().chain(flags(h)).collect::<Vec<_>>().join(" ");
    rows(report, section.headlines.iter().map(|h| (name(h), &h.row)))
}

fn equal_table(report: &Report, section: &Section) -> String {
    let mut out = head(report, "method | made of");
    for line in equal::lines(section) {
        out += &format!("| {} | {} | {} |{}\n", line.name, line.made_of, line.n, cells(report, line.measures));
    }
    out
}

fn curves(report: &Report) -> String {
    let points = report.summary.curves.iter().flatten();
    rows(report, points.map(|row| (row.about.name.to_string(), row)))
}

fn by_source(report: &Report) -> String {
    let split = report.summary.headlines.iter().flat_map(|h| {
        let name = h.row.about.name;
        [(format!("{name}, shows it"), &h.showing), (format!("{name}, does not"), &h.not_showing)]
    });
    rows(report, split)
}

fn rows<'a>(report: &Report, rows: impl Iterator<Item = (String, &'a Row)>) -> String {
    let mut out = head(report, "method | strength");
    for (name, row) in rows {
        out += &format!("| {name} | {} | {} |{}\n", strength(row), row.n, cells(report, &row.measures));
    }
    out
}

/// The first two columns as given, then n and every metric.
fn head(report: &Report, first: &str) -> String {
    let heads = report.metrics.iter().map(|m| format!(" {} {} |", heading(m), arrow(m.better))).collect::<String>();
    format!("| {first} | n |{heads}\n|---|---:|---:|{}\n", "---:|".repeat(report.metrics.len()))
}

fn cells(report: &Report, measures: &[Measure]) -> String {
    let cell = |(about, measure)| {
        let interval = interval(about, measure).map(|i| format!(" ({i})")).unwrap_or_default();
        format!(" {}{interval} |", value(about, measure))
    };
    report.metrics.iter().zip(measures).map(cell).collect()
}

fn gates(report: &Report) -> String {
    let line = |gate: &crate::gates::Outcome| {
        let minus = gate.minus.as_ref().map(|m| format!(" − {m}")).unwrap_or_default();
        let value = gate.value.map_or("not in the report".into(), |v| format!("{v:.4}"));
        format!(
            "- {}: {}{minus} {}, found {value}\n",
            if gate.passed { "passed" } else { "FAILED" },
            gate.metric,
            gate.bound
        )
    };
    report.gates.iter().map(line).collect()
}

fn pictures(shown: &Shown) -> String {
    let mut out = format!("\n## Pictures: {}\n\n{}\n", shown.emotion, shown.rule);
    for group in &shown.groups {
        out += &format!("\n{}\n\n", group.title);
        for strip in &group.strips {
            let images = strip.pictures.iter().map(|p| format!("![{}](images/{})", p.title, p.file));
            out += &format!("{}\n\n", images.collect::<Vec<_>>().join(" "));
        }
    }
    out
}

fn definitions(report: &Report) -> String {
    let metrics = report.metrics.iter().map(|m| format!("- **{}**: {}\n", m.title, m.definition));
    let methods = report.methods();
    metrics.chain(methods.iter().map(|m| format!("- **{}**: {}\n", m.name, m.definition))).collect()
}
