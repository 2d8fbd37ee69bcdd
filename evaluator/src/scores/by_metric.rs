//! One thing for each metric, by the metric's key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Index;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::metrics::About;

/// One `T` for each metric, in the order of the report's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct ByMetric<T>(Vec<(Cow<'static, str>, T)>); // some twenty: a search costs less than a map

impl<T> ByMetric<T> {
    /// That of the metric `key`.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Sets that of the metric `key`, which comes last if it is new.
    pub fn insert(&mut self, key: &'static str, value: T) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// The same in the order of `metrics` and under their own keys, or the key of a metric that has none.
    pub fn ordered_as(mut self, metrics: &[About]) -> Result<Self, &'static str> {
        let mut take = |key: &'static str| {
            let place = self.0.iter().position(|(known, _)| known == key).ok_or(key)?;
            Ok((Cow::Borrowed(key), self.0.remove(place).1))
        };
        metrics.iter().map(|about| take(about.key)).collect::<Result<_, _>>().map(Self)
    }
}

impl<T> Index<&str> for ByMetric<T> {
    type Output = T;

    fn index(&self, key: &str) -> &T {
        self.get(key).unwrap_or_else(|| panic!("invariant: {key} is a metric of the report"))
    }
}

impl<T> FromIterator<(&'static str, T)> for ByMetric<T> {
    fn from_iter<I: IntoIterator<Item = (&'static str, T)>>(values: I) -> Self {
        Self(values.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

impl Serialize for ByMetric<f64> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Number::from(*value))))
    }
}

impl<'de> Deserialize<'de> for ByMetric<f64> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values: BTreeMap<String, Number> = Deserialize::deserialize(deserializer)?;
        let value = |(key, number): (String, Number)| Ok((Cow::Owned(key), number.value().map_err(D::Error::custom)?));
        values.into_iter().map(value).collect::<Result<_, _>>().map(Self)
    }
}

/// A number in JSON, which has no infinities and no NaN: those are text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Other(Cow<'static, str>),
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        match value {
            value if value.is_finite() => Self::Finite(value),
            value if value.is_nan() => Self::Other("NaN".into()),
            value => Self::Other(if value > 0.0 { "inf".into() } else { "-inf".into() }),
        }
    }
}

impl Number {
    fn value(self) -> Result<f64, String> {
        match self {
            Self::Finite(value) => Ok(value),
            Self::Other(text) => text.parse().map_err(|_| format!("{text} is no number")),
        }
    }
}

/// For serde, on one field: any f64 as JSON, bit for bit but for the kind of NaN.
pub mod any_number {
    use super::*;

    /// The number, or its name.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Number::from(*value).serialize(serializer)
    }

    /// The inverse of [`serialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Number::deserialize(deserializer)?.value().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_as_it_was() {
        let values = [0.1, -0.0, 1e300, f64::MIN_POSITIVE / 8.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 2.0];
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let table: ByMetric<f64> = keys.into_iter().zip(values).collect();
        let text = serde_json::to_string(&table).expect("plain data");
        assert!(text.contains(r#""e":"inf","f":"-inf","g":"NaN","h":2.0"#), "{text}");
        let back: ByMetric<f64> = serde_json::from_str(&text).expect("what was written");
        for (key, value) in keys.into_iter().zip(values) {
            assert_eq!(back[key].to_bits(), value.to_bits(), "{key}");
        }
        assert!(serde_json::from_str::<ByMetric<f64>>(r#"{"a": "many"}"#).is_err());
    }

    #[test]
    fn what_is_set_twice_stands_once() {
        let mut table: ByMetric<u8> = [("a", 1), ("b", 2)].into_iter().collect();
        table.insert("a", 3);
        table.insert("c", 4);
        assert_eq!(table, [("a", 3), ("b", 2), ("c", 4)].into_iter().collect());
        assert_eq!(table.get("d"), None);
    }
}
