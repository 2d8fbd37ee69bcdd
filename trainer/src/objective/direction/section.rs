//! The section `direction` of a recipe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What ΔT is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DirectionKind {
    /// Prompts alone.
    Text,
    /// Mean of the emotion's images minus mean of the sources.
    Prototype,
    /// Both, in the proportion `mix`.
    Mixed,
}

/// A pair of prompts; {emotion}, {adjective} (with its article) and {token} are filled in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Without the emotion.
    pub source: String,
    /// With it.
    pub target: String,
}

/// ΔT as written in the recipe.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectionSection {
    /// text, prototype or mixed.
    pub kind: DirectionKind,
    /// The share of the prototype in `mixed`.
    #[serde(default = "half")]
    pub mix: f64,
    /// The prompts whose differences are averaged.
    #[serde(default)]
    pub templates: Vec<Template>,
}

fn half() -> f64 {
    0.5
}
