//! Refuses documents that expand to more than any recipe ("billion laughs"), before any of it is kept in memory.

use std::cell::Cell;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::{wrong, RecipeError, MAX_BYTES};

/// A document with more nodes than this, aliases expanded, is a YAML bomb and not a recipe.
const MAX_NODES: usize = 100_000;

/// Refuses a document that is too large or is not YAML.
pub fn refuse(path: &Path, text: &str) -> Result<(), RecipeError> {
    let too_large = |message: String| RecipeError::TooLarge { path: path.to_path_buf(), message };
    if text.len() as u64 > MAX_BYTES {
        return Err(too_large(format!("{} bytes are too many for a recipe", text.len())));
    }
    let left = Cell::new(MAX_NODES);
    match Nodes(&left).deserialize(serde_yaml::Deserializer::from_str(text)) {
        Err(_) if left.get() == 0 => {
            Err(too_large(format!("expands to more than {MAX_NODES} values; write it without nested aliases")))
        }
        Err(error) => Err(wrong(path, text, &error)),
        Ok(()) => Ok(()),
    }
}

/// Walks through a document with its aliases expanded, keeps nothing and counts down; fails at zero.
#[derive(Clone, Copy)]
struct Nodes<'a>(&'a Cell<usize>);

impl Nodes<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.set(self.0.get().saturating_sub(1));
        if self.0.get() == 0 {
            return Err(E::custom("too many values"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Nodes<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nodes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.count()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.count()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.count()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.count()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.count()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.count()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.count()?;
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.count()?;
        while entries.next_key_seed(self)?.is_some() {
            entries.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let ((), inner) = tagged.variant_seed(self)?;
        inner.newtype_variant_seed(self)
    }
}
