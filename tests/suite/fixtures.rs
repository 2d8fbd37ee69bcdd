//! Where fixtures and assets lie, and how far two tensors are apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use arrow::array::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tch::{Kind, Tensor};

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A committed fixture under tests/fixtures.
pub fn fixture(path: &str) -> PathBuf {
    root().join("tests/fixtures").join(path)
}

/// A file of the embedded model family.
pub fn pocket(path: &str) -> PathBuf {
    root().join("assets/pocket").join(path)
}

/// A picture of the embedded people.
pub struct Picture {
    /// Its row in the split's file.
    pub row: usize,
    /// The compressed picture.
    pub bytes: Vec<u8>,
}

/// The first `count` pictures of a split that show an emotion.
pub fn people(split: &str, emotion: &str, count: usize) -> Vec<Picture> {
    let file = File::open(pocket(&format!("data/{split}.parquet"))).expect("the embedded people");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("Parquet");
    let mut pictures = Vec::new();
    let mut before = 0;
    for batch in reader.map(|batch| batch.expect("readable")) {
        let emotions = batch.column_by_name("emotion").expect("a column").as_string::<i32>();
        let images = batch.column_by_name("image").expect("a column").as_struct();
        let bytes = images.column_by_name("bytes").expect("a field").as_binary::<i32>();
        let shown = (0..batch.num_rows()).filter(|&row| emotions.value(row) == emotion);
        pictures.extend(shown.map(|row| Picture { row: before + row, bytes: bytes.value(row).to_vec() }));
        before += batch.num_rows();
    }
    assert!(pictures.len() >= count, "{split} has {} pictures of {emotion}, {count} are asked for", pictures.len());
    pictures.truncate(count);
    pictures
}

/// A built program of this workspace. `cargo test` alone builds none: the first caller has them all built, as they are
/// now.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let arguments = ["build", "--release", "--quiet", "--workspace", "--locked"];
        let mut command = Command::new(cargo);
        // What cargo tells this test about its package would have build scripts, and all above them, run once more.
        let ours = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        std::env::vars().map(|(name, _)| name).filter(ours).for_each(|name| {
            command.env_remove(name);
        });
        let built = command.args(arguments).current_dir(root()).status();
        assert!(built.expect("cargo runs").success(), "the programs do not build");
        // This test is target/release/deps/suite-*, the programs target/release/*.
        let test = std::env::current_exe().expect("the test binary has a path");
        test.ancestors().nth(2).expect("a target folder").to_path_buf()
    });
    folder.join(name)
}

/// All tensors of a safetensors file by name.
pub fn tensors(path: &str) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(fixture(path)).expect("the fixture is readable").into_iter().collect()
}

/// Asserts that the largest difference is within `tolerance` of the expected tensor's spread (its standard deviation).
#[track_caller]
pub fn assert_close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size(), "{name}: shape");
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let spread = expected.std(false).double_value(&[]).max(1e-12);
    let difference = (found - expected).abs().max().double_value(&[]) / spread;
    assert!(difference <= tolerance, "{name}: differs by {difference:.2e} of the spread, allowed {tolerance:.0e}");
}

/// A reference file that is kept outside the repository, beside it in ../shared/reference.
///
/// Where it is absent the caller returns; the line goes to stderr past the test harness, so that skips can be counted.
pub fn shared_reference(path: &str) -> Option<PathBuf> {
    let file = root().join("../shared/reference").join(path);
    if file.exists() {
        return Some(file);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    let reason = format!("SKIPPED: {test}: ../shared/reference/{path} is absent; it is kept outside the repository");
    writeln!(std::io::stderr(), "{reason}").expect("stderr takes a line");
    None
}

/// Copies a folder and all below it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
