//! YAML recipes, read strictly: every binary loads its configuration here.
//!
//! An unknown key is an error that names file, line and key and suggests the nearest known one. `--set a.b=value`
//! overrides are laid over the file before it is checked. Files are limited in size and in what aliases expand to.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::Serialize;
use serde_yaml::{Mapping, Value};

/// Larger files are no recipes.
const MAX_BYTES: u64 = 1 << 20;

/// More nodes than this, aliases expanded, are no recipe but a YAML bomb.
const MAX_NODES: usize = 100_000;

/// Why a recipe was refused, in one line.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is larger, or its aliases expand to more, than any recipe.
    #[error("{}: {message}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was found and what is allowed.
        message: String,
    },
    /// The file is not YAML, or a key or value in it is wrong.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, unless a `--set` is at fault.
        line: Option<usize>,
        /// The key's path and what is wrong with it.
        message: String,
    },
    /// An override cannot be applied.
    #[error("--set {set}: {message}")]
    Set {
        /// The override as written.
        set: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads the recipe at `path` with `sets` (each `a.b.c=value`, the value in YAML) laid over it.
pub fn load<T: DeserializeOwned>(path: &Path, sets: &[String]) -> Result<T, RecipeError> {
    parse(path, &read(path)?, sets)
}

/// As [`load`], from text; `path` is what errors name.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str, sets: &[String]) -> Result<T, RecipeError> {
    refuse_bombs(path, text)?;
    if sets.is_empty() {
        return from_text(path, text);
    }
    let merged = merge(path, text, sets)?;
    serde_yaml::from_str(&merged).map_err(|error| match from_text::<T>(path, text) {
        // The file by itself is at fault in the same way: its line can be named.
        Err(alone) if without_place(&error) == place_free(&alone) => alone,
        _ => RecipeError::Wrong {
            path: path.to_path_buf(),
            line: None,
            message: format!("{} (with {})", with_hint(&without_place(&error)), list(sets)),
        },
    })
}

/// The YAML of a resolved configuration.
pub fn to_yaml<T: Serialize>(value: &T) -> String {
    serde_yaml::to_string(value).expect("configurations are plain data")
}

