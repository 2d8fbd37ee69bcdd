//! Which files of a folder are a model's weights: one, or the shards of an index, of one variant.
//!
//! diffusers and transformers name them, for a stem X and a variant V (fp16, bf16, non_ema …):
//!
//! | | whole | index | its shards |
//! |---|---|---|---|
//! | no variant | X.safetensors | X.safetensors.index.json | X-00001-of-00002.safetensors |
//! | a variant | X.V.safetensors | X.safetensors.index.V.json | X.V-00001-of-00002.safetensors |
//! | a variant, diffusers before 0.31 | | X.safetensors.V.index.json | X-00001-of-00002.V.safetensors |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::json;

/// The order in which variants are chosen in a folder without plain weights: the most precise first, and the moving
/// average before the weights without it. Any other variant comes between, by name.
const FIRST: [&str; 4] = ["fp32", "fp16", "bf16", "ema"];
const LAST: [&str; 2] = ["no_ema", "non_ema"];

/// The files that make up a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    /// Their variant; none if their names carry none.
    pub variant: Option<String>,
    /// Every variant in the folder, in the order in which they would be chosen.
    pub variants: Vec<String>,
    /// The safetensors files, sorted.
    pub paths: Vec<PathBuf>,
}

/// The weights files of the model `stem` in `folder`.
/// Files without a variant are chosen before any variant (then fp32, fp16, bf16, ema, others by name, non_ema last),
/// and of one variant the whole file before its shards. Fails on folders that hold nothing or pickles alone, and on
/// an index with missing shards.
pub fn model_files(folder: &Path, stem: &str) -> Result<ModelFiles> {
    let found = candidates(folder, stem)?;
    let mut variants: Vec<String> = found.iter().filter_map(|c| c.variant.clone()).collect();
    variants.dedup();
    let Some(chosen) = found.into_iter().next() else { return Err(nothing(folder, stem)) };
    let paths = if chosen.is_index { shards(folder, &chosen.path)? } else { vec![chosen.path] };
    Ok(ModelFiles { variant: chosen.variant, variants, paths })
}

/// A whole file or an index.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    variant: Option<String>,
    is_index: bool,
    path: PathBuf,
}

/// Every file or index in `folder` that could be the model, best first.
fn candidates(folder: &Path, stem: &str) -> Result<Vec<Candidate>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((variant, is_index)) = name.strip_prefix(stem).and_then(kind_of) {
            // A link of the hub's cache may lead nowhere.
            if path.is_file() {
                found.push(Candidate { variant, is_index, path });
            }
        }
    }
    found.sort_by_key(|c| (variant_rank(c.variant.as_deref()), c.variant.clone(), c.is_index, c.path.clone()));
    Ok(found)
}

/// Variant and index from what follows the stem in a file's name; none if such a file is no model by itself.
fn kind_of(rest: &str) -> Option<(Option<String>, bool)> {
    let variant = |v: &str| (!v.is_empty() && !v.contains('.') && !is_shard(v)).then(|| Some(v.to_string()));
    if rest == ".safetensors" {
        return Some((None, false));
    }
    if let Some(index) = rest.strip_prefix(".safetensors.").and_then(|r| r.strip_suffix("json")) {
        let index = index.strip_suffix('.').unwrap_or(index);
        return match index.split('.').collect::<Vec<_>>().as_slice() {
            ["index"] => Some((None, true)),
            ["index", v] | [v, "index"] => Some((variant(v)?, true)),
            _ => None,
        };
    }
    let whole = rest.strip_prefix('.')?.strip_suffix(".safetensors")?;
    Some((variant(whole)?, false))
}

/// Whether a name ends as a shard's does: …-00001-of-00002.
fn is_shard(name: &str) -> bool {
    let number = |part: Option<&str>| part.is_some_and(|p| p.len() == 5 && p.bytes().all(|b| b.is_ascii_digit()));
    let mut parts = name.rsplit('-');
    let count = number(parts.next());
    count && parts.next() == Some("of") && number(parts.next())
}

/// The place of a variant in the order in which weights are taken: none first.
pub fn variant_rank(variant: Option<&str>) -> usize {
    let Some(variant) = variant else { return 0 };
    let place = |list: &[&str]| list.iter().position(|name| *name == variant);
    match (place(&FIRST), place(&LAST)) {
        (Some(place), _) => 1 + place,
        (_, Some(place)) => 2 + FIRST.len() + place,
        _ => 1 + FIRST.len(),
    }
}

