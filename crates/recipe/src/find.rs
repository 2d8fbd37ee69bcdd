//! Finds a recipe by its name.

use std::path::{Path, PathBuf};

/// Where recipes lie beside the programs.
const FOLDER: &str = "configs";

/// The most recipes that a message lists.
const LISTED: usize = 4;

/// The path of the recipe named `path`: that path, or the one in configs/. The error suggests what to write instead.
pub fn recipe(path: &Path) -> Result<PathBuf, String> {
    recipe_in(Path::new(""), path)
}

fn recipe_in(here: &Path, path: &Path) -> Result<PathBuf, String> {
    if here.join(path).exists() {
        return Ok(path.into());
    }
    let beside = Path::new(FOLDER).join(path);
    if path.is_relative() && here.join(&beside).exists() {
        return Ok(beside);
    }
    let there = nearest(here, path);
    let folder = if path.is_relative() { format!("no such file, here or in {FOLDER}/") } else { "no such file".into() };
    match there.is_empty() {
        true => Err(folder),
        false => Err(format!("{folder}; there is {}", there.join(", "))),
    }
}

/// The recipes of configs/ with names similar to `path`, the most similar first.
fn nearest(here: &Path, path: &Path) -> Vec<String> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let wanted = stem(path);
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(FOLDER)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(here.join(&folder)).into_iter().flatten().flatten();
        for entry in entries {
            let place = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(place),
                Ok(_) if place.extension().is_some_and(|suffix| suffix == "yaml") => {
                    let distance = strsim::damerau_levenshtein(&wanted, &stem(&place));
                    if distance <= (wanted.chars().count() / 3).max(1) {
                        found.push((distance, place.display().to_string()));
                    }
                }
                _ => {}
            }
        }
    }
    found.sort();
    found.into_iter().take(LISTED).map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_found_in_configs_and_a_misspelt_one_is_suggested() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["awe.yaml", "configs/awe.yaml", "configs/fear.yaml", "configs/pocket/sadness.yaml"] {
            let place = folder.path().join(name);
            std::fs::create_dir_all(place.parent().expect("a parent")).expect("made");
            std::fs::write(place, "").expect("written");
        }
        let find = |name: &str| recipe_in(folder.path(), Path::new(name));
        assert_eq!(find("awe.yaml"), Ok("awe.yaml".into()));
        assert_eq!(find("fear.yaml"), Ok("configs/fear.yaml".into()));
        assert_eq!(find("pocket/sadness.yaml"), Ok("configs/pocket/sadness.yaml".into()));
        assert!(find("sadnes.yaml").expect_err("misspelt").contains("there is configs/pocket/sadness.yaml"));
        assert_eq!(find("contentment.yaml"), Err("no such file, here or in configs/".into()));
        assert_eq!(find("/no/such.yaml"), Err("no such file".into()));
    }
}
