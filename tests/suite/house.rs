//! The rules of the house: who may depend on whom, where unsafe and the environment may be, how large a room may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixtures::root;

/// What each member may depend on among the members; anything else breaks the layering of ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("durable", &[]),
    ("program", &["recipe"]),
    ("recipe", &[]),
    ("hashes", &["durable"]),
    ("emotions", &[]),
    ("hub", &["diffusion"]),
    ("diffusion", &["durable", "hashes"]),
    ("collective", &[]),
    ("dataloader", &["durable", "hashes", "program", "recipe", "emotions", "diffusion", "collective", "hub"]),
    ("judge", &["diffusion", "emotions"]),
    (
        "trainer",
        &[
            "durable",
            "hashes",
            "program",
            "recipe",
            "emotions",
            "diffusion",
            "dataloader",
            "collective",
            "judge",
            "hub",
        ],
    ),
    (
        "evaluator",
        &[
            "durable",
            "hashes",
            "program",
            "recipe",
            "emotions",
            "diffusion",
            "dataloader",
            "collective",
            "judge",
            "hub",
        ],
    ),
    ("editor", &["durable", "program", "hashes", "diffusion", "dataloader", "collective", "hub"]),
    (
        "tests",
        &[
            "program",
            "recipe",
            "emotions",
            "diffusion",
            "collective",
            "dataloader",
            "judge",
            "trainer",
            "evaluator",
            "editor",
            "hub",
        ],
    ),
];

/// What `diffusion` must never see: runtimes, object stores, YAML, the network.
const NOT_IN_DIFFUSION: [&str; 10] =
    ["tokio", "object_store", "serde_yaml_ng", "parquet", "collective", "hub", "hf-hub", "ureq", "reqwest", "url"];

/// The sources that write files otherwise than through `durable`, each for a reason that stands at its head.
const OTHER_WRITERS: [&str; 6] = [
    "dataloader/src/inversions/pool.rs",   // a file is put there only if nobody else has
    "trainer/src/checkpoint/disk.rs",      // one operation at a time, so that tests can put a fault at each
    "dataloader/src/making/writer.rs",     // a shard is written as it is made, for hours
    "dataloader/src/making/staging.rs",    // many renames and one sync; `recover` completes them
    "dataloader/src/store/cache.rs",       // a copy of what lies elsewhere
    "evaluator/src/evaluation/gallery.rs", // thousands of pictures into a folder that is published as a whole
];

/// The members that are programs, or test them; all others are libraries and lie in crates/.
const AT_THE_TOP: [&str; 5] = ["dataloader", "trainer", "evaluator", "editor", "tests"];

/// One crate's manifest as `cargo metadata` prints it.
struct Package(serde_json::Value);

/// A crate that another names in its manifest.
#[derive(Debug)]
struct Dependency {
    name: String,
    optional: bool,
}

impl Package {
    fn name(&self) -> &str {
        self.0["name"].as_str().expect("a package has a name")
    }

    fn dependencies(&self) -> Vec<Dependency> {
        let dependency = |d: &serde_json::Value| Dependency {
            name: d["name"].as_str().expect("a dependency has a name").into(),
            optional: d["optional"].as_bool().expect("a dependency is optional or not"),
        };
        self.0["dependencies"].as_array().expect("a list").iter().map(dependency).collect()
    }
}

fn packages() -> Vec<Package> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let ran = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("packages").iter().cloned().map(Package).collect()
}

fn package(name: &str) -> Package {
    packages().into_iter().find(|p| p.name() == name).expect("it is a member")
}

#[test]
fn members_depend_only_on_what_lies_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let packages = packages();
    assert_eq!(packages.len(), allowed.len(), "every member has its place");
    for package in &packages {
        let name = package.name();
        let below = allowed.get(name).unwrap_or_else(|| panic!("{name} has no place in the layering"));
        for dependency in package.dependencies().iter().filter(|d| allowed.contains_key(d.name.as_str())) {
            assert!(below.contains(&dependency.name.as_str()), "{name} must not depend on {}", dependency.name);
        }
    }
}

#[test]
fn diffusion_knows_no_runtime_store_or_yaml() {
    let names: BTreeSet<String> = package("diffusion").dependencies().into_iter().map(|d| d.name).collect();
    for forbidden in NOT_IN_DIFFUSION {
        assert!(!names.contains(forbidden), "diffusion depends on {forbidden}");
    }
    for (path, text) in sources().into_iter().filter(|(p, _)| p.starts_with("crates/diffusion")) {
        assert!(!text.contains("std::net"), "{} reaches for a network", path.display());
    }
}

