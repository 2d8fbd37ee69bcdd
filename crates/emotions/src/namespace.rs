//! Whose emotion a label names: the viewer's, or that of the people in the picture.

use serde::{Deserialize, Serialize};

/// Whose emotion a label names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// The viewer's.
    #[default]
    Evoked,
    /// The people's in the picture.
    Expressed,
}

impl Namespace {
    /// The word for it in a data set.
    pub fn name(self) -> &'static str {
        match self {
            Namespace::Evoked => "evoked",
            Namespace::Expressed => "expressed",
        }
    }
}
