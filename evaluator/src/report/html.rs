//! index.html: one file with its styles, plots and pictures, readable offline, on a phone and in print.

use minijinja::{context, AutoEscape, Environment, Value};
use serde::Serialize;

use super::numbers::{arrow, flags, heading, interval, number, signed, strength, value};
use super::published::PublishedRow;
use super::trend::Change;
use super::{equal, plots, Report};
use crate::config::published::Published;
use crate::error::Result;
use crate::metrics::statistics::confusion::Confusion;
use crate::metrics::{About, Family};
use crate::scores::by_metric::ByMetric;
use crate::scores::rows::{Measure, Row};
use crate::scores::summary::Section;

const TEMPLATE: &str = include_str!("template.html");
const STYLE: &str = include_str!("style.css");

/// A table, ready to be written.
#[derive(Debug, Serialize)]
struct Table {
    columns: Vec<Column>,
    rows: Vec<TableRow>,
}

#[derive(Debug, Serialize)]
struct Column {
    heading: String,
    arrow: &'static str,
}

#[derive(Debug, Serialize)]
struct TableRow {
    name: String,
    control: bool,
    flags: Vec<String>,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    text: String,
    interval: Option<String>,
}

/// A row of shares with counts.
#[derive(Debug, Serialize)]
struct Matrix {
    columns: Vec<&'static str>,
    rows: Vec<MatrixRow>,
}

#[derive(Debug, Serialize)]
struct MatrixRow {
    name: String,
    cells: Vec<MatrixCell>,
}

#[derive(Debug, Serialize)]
struct MatrixCell {
    count: u32,
    share: f64,
    target: bool,
}

/// The page.
pub fn render(report: &Report) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("index.html", TEMPLATE)?;
    let provenance = flat(&report.provenance);
    let page = context! {
        style => Value::from_safe_string(STYLE.to_string()),
        title => report.title,
        date => report.date,
        sources => super::markdown::sources_line(report),
        headline => headlines(report, Family::Headline),
        sheets => super::sheets::all(report),
        further => headlines(report, Family::Further),
        references => super::markdown::references_line(report),
        emoedit => headlines(report, Family::EmoEdit),
        equal_title => equal::title(report, &report.summary),
        equal_note => equal::NOTE,
        equal => equal_table(report, &report.summary),
        trend_title => report.trend.title(),
        trend_note => report.trend.note(),
        changes => changes(report),
        trend => Value::from_safe_string(report.trend.plot(&report.metrics, report.methods().iter().map(|m| m.key))),
        published => report.published.iter().map(|table| published(report, table)).collect::<Vec<_>>(),
        published_note => super::published::NOTE,
        curve => Value::from_safe_string(plots::curve(&report.summary)),
        several => report.emotions.len() > 1,
        by_emotion => by_emotion(report),
        landed => landed(report),
        sweep => rows(report, Family::Headline, report.summary.curves.iter().flatten().map(|r| (r.about.name.to_string(), r))),
        by_source => by_source(report),
        shown => report.pictures,
        gates => report.gates,
        metrics => report.metrics,
        methods => report.methods(),
        featured => report.methods().iter().find(|m| Some(m.key) == report.featured).map(|m| m.name),
        provenance => provenance,
        recipe => report.provenance["recipe"].as_str().unwrap_or_default(),
    };
    Ok(environment.get_template("index.html")?.render(page)?)
}

fn headlines(report: &Report, family: Family) -> Table {
    let section = &report.summary;
    let mut table = rows(report, family, section.headlines.iter().map(|h| (h.row.about.name.to_string(), &h.row)));
    for (row, headline) in table.rows.iter_mut().zip(&section.headlines) {
        row.flags = flags(&headline.flags);
    }
    table
}

fn equal_table(report: &Report, section: &Section) -> Table {
    let row = |line: equal::Line<'_>| TableRow {
        name: line.name.into(),
        control: false,
        flags: flags(line.flags),
        cells: cells(report, Family::Headline, line.made_of, line.n, line.measures),
    };
    Table {
        columns: columns(report, Family::Headline, "Made of"),
        rows: equal::lines(section).into_iter().map(row).collect(),
    }
}

fn rows<'a>(report: &Report, family: Family, rows: impl Iterator<Item = (String, &'a Row)>) -> Table {
    let row = |(name, row): (String, &Row)| TableRow {
        name,
        control: row.about.control,
        flags: Vec::new(),
        cells: cells(report, family, strength(row), row.n, &row.measures),
    };
    Table { columns: columns(report, family, "Strength"), rows: rows.map(row).collect() }
}

/// The first column as given, then n and every metric of the family.
fn columns(report: &Report, family: Family, first: &str) -> Vec<Column> {
    let mut columns = vec![Column { heading: first.into(), arrow: "" }, Column { heading: "n".into(), arrow: "" }];
    let column = |m: &About| Column { heading: heading(m), arrow: arrow(m.better) };
    columns.extend(report.metrics_of(family).map(column));
    columns
}

fn cells(report: &Report, family: Family, first: String, n: usize, measures: &ByMetric<Measure>) -> Vec<Cell> {
    let mut cells = vec![Cell { text: first, interval: None }, Cell { text: n.to_string(), interval: None }];
    let measured = report.metrics_of(family).map(|about| (about, &measures[about.key]));
    cells.extend(measured.map(|(about, m)| Cell { text: value(about, m), interval: interval(about, m) }));
    cells
}

