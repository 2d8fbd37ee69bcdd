//! Where a run begins: at its newest good checkpoint, at a given one, or at step 0.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::checkpoint::{self, Snapshot};
use crate::config::Config;
use crate::failure::input;
use crate::resolved::Resolved;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest checkpoint that is whole, if there is one.
    Latest,
    /// This checkpoint.
    From(PathBuf),
    /// Step 0.
    Never,
}

impl Resume {
    /// Reads `latest`, `none` or a path.
    pub fn parse(text: &str) -> Self {
        match text {
            "latest" => Resume::Latest,
            "none" => Resume::Never,
            path => Resume::From(PathBuf::from(path)),
        }
    }
}

/// The checkpoint to begin at, verified. Damaged ones are passed by loudly; a damaged one that was named is an error.
pub fn find(resume: &Resume, recipe: &Resolved) -> anyhow::Result<Option<(PathBuf, Snapshot)>> {
    let output_dir = &recipe.config.output_dir;
    checkpoint::sweep(output_dir);
    let found = match resume {
        Resume::Never => None,
        Resume::From(folder) => Some((folder.clone(), input(checkpoint::load(folder))?)),
        Resume::Latest => newest_good(output_dir)?,
    };
    match &found {
        None => tracing::info!("starting at step 0 in {}", output_dir.display()),
        Some((folder, snapshot)) => {
            tracing::info!("resuming from {}", folder.display());
            for change in changes(&snapshot.state["config"], &recipe.config)? {
                tracing::warn!("the recipe is not the checkpoint's: {change}");
            }
        }
    }
    Ok(found)
}

fn newest_good(output_dir: &Path) -> anyhow::Result<Option<(PathBuf, Snapshot)>> {
    for (_, folder) in checkpoint::all(output_dir) {
        match checkpoint::load(&folder) {
            Ok(snapshot) => return Ok(Some((folder, snapshot))),
            Err(error) => {
                tracing::warn!("{error:#}; falling back to an earlier checkpoint");
                checkpoint::set_aside(&folder, "damaged")?;
            }
        }
    }
    Ok(None)
}

/// Sets aside checkpoints of later steps than the run begins at: they are of a course that it does not take.
pub fn clear_later(output_dir: &Path, step: u64) -> anyhow::Result<()> {
    for (later, folder) in checkpoint::all(output_dir) {
        if later > step {
            tracing::warn!("{}: set aside, the run begins at step {step}", folder.display());
            checkpoint::set_aside(&folder, "superseded")?;
        }
    }
    std::fs::create_dir_all(output_dir).with_context(|| output_dir.display().to_string())
}

/// The keys whose values differ, except for those that may: how long to train, where to write, what to show.
fn changes(before: &serde_json::Value, now: &Config) -> anyhow::Result<Vec<String>> {
    const FREE: [&str; 6] =
        ["checkpoint.", "validation.", "watch.", "output_dir", "train.max_train_steps", "train.num_threads"];
    let now = serde_json::to_value(now)?;
    let mut found = Vec::new();
    differ("", before, &now, &mut found);
    found.retain(|line| !FREE.iter().any(|key| line.starts_with(key)));
    Ok(found)
}

fn differ(key: &str, before: &serde_json::Value, now: &serde_json::Value, found: &mut Vec<String>) {
    use serde_json::Value::Object;
    match (before, now) {
        (Object(a), Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                differ(
                    &path,
                    a.get(name).unwrap_or(&serde_json::Value::Null),
                    b.get(name).unwrap_or(&serde_json::Value::Null),
                    found,
                );
            }
        }
        (a, b) if a != b => found.push(format!("{key} was {a}, is {b}")),
        _ => {}
    }
}
