//! report.md: the same tables for a terminal pager or a code host.

use super::numbers::{arrow, flags, heading, interval, number, signed, strength, value, NOTHING};
use super::pictures::Shown;
use super::published;
use super::sheets::{self, Sheet};
use super::{equal, Report};
use crate::config::published::Published;
use crate::metrics::{About, Family};
use crate::scores::by_metric::ByMetric;
use crate::scores::rows::{Measure, Row};
use crate::scores::summary::{Headline, Section};

/// The report in Markdown; pictures are linked from images/.
pub fn render(report: &Report) -> String {
    let mut out = format!("# {}\n\n{}\n\n", report.title, report.date);
    out += &format!("{}\n\n", sources_line(report));
    out += &headlines(report, &report.summary, Family::Headline);
    if let Some(title) = equal::title(report, &report.summary) {
        out += &format!("\n## {title}\n\n{}\n{}", equal_table(report, &report.summary), equal::NOTE);
        out.push('\n');
    }
    if let Some(title) = report.trend.title() {
        out += &format!("\n## {title}\n\n{}\n{}\n", changes(report), report.trend.note());
    }
    for sheet in sheets::all(report) {
        out += &format!("\n## {}\n\n{}\n{}\n", sheet.title, sheet_table(&sheet), sheet.note);
    }
    let further = headlines(report, &report.summary, Family::Further);
    out += &format!("\n## Further measures\n\n{further}\n{}\n", references_line(report));
    if report.metrics_of(Family::EmoEdit).next().is_some() {
        let table = headlines(report, &report.summary, Family::EmoEdit);
        out += &format!("\n## EmoEdit's arithmetic\n\nFor comparison with its published table only.\n\n{table}");
    }
    for table in &report.published {
        out += &format!("\n## Published: {}\n\n{}. {}\n\n", table.source, table.protocol, published::NOTE);
        out += &published_table(report, table);
    }
    if report.emotions.len() > 1 {
        for (emotion, section) in &report.emotions {
            out += &format!("\n## {emotion}\n\n{}", headlines(report, section, Family::Headline));
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
    let shared = match report.provenance.pointer("/classifier/shares_clip_with_losses") {
        Some(serde_json::Value::Bool(true)) => " The classifier reads the CLIP of the runs' losses: it favours them.",
        _ => "",
    };
    let excluded = match report.provenance.pointer("/sources/target_excluded_from_headline") {
        Some(serde_json::Value::Bool(true)) => " Those that show the target already are left out of the headline.",
        _ => "",
    };
    format!(
        "{} held-out sources from {} (split {}).{excluded} Classifier {} ({}), in no loss.{shared}{clip} \
         Intervals: 95 % bootstrap over sources.",
        text("/sources/n"),
        text("/sources/shards"),
        text("/sources/filter/split"),
        text("/classifier/name"),
        text("/classifier/hash").chars().take(12).collect::<String>(),
    )
}

/// How many images the sets of edits are compared with.
pub fn references_line(report: &Report) -> String {
    let counts = report.provenance.pointer("/references/n").and_then(|n| n.as_object());
    let count = |(emotion, n): (&String, &serde_json::Value)| format!("{emotion} {n}");
    let counts: Vec<String> = counts.into_iter().flatten().map(count).collect();
    format!("CLIP-FID, FID and KLD compare with the target's own images, of which there are: {}.", counts.join(", "))
}

fn headlines(report: &Report, section: &Section, family: Family) -> String {
    let name =
        |h: &Headline| [h.row.about.name.to_string()].into_iter().chain(flags(&h.flags)).collect::<Vec<_>>().join(" ");
    rows(report, family, section.headlines.iter().map(|h| (name(h), &h.row)))
}

fn equal_table(report: &Report, section: &Section) -> String {
    let mut out = head(report, Family::Headline, "method | made of");
    for line in equal::lines(section) {
        out += &format!(
            "| {} | {} | {} |{}\n",
            [line.name.to_string()].into_iter().chain(flags(line.flags)).collect::<Vec<_>>().join(" "),
            line.made_of,
            line.n,
            cells(report, Family::Headline, line.measures)
        );
    }
    out
}

/// The headline's metrics as changes since the last comparable night.
fn changes(report: &Report) -> String {
    let metrics: Vec<_> = report.metrics_of(Family::Headline).collect();
    let mut out = table_head("method", metrics.iter().map(|m| heading(m)));
    for change in report.trend.changes(report.summary.headlines.iter().map(|h| h.row.about.key)) {
        out += &format!("| {} |", change.now.name);
        for about in &metrics {
            let flag = if change.is_clear(about.key) { "⚑ " } else { "" };
            let text = change.of(about.key).map_or(NOTHING.into(), |(then, now)| {
                format!("{flag}{} ({} → {})", signed(about, now - then), number(about, then), number(about, now))
            });
            out += &format!(" {text} |");
        }
        out.push('\n');
    }
    out
}

fn published_table(report: &Report, table: &Published) -> String {
    let columns = published::columns(report, table);
    let mut out = table_head("method", columns.iter().map(|column| column.heading()));
    for published::PublishedRow { name, values, .. } in published::rows(report, table) {
        let cells: String = columns.iter().zip(values).map(|(c, value)| format!(" {} |", c.text(value))).collect();
        out += &format!("| {name} |{cells}\n");
    }
    out
}

fn sheet_table(sheet: &Sheet) -> String {
    let mut out = table_head(&sheet.columns[0], sheet.columns[1..].iter().cloned());
    for row in &sheet.rows {
        out += &format!("| {} |\n", row.join(" | "));
    }
    out
}

/// The first column on the left, the others on the right.
fn table_head(first: &str, others: impl Iterator<Item = String>) -> String {
    let others: Vec<String> = others.map(|heading| format!(" {heading} |")).collect();
    format!("| {first} |{}\n|---|{}\n", others.concat(), "---:|".repeat(others.len()))
}

fn curves(report: &Report) -> String {
    let points = report.summary.curves.iter().flatten();
    rows(report, Family::Headline, points.map(|row| (row.about.name.to_string(), row)))
}

fn by_source(report: &Report) -> String {
    let split = report.summary.headlines.iter().flat_map(|h| {
        let name = h.row.about.name;
        [(format!("{name}, shows it"), &h.showing), (format!("{name}, does not"), &h.not_showing)]
    });
    rows(report, Family::Headline, split)
}

fn rows<'a>(report: &Report, family: Family, rows: impl Iterator<Item = (String, &'a Row)>) -> String {
    let mut out = head(report, family, "method | strength");
    for (name, row) in rows {
        out += &format!("| {name} | {} | {} |{}\n", strength(row), row.n, cells(report, family, &row.measures));
    }
    out
}

/// The first two columns as given, then n and every metric of the family.
fn head(report: &Report, family: Family, first: &str) -> String {
    let heads: Vec<String> =
        report.metrics_of(family).map(|m| format!(" {} {} |", heading(m), arrow(m.better))).collect();
    format!("| {first} | n |{}\n|---|---:|---:|{}\n", heads.concat(), "---:|".repeat(heads.len()))
}

fn cells(report: &Report, family: Family, measures: &ByMetric<Measure>) -> String {
    let cell = |about: &About| {
        let measure = &measures[about.key];
        let interval = interval(about, measure).map(|i| format!(" ({i})")).unwrap_or_default();
        format!(" {}{interval} |", value(about, measure))
    };
    report.metrics_of(family).map(cell).collect()
}

fn gates(report: &Report) -> String {
    let line = |gate: &crate::report::gates::Outcome| {
        let minus = gate.minus.as_ref().map(|m| format!(" − {m}")).unwrap_or_default();
        let nothing = if gate.first_night { "no comparable night before" } else { "not in the report" };
        let value = gate.value.map_or(nothing.into(), |v| format!("{v:.4}"));
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
