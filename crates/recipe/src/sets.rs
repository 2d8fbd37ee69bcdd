//! `--set a.b=value`: replaces values of a document.

use serde_yaml::{Mapping, Value};

/// Applies `set` to the document.
pub fn apply(root: &mut Value, set: &str) -> Result<(), String> {
    let (keys, value) = set.split_once('=').ok_or("write key=value, for example train.seed=1")?;
    let value: Value = serde_yaml::from_str(value).map_err(|e| format!("the value is not YAML: {e}"))?;
    let mut place = root;
    for key in keys.split('.') {
        if key.trim().is_empty() {
            return Err("a key is empty".into());
        }
        place = child(place, key.trim())?;
    }
    *place = value;
    Ok(())
}

fn child<'a>(parent: &'a mut Value, key: &str) -> Result<&'a mut Value, String> {
    if parent.is_null() {
        *parent = Value::Mapping(Mapping::new());
    }
    match parent {
        Value::Mapping(map) => Ok(map.entry(key.into()).or_insert(Value::Null)),
        Value::Sequence(items) => {
            let len = items.len();
            let index: Option<usize> = key.parse().ok();
            index.and_then(|i| items.get_mut(i)).ok_or(format!("{key} is no index into a list of {len}"))
        }
        _ => Err(format!("{key} would lie inside a value that is not a mapping")),
    }
}