#[test]
fn programs_stand_at_the_top_and_libraries_in_crates() {
    for package in packages() {
        let manifest = Path::new(package.0["manifest_path"].as_str().expect("a package has a manifest"));
        let parent = manifest.parent().and_then(Path::parent).expect("a member has a folder");
        let name = package.name();
        assert_eq!(!parent.ends_with("crates"), AT_THE_TOP.contains(&name), "{name} lies in {}", parent.display());
    }
}

#[test]
fn only_the_encoding_feature_of_the_dataloader_needs_libtorch() {
    let dependencies = package("dataloader").dependencies();
    for name in ["diffusion", "collective", "hub", "tch"] {
        let dependency = dependencies.iter().find(|d| d.name == name).expect("the encoder uses it");
        assert!(dependency.optional, "{name} must be optional in dataloader");
    }
}

#[test]
fn unsafe_code_is_in_collective_alone() {
    for (path, text) in sources() {
        if path.starts_with("crates/collective") || path.starts_with("tests") {
            continue;
        }
        let line = text.lines().position(|l| !l.trim_start().starts_with("//") && l.contains("unsafe "));
        assert!(line.is_none(), "{}:{} uses unsafe", path.display(), line.unwrap_or(0) + 1);
    }
}

#[test]
fn the_environment_is_read_in_main_and_the_rendezvous_alone() {
    for (path, text) in sources() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["main.rs", "build.rs"].contains(&name.as_str())
            || path.starts_with("tests")
            || path.starts_with("crates/collective")
        {
            continue;
        }
        let code = text.split("[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("env::var"), "{} reads the environment", path.display());
    }
}

#[test]
fn diffusion_reads_no_clock() {
    for (path, text) in sources().into_iter().filter(|(p, _)| p.starts_with("crates/diffusion/src")) {
        for clock in ["SystemTime::now", "Instant::now"] {
            assert!(!text.contains(clock), "{} reads the clock", path.display());
        }
    }
}

#[test]
fn files_are_written_by_one_writer() {
    for (path, text) in
        sources().into_iter().filter(|(p, _)| !p.starts_with("tests") && !p.starts_with("crates/durable"))
    {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let writes = ["fs::write(", "File::create(", "fs::rename(", ".persist("].iter().any(|call| code.contains(call));
        let is_test = ["tests.rs", "bombs.rs"].iter().any(|name| path.ends_with(name));
        let is_known = OTHER_WRITERS.iter().any(|known| path.ends_with(known));
        assert!(!writes || is_test || is_known, "{} writes a file; durable::write is for that", path.display());
    }
}

#[test]
fn rooms_stay_small() {
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        let limit = if path.ends_with("main.rs") && !path.starts_with("tests") { 80 } else { 400 };
        let counted = !path.starts_with("tests");
        assert!(!counted || code <= limit, "{} has {code} lines, at most {limit} without its tests", path.display());
    }
}

#[test]
fn folders_stay_small() {
    let mut counts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (path, _) in sources().into_iter().filter(|(path, _)| !path.starts_with("tests")) {
        *counts.entry(path.parent().expect("a source lies in a folder").into()).or_default() += 1;
    }
    for (folder, count) in counts {
        assert!(count <= 20, "{} has {count} sources: it wants folders of its own", folder.display());
    }
}

#[test]
fn every_recipe_says_what_it_is_for_and_how_to_run_it() {
    let mut seen = 0;
    for path in files(&root().join("configs"), "yaml") {
        let text = std::fs::read_to_string(&path).expect("a recipe is readable");
        let head: String = text.lines().take_while(|l| l.starts_with('#')).collect();
        let commands = ["trainer --config", "dataloader shard --config", "evaluator --config", "make "];
        assert!(commands.iter().any(|c| head.contains(c)), "{}: its head names no command", path.display());
        seen += 1;
    }
    assert!(seen > 10, "only {seen} recipes were found");
}

/// Every Rust source of the workspace by its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    let root = root().canonicalize().expect("the repository's root exists");
    let folder = |name: &str| if AT_THE_TOP.contains(&name) { root.join(name) } else { root.join("crates").join(name) };
    let members = ALLOWED.map(|(name, _)| folder(name));
    let paths = members.iter().flat_map(|member| files(member, "rs"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source is readable");
        (path.strip_prefix(&root).expect("a member lies below the root").to_path_buf(), text)
    };
    paths.map(read).collect()
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder exists").filter_map(Result::ok);
    let mut found = Vec::new();
    for path in entries.map(|e| e.path()) {
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.extension().is_some_and(|e| e == suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}
