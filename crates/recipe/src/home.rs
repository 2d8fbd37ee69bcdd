//! `~/` in a recipe's paths, which no shell has replaced.

use std::path::Path;

use serde_yaml::Value;

/// Replaces `~/` at the beginning of any string by the folder `home`. Strings that are no paths never begin with it.
pub fn expand(value: &mut Value, home: Option<&Path>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let Some(rest) = text.strip_prefix("~/") else { return Ok(()) };
            let home = home.ok_or_else(|| format!("{text}: HOME is not set; write the whole path"))?;
            let home = home.to_str().ok_or_else(|| format!("{text}: HOME is not UTF-8; write another path"))?;
            *text = format!("{}/{rest}", home.trim_end_matches('/'));
            Ok(())
        }
        Value::Sequence(items) => items.iter_mut().try_for_each(|item| expand(item, home)),
        Value::Mapping(map) => map.iter_mut().try_for_each(|(_, item)| expand(item, home)),
        Value::Tagged(tagged) => expand(&mut tagged.value, home),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
