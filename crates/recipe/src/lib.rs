//! YAML recipes, read strictly: every binary loads its configuration here.
//!
//! An unknown key is an error that names file, line and key and suggests the most similar known one. Before the
//! check, merge keys (`<<`) are resolved, `--set a.b=value` replaces values of the file, and `~/` becomes the user's
//! folder. Files are limited in size and in what their aliases expand to.

mod bombs;
mod find;
#[cfg(test)]
#[path = "../../../dataloader/src/fuzz.rs"]
mod fuzz;
mod home;
mod merge;
mod message;
mod place;
pub mod secrets;
mod sets;
pub mod text_file;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_yaml::Value;

use message::{with_hint, without_place};

/// Larger files are no recipes.
const MAX_BYTES: u64 = 1 << 20;

/// Why a recipe was refused, in one line.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: {message}", path.display())]
    Unreadable {
        /// The file's name as the user wrote it.
        path: PathBuf,
        /// The system's reason, and which recipes exist.
        message: String,
    },
    /// The file is larger than any recipe, or its aliases expand to more.
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
        /// The line, unless a `--set` caused the error.
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

/// Reads recipes for one user.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// What `~/` stands for: HOME, which only a program's `main` reads.
    pub home: Option<PathBuf>,
}

/// As [`Reader::load`], without a home folder: `~/` is refused.
pub fn load<T: DeserializeOwned>(path: &Path, sets: &[String]) -> Result<T, RecipeError> {
    Reader::default().load(path, sets)
}

/// As [`Reader::parse`], without a home folder.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str, sets: &[String]) -> Result<T, RecipeError> {
    Reader::default().parse(path, text, sets)
}

impl Reader {
    /// Reads the recipe at `path`, or at `configs/path` if there is none. `sets` (each `a.b.c=value`, the value in
    /// YAML) replace its values.
    pub fn load<T: DeserializeOwned>(&self, path: &Path, sets: &[String]) -> Result<T, RecipeError> {
        let found = find::recipe(path).map_err(|message| RecipeError::Unreadable { path: path.into(), message })?;
        if found != path {
            tracing::info!("{} is {}", path.display(), found.display());
        }
        self.parse(&found, &read(&found)?, sets)
    }

    /// As [`Reader::load`], from text; errors name `path`.
    pub fn parse<T: DeserializeOwned>(&self, path: &Path, text: &str, sets: &[String]) -> Result<T, RecipeError> {
        let text = text.trim_start_matches('\u{feff}');
        bombs::refuse(path, text)?;
        let written: Value = serde_yaml::from_str(text).map_err(|error| wrong(path, text, &error))?;
        let value = self.resolved(path, text, written.clone(), sets)?;
        if value == written {
            return serde_yaml::from_str(text).map_err(|error| wrong(path, text, &error));
        }
        typed(&value).map_err(|message| {
            // If the file alone has the same error, its line can be named.
            let alone =
                || self.resolved(path, text, written, &[]).is_ok_and(|v| typed::<T>(&v).err() == Some(message.clone()));
            match sets.is_empty() || alone() {
                true => RecipeError::Wrong {
                    path: path.into(),
                    line: place::line_at_fault(text, &message),
                    message: with_hint(&message),
                },
                false => RecipeError::Wrong {
                    path: path.into(),
                    line: None,
                    message: format!("{} (with {})", with_hint(&message), list(sets)),
                },
            }
        })
    }

    /// The document with merge keys, overrides and `~/` resolved.
    fn resolved(&self, path: &Path, text: &str, mut value: Value, sets: &[String]) -> Result<Value, RecipeError> {
        merge::apply(&mut value).map_err(|(key, message)| {
            let line = place::line_of(text, &key);
            RecipeError::Wrong { path: path.into(), line, message }
        })?;
        for set in sets {
            sets::apply(&mut value, set)
                .map_err(|message| RecipeError::Set { set: secrets::masked_set(set), message })?;
        }
        home::expand(&mut value, self.home.as_deref()).map_err(|message| RecipeError::Wrong {
            path: path.into(),
            line: None,
            message,
        })?;
        Ok(value)
    }
}

/// The YAML of a resolved configuration, as it may be stored and shown: passwords and signatures in its URLs are
/// masked.
pub fn to_yaml<T: Serialize>(value: &T) -> String {
    let mut value = serde_yaml::to_value(value).expect("configurations are plain data");
    secrets::mask(&mut value);
    serde_yaml::to_string(&value).expect("configurations are plain data")
}

/// As [`to_yaml`], as JSON.
pub fn to_json<T: Serialize>(value: &T) -> serde_json::Value {
    let mut value = serde_json::to_value(value).expect("configurations are plain data");
    secrets::mask_json(&mut value);
    value
}

