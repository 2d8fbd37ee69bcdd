//! Figures of papers, read from a file and shown beside the report's own, never mixed with them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::numbers::{heading, number, NOTHING};
use super::Report;
use crate::error::{Error, Result};
use crate::metrics::About;

/// What stands above a published table.
pub const NOTE: &str =
    "Figures of another classifier and other photos are no measure of these: read them for the order of \
                        the methods. Rows of this report are shaded.";

/// One published table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The paper and the table.
    pub source: String,
    /// Photos, classifier and whatever else decides what the figures mean.
    pub protocol: String,
    /// The report's metrics that stand for the table's columns, in its order.
    pub metrics: Vec<String>,
    /// The table's rows.
    pub methods: Vec<PublishedRow>,
}

/// A row of a published table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedRow {
    /// The method as the paper calls it.
    pub name: String,
    /// By the metric's key, in the unit of report.json.
    pub values: BTreeMap<String, f64>,
}

impl Published {
    /// Reads a table; `place` names the recipe's key.
    ///
    /// # Errors
    /// A file that cannot be read, and a value of a metric that the table does not list.
    pub fn read(place: &str, path: &Path) -> Result<Self> {
        let table: Self = dataloader::recipe::load(path, &[])?;
        for row in &table.methods {
            if let Some(key) = row.values.keys().find(|key| !table.metrics.contains(key)) {
                let message = format!("{}: {} has {key}, which metrics does not list", path.display(), row.name);
                return Err(Error::config(place, message));
            }
        }
        Ok(table)
    }
}

/// A column of a published table: the report's metric of that key, where it has one.
#[derive(Debug)]
pub struct PublishedColumn<'a> {
    key: &'a str,
    about: Option<&'a About>,
}

impl PublishedColumn<'_> {
    /// The metric's heading, else its key.
    pub fn heading(&self) -> String {
        self.about.map_or_else(|| self.key.to_string(), heading)
    }

    /// A value in the metric's unit, else as it stands.
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

/// The paper's rows, then the report's headline, shaded: name, whether it is the report's own, one value a column.
pub fn rows(report: &Report, table: &Published) -> Vec<(String, bool, Vec<Option<f64>>)> {
    let theirs = table
        .methods
        .iter()
        .map(|row| (row.name.clone(), false, table.metrics.iter().map(|key| row.values.get(key).copied()).collect()));
    let place = |key: &String| report.metrics.iter().position(|m| m.key == key);
    let ours = report.summary.headlines.iter().map(|headline| {
        let value = |key| headline.row.measures.get(place(key)?)?.value;
        (format!("here: {}", headline.row.about.name), true, table.metrics.iter().map(value).collect())
    });
    theirs.chain(ours).collect()
}
