//! Merge keys (<https://yaml.org/type/merge.html>): `<<: *other` inserts the keys of another mapping, `<<: [*a, *b]`
//! those of several, where the first wins. A mapping's own keys win over all.

use serde_yaml::{Mapping, Value};

/// The key.
pub const MERGE: &str = "<<";

/// Resolves every merge key of a document. The error names the key's path and says what is wrong with it.
pub fn apply(value: &mut Value) -> Result<(), (Vec<String>, String)> {
    resolve(value, &mut Vec::new())
}

fn resolve(value: &mut Value, path: &mut Vec<String>) -> Result<(), (Vec<String>, String)> {
    match value {
        Value::Sequence(items) => {
            items.iter_mut().enumerate().try_for_each(|(n, item)| below(item, n.to_string(), path))
        }
        Value::Tagged(tagged) => resolve(&mut tagged.value, path),
        Value::Mapping(map) => {
            for (key, item) in map.iter_mut() {
                below(item, key.as_str().unwrap_or_default().into(), path)?;
            }
            let Some(merged) = map.shift_remove(MERGE) else { return Ok(()) };
            for source in mappings(merged).map_err(|found| {
                path.push(MERGE.into());
                let message =
                    format!("`<<` takes an alias of a mapping, such as *name, or a list of them, not {found}");
                (path.clone(), message)
            })? {
                for (key, item) in source {
                    map.entry(key).or_insert(item);
                }
            }
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn below(item: &mut Value, key: String, path: &mut Vec<String>) -> Result<(), (Vec<String>, String)> {
    path.push(key);
    resolve(item, path)?;
    path.pop();
    Ok(())
}

/// The mappings that a merge key's value inserts; the error is the value that is no mapping.
fn mappings(value: Value) -> Result<Vec<Mapping>, &'static str> {
    let mapping = |value| match value {
        Value::Mapping(map) => Ok(map),
        Value::Sequence(_) => Err("a list in a list"),
        Value::Null => Err("nothing"),
        Value::Bool(_) => Err("a truth value"),
        Value::Number(_) => Err("a number"),
        Value::String(_) => Err("a text"),
        Value::Tagged(_) => Err("a tagged value"),
    };
    match value {
        Value::Sequence(items) => items.into_iter().map(mapping).collect(),
        one => mapping(one).map(|map| vec![map]),
    }
}