/// A recipe from a resolved document, or what is wrong with it, starting with the key. The document is written as
/// text and parsed again, since errors of a document in memory name no keys.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    let text = serde_yaml::to_string(value).map_err(|error| error.to_string())?;
    serde_yaml::from_str(&text).map_err(|error| without_place(&error))
}

fn wrong(path: &Path, text: &str, error: &serde_yaml::Error) -> RecipeError {
    let message = without_place(error);
    // serde buffers the content of an untagged choice, and then an unknown key's own place is lost.
    let key = message::unknown_key(&message).and_then(|_| place::line_at_fault(text, &message));
    let line = key.or(error.location().map(|place| place.line()));
    RecipeError::Wrong { path: path.into(), line, message: with_hint(&message) }
}

fn read(path: &Path) -> Result<String, RecipeError> {
    let unreadable = |e: std::io::Error| RecipeError::Unreadable { path: path.into(), message: e.to_string() };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("it has too many bytes for a recipe, at most {MAX_BYTES} are read");
        return Err(RecipeError::TooLarge { path: path.into(), message });
    }
    text_file::decode(bytes).map_err(unreadable)
}

fn list(sets: &[String]) -> String {
    sets.iter().map(|s| format!("--set {}", secrets::masked_set(s))).collect::<Vec<_>>().join(" ")
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
        Parquet { path: String },
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
            &format!("{GOOD}source: {{kind: parqet, path: x}}\n"),
            &[],
            &["line 5", "parqet", "did you mean `parquet`"],
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
    fn merge_keys_take_over_what_is_not_said_again() {
        let text = "name: a\ntrain: &base\n  <<: [{seed: 1}, {seed: 2, learning_rate: 0.5}]\n";
        let recipe = read(text, &[]).expect("valid");
        assert_eq!((recipe.train.seed, recipe.train.learning_rate), (1, 0.5));
        let nested =
            format!("{GOOD}weights: &w {{a: 1, b: 2}}\nsource:\n  <<: {{<<: {{path: x, kind: parquet}}, path: y}}\n");
        assert_eq!(read(&nested, &[]).expect("valid").source, Some(Source::Parquet { path: "y".into() }));
        let overridden = read(text, &["train.seed=9"]).expect("valid");
        assert_eq!((overridden.train.seed, overridden.train.learning_rate), (9, 0.5));
    }

    #[test]
    fn errors_in_merged_mappings_have_their_line() {
        let text = "name: a\ntrain:\n  <<: &base\n    learning_rate: fast\n  seed: 1\n";
        refused(text, &[], &["r.yaml, line 4", "train.learning_rate", "fast"]);
        refused(text, &["name=b"], &["r.yaml, line 4", "train.learning_rate"]);
        let text = "name: a\ntrain:\n  <<: {learning_rate: 1}\n  sede: 1\n";
        refused(text, &[], &["r.yaml, line 4", "sede", "did you mean `seed`"]);
        refused("name: a\ntrain:\n  <<: 7\n", &[], &["r.yaml, line 3", "alias of a mapping", "not a number"]);
        refused("name: a\ntrain:\n  <<: [[]]\n", &[], &["a list in a list"]);
        refused("name: a\ntrain:\n  <<: *none\n", &[], &["r.yaml", "unknown anchor"]);
    }

    #[test]
    fn the_users_folder_is_put_for_a_tilde() {
        let reader = Reader { home: Some("/home/a/".into()) };
        let text = format!("{GOOD}source: {{kind: folder, path: ~/photos}}\n");
        let read = |sets: &[String]| reader.parse::<Recipe>(Path::new("r.yaml"), &text, sets).expect("valid").source;
        assert_eq!(read(&[]), Some(Source::Folder { path: "/home/a/photos".into() }));
        assert_eq!(read(&["source.path=~/x".into()]), Some(Source::Folder { path: "/home/a/x".into() }));
        refused(&text, &[], &["~/photos", "HOME is not set"]);
        let text = format!("{text}nmae: x\n");
        let error = reader.parse::<Recipe>(Path::new("r.yaml"), &text, &[]).expect_err("refused").to_string();
        assert!(error.contains("line 6") && error.contains("`name`"), "{error}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_recipe() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.yaml");
        std::fs::write(&path, format!("\u{feff}{GOOD}")).expect("written");
        assert_eq!(load::<Recipe>(&path, &[]).expect("read").name, "awe");
        std::fs::write(&path, b"\xff\xfen\0").expect("written");
        assert!(load::<Recipe>(&path, &[]).expect_err("refused").to_string().contains("UTF-16"));
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
        fuzz::fuzz("recipes", &[good], |input| {
            let Ok(text) = std::str::from_utf8(input) else { return "no text".into() };
            match parse::<serde_json::Value>(Path::new("a.yaml"), text, &[]) {
                Ok(value) => value.to_string(),
                Err(error) => error.to_string(),
            }
        });
    }
}