/// The headline's metrics as changes since the last comparable night; in small print, the values then and now.
fn changes(report: &Report) -> Table {
    let metrics: Vec<&About> = report.metrics_of(Family::Headline).collect();
    let keys = report.summary.headlines.iter().map(|h| h.row.about.key);
    let cell = |change: &Change<'_>, about: &About| {
        let found = change.of(about.key);
        let text = found.map_or(super::numbers::NOTHING.into(), |(then, now)| signed(about, now - then));
        let interval = found.map(|(then, now)| format!("{} → {}", number(about, then), number(about, now)));
        Cell { text, interval }
    };
    let row = |change: Change<'_>| TableRow {
        name: change.now.name.clone(),
        control: change.now.control,
        flags: metrics.iter().filter(|m| change.is_clear(m.key)).map(|m| format!("⚑ {}", m.title)).collect(),
        cells: metrics.iter().map(|about| cell(&change, about)).collect(),
    };
    Table {
        columns: metrics.iter().map(|m| Column { heading: heading(m), arrow: arrow(m.better) }).collect(),
        rows: report.trend.changes(keys).into_iter().map(row).collect(),
    }
}

/// A paper's table: its rows first, then this report's headline in the same columns.
#[derive(Debug, Serialize)]
struct PublishedTable {
    source: String,
    protocol: String,
    table: Table,
}

fn published(report: &Report, published: &Published) -> PublishedTable {
    let metrics = super::published::columns(report, published);
    let row = |row: PublishedRow| TableRow {
        name: row.name,
        control: row.ours,
        flags: Vec::new(),
        cells: metrics.iter().zip(row.values).map(|(m, v)| Cell { text: m.text(v), interval: None }).collect(),
    };
    PublishedTable {
        source: published.source.clone(),
        protocol: published.protocol.clone(),
        table: Table {
            columns: metrics.iter().map(|m| Column { heading: m.heading(), arrow: "" }).collect(),
            rows: super::published::rows(report, published).into_iter().map(row).collect(),
        },
    }
}

/// The headline tables of each emotion, and a small one of Emo-A by method with the mean at the end.
fn by_emotion(report: &Report) -> Table {
    let methods = report.methods();
    let mut columns: Vec<Column> = methods.iter().map(|m| Column { heading: m.name.into(), arrow: "" }).collect();
    columns.push(Column { heading: "LPIPS".into(), arrow: "↓" });
    let row = |(name, section): (String, &Section)| {
        let cell = |method: &str, metric: &str| {
            let (about, row) = (report.metric(metric), section.row(method));
            Cell {
                text: row.map_or(super::numbers::NOTHING.into(), |r| value(about, &r.measures[metric])),
                interval: row.and_then(|r| interval(about, &r.measures[metric])),
            }
        };
        let mut cells: Vec<Cell> = methods.iter().map(|m| cell(m.key, "emo_a")).collect();
        cells.push(cell(report.featured.unwrap_or("no_edit"), "lpips"));
        TableRow { control: name == "Mean", name, flags: Vec::new(), cells }
    };
    let sections = report.emotions.iter().map(|(e, s)| (e.to_string(), s));
    Table { columns, rows: sections.chain([("Mean".to_string(), &report.summary)]).map(row).collect() }
}

/// The classes that edits were found to be: asked × found for several emotions, method × found for one.
fn landed(report: &Report) -> Vec<(String, Matrix)> {
    let columns: Vec<&str> = emotions::Emotion::ALL.iter().map(|e| e.name()).collect();
    if let [(emotion, section)] = &report.emotions[..] {
        let plain = section.headlines.iter().filter(|h| h.row.about.key != crate::methods::SHUFFLED);
        let rows = plain.map(|h| matrix_row(h.row.about.name.into(), &h.row.confusion, emotion.index()));
        return vec![(format!("Target: {emotion}"), Matrix { columns, rows: rows.collect() })];
    }
    let matrix = |row: &Row| {
        let asked = report.emotions.iter().map(|(e, _)| matrix_row(e.to_string(), &row.confusion, e.index()));
        Matrix { columns: columns.clone(), rows: asked.collect() }
    };
    let shown = report.summary.headlines.iter().map(|h| &h.row).filter(|r| r.about.key != crate::methods::SHUFFLED);
    shown.map(|row| (row.about.name.to_string(), matrix(row))).collect()
}

fn matrix_row(name: String, confusion: &Confusion, target: usize) -> MatrixRow {
    let counts = confusion.counts()[target];
    let total = counts.iter().sum::<u32>().max(1);
    let cell = |(class, &count): (usize, &u32)| MatrixCell {
        count,
        share: (f64::from(count) / f64::from(total) * 100.0).round() / 100.0,
        target: class == target,
    };
    MatrixRow { name, cells: counts.iter().enumerate().map(cell).collect() }
}

fn by_source(report: &Report) -> Table {
    let split = report.summary.headlines.iter().filter(|h| h.row.about.key != crate::methods::SHUFFLED).flat_map(|h| {
        let name = h.row.about.name;
        [(format!("{name}: shows it already"), &h.showing), (format!("{name}: does not"), &h.not_showing)]
    });
    rows(report, Family::Headline, split)
}

/// Provenance as lines of `path: value`, without the recipe.
fn flat(value: &serde_json::Value) -> Vec<(String, String)> {
    fn walk(path: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, out);
                }
            }
            serde_json::Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(&format!("{path}.{index}"), value, out);
                }
            }
            serde_json::Value::String(text) => out.push((path.to_string(), text.clone())),
            other => out.push((path.to_string(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out.retain(|(path, _)| path != "recipe");
    out
}
