//! A part of a recipe that is either switched off or configured: `tokens: off` or `tokens: {num_vectors: 2}`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// `off` (or `false`) or a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Switch<T> {
    /// Switched off.
    Off,
    /// Switched on, as configured.
    On(T),
}

impl<T> Switch<T> {
    /// The section, where it is switched on.
    pub fn on(&self) -> Option<&T> {
        match self {
            Switch::Off => None,
            Switch::On(section) => Some(section),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Switch_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"enum": ["off", false]}, generator.subschema_for::<T>()]})
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Switch::Off => serializer.serialize_str("off"),
            Switch::On(section) => section.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SwitchVisitor(PhantomData))
    }
}

struct SwitchVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SwitchVisitor<T> {
    type Value = Switch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`off` or a section")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Switch<T>, E> {
        match on {
            false => Ok(Switch::Off),
            true => Err(E::custom("write the section's keys to switch it on, or `off`")),
        }
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Switch<T>, E> {
        match word {
            "off" | "no" | "false" => Ok(Switch::Off),
            other => Err(E::custom(format!("\"{other}\" is neither `off` nor a section"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Switch::On)
    }
}
