//! A timestep that is given or measured: `t_edit: 350` or `t_edit: auto`.

use std::borrow::Cow;
use std::fmt;

use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A timestep of the schedule, or `auto` to have it measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// Measured on the training sources.
    Auto,
    /// As given.
    At(i64),
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0, "maximum": 999}]})
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Threshold::Auto => serializer.serialize_str("auto"),
            Threshold::At(t) => serializer.serialize_i64(*t),
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ThresholdVisitor)
    }
}

struct ThresholdVisitor;

impl Visitor<'_> for ThresholdVisitor {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timestep or `auto`")
    }

    fn visit_u64<E: Error>(self, t: u64) -> Result<Threshold, E> {
        i64::try_from(t).map(Threshold::At).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, t: i64) -> Result<Threshold, E> {
        Ok(Threshold::At(t))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Threshold, E> {
        match word {
            "auto" => Ok(Threshold::Auto),
            other => Err(E::custom(format!("\"{other}\" is neither a timestep nor `auto`"))),
        }
    }
}
