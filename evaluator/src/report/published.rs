//! Papers' tables beside the report's own rows, never mixed with them.

use super::numbers::{heading, number, NOTHING};
use super::Report;
use crate::config::published::Published;
use crate::metrics::About;

/// The text above a published table.
pub const NOTE: &str =
    "Figures of another classifier and other photos are no measure of these: read them for the order of \
                        the methods. Rows of this report are shaded.";

/// A column of a published table, with the report's metric of that key, if there is one.
#[derive(Debug)]
pub struct PublishedColumn<'a> {
    key: &'a str,
    about: Option<&'a About>,
}

impl PublishedColumn<'_> {
    /// The metric's heading, otherwise its key.
    pub fn heading(&self) -> String {
        self.about.map_or_else(|| self.key.to_string(), heading)
    }

    /// A value in the metric's unit, otherwise as it is.
    pub fn text(&self, value: Option<f64>) -> String {
        let plain = |value: f64| self.about.map_or_else(|| value.to_string(), |about| number(about, value));
        value.map_or_else(|| NOTHING.to_string(), plain)
    }
}

/// The columns of a table.
pub fn columns<'a>(report: &'a Report, table: &'a Published) -> Vec<PublishedColumn<'a>> {
    let about = |key: &str| report.metrics.iter().find(|m| m.key == key);
    table.metrics.iter().map(|key| PublishedColumn { key, about: about(key) }).collect()
}

/// A row of a published table.
#[derive(Debug)]
pub struct PublishedRow {
    /// The method.
    pub name: String,
    /// Whether it is the report's own, which is shaded.
    pub ours: bool,
    /// The value in each column.
    pub values: Vec<Option<f64>>,
}

/// The paper's rows, then the report's headline.
pub fn rows(report: &Report, table: &Published) -> Vec<PublishedRow> {
    let theirs = table.methods.iter().map(|row| PublishedRow {
        name: row.name.clone(),
        ours: false,
        values: table.metrics.iter().map(|key| row.values.get(key).copied()).collect(),
    });
    let ours = report.summary.headlines.iter().map(|headline| {
        let value = |key: &String| headline.row.measures.get(key)?.value;
        PublishedRow {
            name: format!("here: {}", headline.row.about.name),
            ours: true,
            values: table.metrics.iter().map(value).collect(),
        }
    });
    theirs.chain(ours).collect()
}
