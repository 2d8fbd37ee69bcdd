//! From a name in a metadata table to the image on the disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

/// Images by their paths from the root on.
#[derive(Debug)]
pub struct Names<'a> {
    root: &'a Path,
    /// The root without links in its path.
    place: PathBuf,
    /// By path as the disk has it.
    exact: HashMap<&'a str, usize>,
    /// By path in Unicode's form C; none if two paths have the same form.
    composed: HashMap<String, Option<usize>>,
}

impl<'a> Names<'a> {
    /// The names of `paths` below `root`.
    pub fn new(root: &'a Path, paths: &'a [String]) -> Self {
        let mut composed = HashMap::with_capacity(paths.len());
        for (n, path) in paths.iter().enumerate() {
            composed.entry(path.nfc().collect()).and_modify(|known| *known = None).or_insert(Some(n));
        }
        let exact = paths.iter().enumerate().map(|(n, path)| (path.as_str(), n)).collect();
        Self { root, place: std::fs::canonicalize(root).unwrap_or_else(|_| root.into()), exact, composed }
    }

    /// The image that `name`, in a table of `folder`, names; or the path where there is no image.
    ///
    /// macOS writes names decomposed, tables have them composed: they count as the same if only one image has the
    /// name (UAX #15). Windows writes `\`. A path through a link names what the link leads to. The error is a name
    /// that leads outside.
    pub fn find(&self, folder: &str, name: &str) -> Result<Result<usize, String>, String> {
        let path = below(folder, name)?;
        let known = |path: &str| {
            let composed = || self.composed.get(&path.nfc().collect::<String>()).copied().flatten();
            self.exact.get(path).copied().or_else(composed)
        };
        let found = known(&path).or_else(|| {
            let path = below(folder, &name.replace('\\', "/")).ok().filter(|_| name.contains('\\'))?;
            known(&path)
        });
        Ok(found.or_else(|| self.behind_links(&path)).ok_or(path))
    }

    fn behind_links(&self, path: &str) -> Option<usize> {
        let place = std::fs::canonicalize(self.root.join(path)).ok()?;
        self.exact.get(place.strip_prefix(&self.place).ok()?.to_str()?).copied()
    }
}

/// The path from the root for `name` in `folder`.
fn below(folder: &str, name: &str) -> Result<String, String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let outside = || format!("file_name {name:?} leads outside the folder");
    if name.starts_with('/') || name.contains('\0') {
        return Err(outside());
    }
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(outside)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Separates words in names, as `datasets` has it (data_files.py, NON_WORDS_CHARS).
fn is_no_word(character: char) -> bool {
    "-._ ".contains(character) || character.is_ascii_digit()
}

/// Which of these folders names the split, and the split: the first with one of the words that `datasets` looks for,
/// alone or set off by `-`, `.`, `_`, a space or a digit (`train`, `images-val`, `train2017`).
pub fn split_among(folders: &[&str]) -> Option<(usize, &'static str)> {
    let named = |folder: &str| folder.split(is_no_word).find_map(super::super::split_named);
    folders.iter().enumerate().find_map(|(n, folder)| Some((n, named(folder)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whatever_their_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["train/mu\u{308}de.jpg", "a/0.jpg", "e\u{301}.jpg", "\u{e9}.jpg"].map(str::to_string);
        let names = Names::new(folder.path(), &paths);
        let find = |folder: &str, name: &str| names.find(folder, name);
        assert_eq!(find("train", "m\u{fc}de.jpg"), Ok(Ok(0)));
        assert_eq!(find("train", "mu\u{308}de.jpg"), Ok(Ok(0)));
        assert_eq!(find("", "./a//0.jpg"), Ok(Ok(1)));
        assert_eq!(find("", "a\\0.jpg"), Ok(Ok(1)));
        assert_eq!(find("train", "../a/0.jpg"), Ok(Ok(1)));
        assert_eq!((find("", "e\u{301}.jpg"), find("", "\u{e9}.jpg")), (Ok(Ok(2)), Ok(Ok(3))));
        assert_eq!(find("a", "1.jpg"), Ok(Err("a/1.jpg".into())));
        for name in ["../x.jpg", "/etc/x.jpg", "a\0.jpg", "a/../../x.jpg"] {
            assert!(find("", name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_through_a_link_means_what_lies_there() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("made");
        std::fs::write(folder.path().join("a/0.jpg"), "").expect("written");
        std::os::unix::fs::symlink("a", folder.path().join("b")).expect("linked");
        let paths = ["a/0.jpg".to_string()];
        assert_eq!(Names::new(folder.path(), &paths).find("", "b/0.jpg"), Ok(Ok(0)));
    }

    #[test]
    fn splits_are_named_as_datasets_looks_for_them() {
        let split = |path: &str| split_among(&path.split('/').collect::<Vec<_>>());
        assert_eq!(split("train/awe"), Some((0, "train")));
        assert_eq!(split("images/validation/awe"), Some((1, "val")));
        assert_eq!(split("train2017"), Some((0, "train")));
        assert_eq!(split("my-test_1"), Some((0, "test")));
        assert_eq!(split("eval"), Some((0, "test")));
        assert_eq!(split("dev"), Some((0, "val")));
        assert_eq!(split("contest/trainer/Train"), None);
    }
}