/// The shards that an index names; each must lie in its folder.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let damaged = |message: String| Error::Weights { path: index.to_path_buf(), message };
    let json = json::read(index)?;
    let map = json.get("weight_map").and_then(|m| m.as_object());
    let map = map.filter(|m| !m.is_empty()).ok_or_else(|| damaged("no weight_map that names shards".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, shard) in map {
        let name = shard.as_str().ok_or_else(|| damaged(format!("weight_map: {tensor}: not a file's name")))?;
        if name.contains(['/', '\\']) || name.contains("..") {
            return Err(damaged(format!("shard {name} lies outside the folder")));
        }
        names.insert(name);
    }
    let paths: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
    match paths.iter().find(|path| !path.is_file()) {
        Some(missing) => Err(Error::MissingShard { path: missing.clone(), index: index.to_path_buf() }),
        None => Ok(paths),
    }
}

/// The error for a folder without safetensors: it names a pickle and says how to convert it.
fn nothing(folder: &Path, stem: &str) -> Error {
    for pickle in [format!("{stem}.bin"), format!("{stem}.pt"), format!("{stem}.ckpt"), "pytorch_model.bin".into()] {
        let path = folder.join(pickle);
        if path.is_file() {
            return Error::Pickle { path };
        }
    }
    Error::io(
        folder.join(format!("{stem}.safetensors")),
        std::io::Error::new(std::io::ErrorKind::NotFound, "no such file; expected the model's weights here"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The variant and the names of the files that are chosen in a folder with `files`; an index names `shards`.
    fn taken(files: &[&str], shards: &[&str]) -> std::result::Result<(Option<String>, Vec<String>), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let map: BTreeMap<String, &str> = shards.iter().enumerate().map(|(n, s)| (n.to_string(), *s)).collect();
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
        for name in files {
            std::fs::write(folder.path().join(name), &index).expect("a file to write");
        }
        let found = model_files(folder.path(), "X").map_err(|e| e.to_string())?;
        let name = |p: &PathBuf| p.file_name().expect("a file").to_string_lossy().into_owned();
        Ok((found.variant, found.paths.iter().map(name).collect()))
    }

    #[test]
    fn every_spelling_of_shards_and_variants_is_found() {
        let plain = ["X-00001-of-00002.safetensors", "X-00002-of-00002.safetensors"];
        let new = ["X.fp16-00001-of-00002.safetensors", "X.fp16-00002-of-00002.safetensors"];
        let old = ["X-00001-of-00002.fp16.safetensors", "X-00002-of-00002.fp16.safetensors"];
        for (index, variant, shards) in [
            ("X.safetensors.index.json", None, plain),
            ("X.safetensors.index.fp16.json", Some("fp16"), new),
            ("X.safetensors.fp16.index.json", Some("fp16"), old),
        ] {
            let found = taken(&[index, shards[0], shards[1]], &shards).expect(index);
            assert_eq!(found, (variant.map(str::to_string), shards.map(str::to_string).to_vec()));
            let error = taken(&[index, shards[0]], &shards).expect_err("a shard is missing");
            assert!(error.contains(shards[1]) && error.contains(index), "{error}");
        }
        for variant in ["fp16", "bf16", "non_ema", "of_someone"] {
            let file = format!("X.{variant}.safetensors");
            assert_eq!(taken(&[&file], &[]).expect("a whole file"), (Some(variant.into()), vec![file.clone()]));
        }
    }

    #[test]
    fn of_several_the_stated_order_decides() {
        let all = ["", ".fp32", ".fp16", ".bf16", ".ema", ".mine", ".non_ema"].map(|v| format!("X{v}.safetensors"));
        for first in 0..all.len() {
            let files: Vec<&str> = all[first..].iter().rev().map(String::as_str).collect();
            assert_eq!(taken(&files, &[]).expect("found").1, [all[first].clone()]);
        }
        let shards = ["X-00001-of-00002.safetensors", "X-00002-of-00002.safetensors"];
        let both = [shards[0], shards[1], "X.safetensors.index.json", "X.fp16.safetensors"];
        assert_eq!(taken(&both, &shards).expect("found").1, shards);
    }

    #[test]
    fn what_cannot_be_a_model_is_refused_by_name() {
        for (files, named) in [
            (vec!["X.bin"], "pickle"),
            (vec!["pytorch_model.bin"], "pickle"),
            (vec!["X-00001-of-00002.safetensors"], "no such file"),
            (vec!["Y.safetensors", "X.safetensors.bak"], "no such file"),
        ] {
            let error = taken(&files, &[]).expect_err("no model");
            assert!(error.contains(named), "{files:?}: {error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        for (text, named) in [
            (r#"{"weight_map": {"a": "../x.safetensors"}}"#, "outside"),
            (r#"{"weight_map": {"a": 3}}"#, "weight_map: a"),
            (r#"{"weight_map": {}}"#, "weight_map"),
            (r#"{"metadata": {"total_size": NaN}}"#, "weight_map"),
        ] {
            std::fs::write(folder.path().join("X.safetensors.index.json"), text).expect("a file to write");
            let error = model_files(folder.path(), "X").expect_err(text).to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