fn read(path: &Path) -> Result<String, RecipeError> {
    let io = |source| RecipeError::Io { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_BYTES {
        let message = format!("{size} bytes are too many for a recipe, at most {MAX_BYTES} are read");
        return Err(RecipeError::TooLarge { path: path.to_path_buf(), message });
    }
    std::fs::read_to_string(path).map_err(io)
}

fn from_text<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, RecipeError> {
    serde_yaml::from_str(text).map_err(|error| wrong(path, text, &error))
}

fn wrong(path: &Path, text: &str, error: &serde_yaml::Error) -> RecipeError {
    let message = without_place(error);
    let from = error.location().map_or(1, |place| place.line());
    let line = unknown_key(&message).and_then(|key| line_of_key(text, key, from)).or(error.location().map(|_| from));
    RecipeError::Wrong { path: path.to_path_buf(), line, message: with_hint(&message) }
}

fn place_free(error: &RecipeError) -> String {
    match error {
        RecipeError::Wrong { message, .. } => message.split("; did you mean").next().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

/// serde_yaml appends ` at line 3 column 5`; the line is reported beside the file instead.
fn without_place(error: &serde_yaml::Error) -> String {
    let message = error.to_string().replace('\n', " ");
    match message.rfind(" at line ") {
        Some(at) if error.location().is_some() => message[..at].to_string(),
        _ => message,
    }
}

fn unknown_key(message: &str) -> Option<&str> {
    quoted(message, "unknown field `").or_else(|| quoted(message, "unknown variant `"))
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    let rest = &message[message.find(before)? + before.len()..];
    rest.split('`').next()
}

/// Buffered enums lose the key's own place; the first line from `from` on that writes the key has it.
fn line_of_key(text: &str, key: &str, from: usize) -> Option<usize> {
    let writes = |line: &str| {
        line.match_indices(key).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-')
                && (after.starts_with(':') || after.is_empty() || after.starts_with([',', '}', '#']))
        })
    };
    let lines: Vec<&str> = text.lines().collect();
    let start = from.saturating_sub(1).min(lines.len());
    lines[start..].iter().position(|l| writes(l)).map(|n| start + n + 1)
}

fn with_hint(message: &str) -> String {
    let Some(key) = unknown_key(message) else {
        return message.to_string();
    };
    let Some((_, expected)) = message.split_once("expected") else {
        return message.to_string();
    };
    let known = expected.split('`').skip(1).step_by(2);
    let nearest = known.map(|k| (strsim::damerau_levenshtein(k, key), k)).min();
    match nearest {
        Some((distance, name)) if distance <= (key.len() / 2).max(2) => format!("{message}; did you mean `{name}`?"),
        _ => message.to_string(),
    }
}

fn list(sets: &[String]) -> String {
    sets.iter().map(|s| format!("--set {s}")).collect::<Vec<_>>().join(" ")
}

fn merge(path: &Path, text: &str, sets: &[String]) -> Result<String, RecipeError> {
    let mut root: Value = from_text(path, text)?;
    if root.is_null() {
        root = Value::Mapping(Mapping::new());
    }
    for set in sets {
        apply(&mut root, set).map_err(|message| RecipeError::Set { set: set.clone(), message })?;
    }
    Ok(to_yaml(&root))
}

fn apply(root: &mut Value, set: &str) -> Result<(), String> {
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

fn refuse_bombs(path: &Path, text: &str) -> Result<(), RecipeError> {
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

/// Walks a document, aliases expanded, keeping nothing and counting down; fails at zero.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Recipe {
        name: String,
        train: Train,
        #[serde(default)]
        weights: BTreeMap<String, f64>,
        source: Option<Source>,
    }

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Train {
        learning_rate: f64,
        #[serde(default)]
        seed: u64,
    }

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
    enum Source {
        Folder { path: String },
        Pocket { path: String },
    }

    const GOOD: &str = "# purpose\nname: awe\ntrain:\n  learning_rate: 5.0e-3\n";

    fn read(text: &str, sets: &[&str]) -> Result<Recipe, String> {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        parse(Path::new("r.yaml"), text, &sets).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn refused(text: &str, sets: &[&str], parts: &[&str]) {
        let message = read(text, sets).expect_err("refused");
        assert!(!message.contains('\n'), "one line: {message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} not in {message:?}");
        }
    }

    #[test]
    fn a_recipe_is_read_and_written_back() {
        let recipe = read(GOOD, &[]).expect("valid");
        assert_eq!(recipe.train.learning_rate, 5e-3);
        assert_eq!(read(&to_yaml(&recipe), &[]).expect("valid"), recipe);
    }

    #[test]
    fn overrides_replace_add_and_type_values() {
        let sets = ["train.seed=7", "name=\"12\"", "weights.clip=1", "source={kind: folder, path: photos}"];
        let recipe = read(GOOD, &sets).expect("valid");
        assert_eq!((recipe.train.seed, recipe.name.as_str(), recipe.weights["clip"]), (7, "12", 1.0));
        assert_eq!(recipe.source, Some(Source::Folder { path: "photos".into() }));
        assert_eq!(read("name: a", &["train.learning_rate=1"]).expect("completed").train.learning_rate, 1.0);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_neighbour() {
        let text = "name: a\ntrain:\n  learning_rate: 1.0\n  sede: 1\n";
        refused(text, &[], &["r.yaml, line 4", "train", "sede", "did you mean `seed`"]);
        refused("name: a\nnmae: b\n", &[], &["line 2", "nmae", "`name`"]);
        refused(text, &["name=b"], &["line 4", "sede"]);
    }

    #[test]
    fn an_unknown_key_inside_a_tagged_choice_has_its_line() {
        let text = format!("{GOOD}source:\n  kind: folder\n  path: x\n  paht: y\n");
        refused(&text, &[], &["line 8", "paht", "did you mean `path`"]);
        refused(
            &format!("{GOOD}source: {{kind: pockt, path: x}}\n"),
            &[],
            &["line 5", "pockt", "did you mean `pocket`"],
        );
    }

    #[test]
    fn an_unknown_key_from_an_override_names_the_override() {
        refused(GOOD, &["train.sede=1"], &["train", "sede", "--set train.sede=1", "did you mean `seed`"]);
    }

    #[test]
    fn wrong_types_missing_keys_and_broken_yaml_have_a_line() {
        refused("name: a\ntrain:\n  learning_rate: fast\n", &[], &["line 3", "train.learning_rate", "fast"]);
        refused("name: a\n", &[], &["line 1", "missing field `train`"]);
        refused("name: [a\ntrain: {", &[], &["line"]);
        refused("name: a\nname: b\ntrain: {learning_rate: 1}\n", &[], &["name", "duplicate"]);
    }

    #[test]
    fn bad_overrides_say_how_to_write_them() {
        refused(GOOD, &["train.seed"], &["--set train.seed", "key=value"]);
        refused(GOOD, &["name.x=1"], &["--set name.x=1", "not a mapping"]);
        refused(GOOD, &["train..seed=1"], &["empty"]);
        refused(GOOD, &["train.seed={"], &["not YAML"]);
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let items = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb += &format!("a{n}: &a{n} [{items}]\n");
        }
        refused(&bomb, &[], &["expands to more than"]);
        let wide = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(5000), "*a, ".repeat(50_000));
        refused(&wide, &[], &["expands to more than"]);
        refused(&"[".repeat(10_000), &[], &["recursion"]);
        refused(&format!("name: {}\n", "x".repeat(2 << 20)), &[], &["too many"]);
    }

    #[test]
    fn a_missing_file_and_a_huge_file_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none.yaml");
        let error = load::<Recipe>(&path, &[]).expect_err("missing").to_string();
        assert!(error.contains("none.yaml"), "{error}");
        std::fs::write(&path, vec![b'#'; 2 << 20]).expect("written");
        assert!(load::<Recipe>(&path, &[]).expect_err("huge").to_string().contains("too many"));
    }

    #[test]
    fn fuzz_recipes() {
        let good = b"source: {kind: folder, path: photos}\nresolution: 64\nvae: a\noutput: b\nlimits: {min_side: 2}\n";
        crate::fuzz::fuzz("recipes", &[good], |input| {
            let Ok(text) = std::str::from_utf8(input) else { return "no text".into() };
            match parse::<serde_json::Value>(Path::new("a.yaml"), text, &[]) {
                Ok(value) => value.to_string(),
                Err(error) => error.to_string(),
            }
        });
    }
}
