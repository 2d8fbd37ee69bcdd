//! report.md: the same tables for a terminal pager or a code host.

use super::numbers::{arrow, heading, interval, strength, value};
use super::pictures::Shown;
use super::terminal::equal_lines;
use super::Report;
use crate::summary::{Row, Section};

/// The report in Markdown; pictures are linked from images/.
pub fn render(report: &Report) -> String {
    let mut out = format!("# {}\n\n{}\n\n", report.title, report.date);
    out += &format!("{}\n\n", sources_line(report));
    out += &headlines(report, &report.summary);
    for line in equal_lines(report, &report.summary) {
        out += &format!("\n{line}\n");
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
    rows(report, section.headlines.iter().map(|h| (h.row.about.name.to_string(), &h.row)))
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
    let heads = report.metrics.iter().map(|m| format!(" {} {} |", heading(m), arrow(m.better))).collect::<String>();
    let mut out =
        format!("| method | strength | n |{heads}\n|---|---:|---:|{}\n", "---:|".repeat(report.metrics.len()));
    for (name, row) in rows {
        out += &format!("| {name} | {} | {} |", strength(row), row.n);
        for (about, measure) in report.metrics.iter().zip(&row.measures) {
            let interval = interval(about, measure).map(|i| format!(" ({i})")).unwrap_or_default();
            out += &format!(" {}{interval} |", value(about, measure));
        }
        out.push('\n');
    }
    out
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
    let methods = report.summary.headlines.iter().map(|h| &h.row.about);
    metrics.chain(methods.map(|m| format!("- **{}**: {}\n", m.name, m.definition))).collect()
}
