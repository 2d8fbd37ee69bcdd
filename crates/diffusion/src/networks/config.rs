//! Reading config.json: every key is either used, known not to matter here, or an error that names it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::json;

/// The keys of one JSON object that nothing has read yet.
#[derive(Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    prefix: String,
    keys: Map<String, Value>,
}

impl Keys {
    /// All keys of the JSON object in `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match json::read(path)? {
            Value::Object(keys) => Ok(Self { path: path.to_path_buf(), prefix: String::new(), keys }),
            _ => Err(Error::Unsupported {
                path: path.to_path_buf(),
                key: "(the whole file)".into(),
                message: "not a JSON object; expected a model's configuration".into(),
            }),
        }
    }

    /// The value of `key`, or `default` where the file does not mention it.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        match self.keys.remove(key) {
            None => Ok(default),
            Some(value) => serde_json::from_value(value).map_err(|e| self.unsupported(key, e.to_string())),
        }
    }

    /// Fails unless `key` is absent or one of `supported`.
    pub(crate) fn only<T: DeserializeOwned + PartialEq + Debug>(&mut self, key: &str, supported: &[T]) -> Result<()> {
        let Some(value) = self.keys.remove(key) else { return Ok(()) };
        match serde_json::from_value::<T>(value.clone()) {
            Ok(found) if supported.contains(&found) => Ok(()),
            _ => Err(self.unsupported(key, format!("{value} is not supported, only {supported:?}"))),
        }
    }

    /// A whole number that is at least 1, such as a width or a count.
    pub(crate) fn positive(&mut self, key: &str, default: i64) -> Result<i64> {
        let value = self.take(key, default)?;
        self.check(value >= 1, key, || format!("{value} is not a positive number"))?;
        Ok(value)
    }

    /// A non-empty list of whole numbers that are at least 1.
    pub(crate) fn positives(&mut self, key: &str, default: &[i64]) -> Result<Vec<i64>> {
        let values = self.take(key, default.to_vec())?;
        let fits = !values.is_empty() && values.iter().all(|&v| v >= 1);
        self.check(fits, key, || format!("{values:?} is not a list of positive numbers"))?;
        Ok(values)
    }

    /// One number for each resolution of an autoencoder, of which there are at most 16.
    pub(crate) fn resolutions(&mut self, key: &str, default: &[i64]) -> Result<Vec<i64>> {
        let values = self.positives(key, default)?;
        self.check(values.len() <= 16, key, || "more than 16 resolutions".into())?;
        Ok(values)
    }

    /// An autoencoder's scaling_factor, a number above 0.
    pub(crate) fn scaling_factor(&mut self, default: f64) -> Result<f64> {
        let factor: f64 = self.take("scaling_factor", default)?;
        self.check(factor.is_finite() && factor > 0.0, "scaling_factor", || {
            format!("{factor} is not a positive number")
        })?;
        Ok(factor)
    }

    /// Fails if an autoencoder's latents are shifted, which Stable Diffusion 1.x's and 2.x's are not.
    pub(crate) fn unshifted(&mut self) -> Result<()> {
        self.only("shift_factor", &[None, Some(0.0)])
    }

    /// The object under `key`, its keys named `key.…` in errors; none where it is absent or null.
    pub(crate) fn section(&mut self, key: &str) -> Result<Option<Self>> {
        let prefix = format!("{}{key}.", self.prefix);
        match self.keys.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(keys)) => Ok(Some(Self { path: self.path.clone(), prefix, keys })),
            Some(other) => Err(self.unsupported(key, format!("{other} is not an object"))),
        }
    }

    /// An empty section, from which every value is its default.
    pub(crate) fn empty_section(&self, key: &str) -> Self {
        Self { path: self.path.clone(), prefix: format!("{}{key}.", self.prefix), keys: Map::new() }
    }

    /// Ignores keys that do not change what a frozen network computes.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.keys.remove(*key);
        }
    }

    /// Fails on the first key left over; keys that start with `_` are notes of the program that wrote the file.
    pub(crate) fn finish(self) -> Result<()> {
        match self.keys.keys().find(|k| !k.starts_with('_')) {
            None => Ok(()),
            Some(key) => Err(self.unsupported(key, "unknown key; this architecture has no such setting")),
        }
    }

    /// The error for `key` unless `holds`.
    pub(crate) fn check(&self, holds: bool, key: &str, message: impl FnOnce() -> String) -> Result<()> {
        if holds {
            Ok(())
        } else {
            Err(self.unsupported(key, message()))
        }
    }

    /// The error that names `key` of this file.
    pub(crate) fn unsupported(&self, key: &str, message: impl Into<String>) -> Error {
        Error::Unsupported { path: self.path.clone(), key: format!("{}{key}", self.prefix), message: message.into() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with this text, for readers of configurations.
    pub(in crate::networks) fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("a file to write");
        file
    }

    /// `read` refuses each text and names its key.
    pub(in crate::networks) fn assert_refused<T: Debug>(read: impl Fn(&str) -> Result<T>, refused: &[(&str, &str)]) {
        for (text, key) in refused {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(&format!(": {key}: ")), "{error}");
        }
    }

    fn keys(text: &str) -> Keys {
        let Value::Object(keys) = serde_json::from_str(text).expect("valid JSON") else { panic!("an object") };
        Keys { path: "config.json".into(), prefix: String::new(), keys }
    }

    #[test]
    fn leftovers_are_named_and_notes_are_not() {
        let mut keys = keys(r#"{"_note": 1, "width": 4, "sub": {"odd": 1}}"#);
        assert_eq!(keys.positive("width", 1).expect("a width"), 4);
        let sub = keys.section("sub").expect("an object").expect("present");
        assert!(keys.finish().is_ok());
        assert!(sub.finish().expect_err("odd is unknown").to_string().contains("config.json: sub.odd: unknown key"));
    }

    #[test]
    fn wrong_types_and_values_name_the_key() {
        let mut keys = keys(r#"{"width": "wide", "act": "mish", "count": 0}"#);
        assert!(keys.positive("width", 1).expect_err("text").to_string().contains("width"));
        assert!(keys.positive("count", 1).expect_err("zero").to_string().contains("count: 0"));
        let error = keys.only("act", &["silu".to_string()]).expect_err("mish").to_string();
        assert!(error.contains("act: \"mish\" is not supported, only [\"silu\"]"), "{error}");
    }
}
