//! Figures from papers, read from files that a recipe names.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One published table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The paper and the table.
    pub source: String,
    /// Photos, classifier and whatever else the figures depend on.
    pub protocol: String,
    /// The report's metrics that correspond to the table's columns, in the table's order.
    pub metrics: Vec<String>,
    /// The table's rows.
    pub methods: Vec<PublishedRow>,
}

/// A row of a published table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedRow {
    /// The method's name in the paper.
    pub name: String,
    /// By the metric's key, in the unit of report.json.
    pub values: BTreeMap<String, f64>,
}

impl Published {
    /// Reads a table; `place` names the recipe's key.
    ///
    /// # Errors
    /// A file that cannot be read, or a value of a metric that the table does not list.
    pub fn read(place: &str, path: &Path) -> Result<Self> {
        let table: Self = recipe::load(path, &[])?;
        for row in &table.methods {
            if let Some(key) = row.values.keys().find(|key| !table.metrics.contains(key)) {
                let message = format!("{}: {} has {key}, which metrics does not list", path.display(), row.name);
                return Err(Error::config(place, message));
            }
        }
        Ok(table)
    }
}
