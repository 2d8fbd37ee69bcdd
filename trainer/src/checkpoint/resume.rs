//! Where a run starts: at its newest good checkpoint, at a given one, or at step 0.

mod changes;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

pub use self::changes::Frozen;
use crate::checkpoint::disk::{Disk, RealDisk};
use crate::checkpoint::reading::{self, Error};
use crate::checkpoint::{self, Snapshot, TRAJECTORY};
use crate::config::resolved::Resolved;
use crate::failure::input;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest whole checkpoint, if there is one.
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

/// The checkpoint to start from, verified, with everything that this run takes from it. Damaged checkpoints are
/// skipped with a warning and set aside. It is an error if a damaged one was named, or if one cannot be read or has
/// another meaning.
pub fn find(resume: &Resume, recipe: &Resolved, frozen: &Frozen) -> anyhow::Result<Option<(PathBuf, Snapshot)>> {
    let output_dir = &recipe.config.output_dir;
    checkpoint::sweep(output_dir);
    let set_aside = |folder: &Path| checkpoint::set_aside(folder, "damaged");
    let mut found = choose(&RealDisk, resume, output_dir, set_aside)?;
    match &mut found {
        None => tracing::info!("starting at step 0 in {}", output_dir.display()),
        Some((folder, snapshot)) => {
            fit(folder, snapshot, recipe, frozen)?;
            tracing::info!("resuming from {}", folder.display());
        }
    }
    Ok(found)
}

/// Where [`find`] will start, without touching or logging anything: for the plan.
pub fn preview(resume: &Resume, recipe: &Resolved, frozen: &Frozen) -> anyhow::Result<Option<(PathBuf, Snapshot)>> {
    let found = choose(&RealDisk, resume, &recipe.config.output_dir, |_| Ok(()))?;
    if let Some((folder, snapshot)) = &found {
        changes::check(folder, &snapshot.state, &recipe.config, frozen)?;
    }
    Ok(found)
}

fn choose(
    disk: &dyn Disk, resume: &Resume, output_dir: &Path, set_aside: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Option<(PathBuf, Snapshot)>> {
    match resume {
        Resume::Never => Ok(None),
        Resume::From(folder) => match checkpoint::load(disk, folder) {
            Ok(snapshot) => Ok(Some((folder.clone(), snapshot))),
            Err(error @ Error::Unreadable { .. }) => Err(error.into()),
            Err(error) => input(Err(error)),
        },
        Resume::Latest => newest_good(disk, output_dir, set_aside),
    }
}

/// Only damage leads to an earlier checkpoint: one that cannot be read may be whole.
fn newest_good(
    disk: &dyn Disk, output_dir: &Path, set_aside: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Option<(PathBuf, Snapshot)>> {
    let listed = match reading::patiently(disk, output_dir, || checkpoint::all(disk, output_dir)) {
        // There is no such folder; if something else has its name, the check of the output folder refuses it.
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
        listed => listed.with_context(|| format!("{}: cannot be listed", output_dir.display()))?,
    };
    for (_, folder) in listed {
        match checkpoint::load(disk, &folder) {
            Ok(snapshot) => return Ok(Some((folder, snapshot))),
            Err(error @ Error::Unreadable { .. }) => return Err(error.into()),
            Err(error) => {
                tracing::warn!("{error}; falling back to an earlier checkpoint");
                set_aside(&folder)?;
            }
        }
    }
    Ok(None)
}

/// Refuses a checkpoint whose tensors have another meaning under this recipe, and reports other changes. Drops its
/// edited latents if they belong to other sources than those of the steps to come.
fn fit(folder: &Path, snapshot: &mut Snapshot, recipe: &Resolved, frozen: &Frozen) -> anyhow::Result<()> {
    let changes = changes::check(folder, &snapshot.state, &recipe.config, frozen)?;
    for change in &changes {
        tracing::warn!("the recipe is not the checkpoint's: {change}");
    }
    if changes.iter().any(|change| change.moves_the_sources()) && snapshot.files.remove(TRAJECTORY).is_some() {
        tracing::warn!(
            "the latents under way are left behind: the sources' own take their place until the next descent"
        );
    }
    Ok(())
}

/// Sets aside checkpoints of later steps than the run starts from: they belong to a course that this run does not
/// take.
pub fn clear_later(output_dir: &Path, step: u64) -> anyhow::Result<()> {
    let listed = checkpoint::all(&RealDisk, output_dir);
    for (later, folder) in listed.with_context(|| output_dir.display().to_string())? {
        if later > step {
            tracing::warn!("{}: set aside, the run begins at step {step}", folder.display());
            checkpoint::set_aside(&folder, "superseded")?;
        }
    }
    std::fs::create_dir_all(output_dir).with_context(|| output_dir.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::ErrorKind;

    use super::*;
    use crate::checkpoint::disk::Hiccup;
    use crate::checkpoint::retention::Retention;

    fn two_checkpoints() -> anyhow::Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        let keep = Retention { limit: 2, best: None, min_free_bytes: 0 };
        for step in [1u64, 2] {
            let snapshot = Snapshot { files: BTreeMap::new(), state: serde_json::json!({ "step": step }) };
            checkpoint::save(&RealDisk, dir.path(), step, &snapshot, &keep)?;
        }
        Ok(dir)
    }

    fn latest(disk: &dyn Disk, dir: &Path) -> anyhow::Result<Option<u64>> {
        let found = choose(disk, &Resume::Latest, dir, |folder| checkpoint::set_aside(folder, "damaged"))?;
        Ok(found.and_then(|(_, snapshot)| snapshot.state["step"].as_u64()))
    }

    #[test]
    fn a_hiccup_is_waited_out_and_never_taken_for_damage() -> anyhow::Result<()> {
        for kind in
            [ErrorKind::Other, ErrorKind::StaleNetworkFileHandle, ErrorKind::PermissionDenied, ErrorKind::TimedOut]
        {
            let dir = two_checkpoints()?;
            for times in 1..=3 {
                let disk = Hiccup::new(kind, times);
                assert_eq!((latest(&disk, dir.path())?, disk.waits()), (Some(2), times), "{kind:?}");
            }
            let error = latest(&Hiccup::new(kind, 1000), dir.path()).expect_err("it cannot be read");
            assert!(format!("{error:#}").contains("cannot be listed"), "{kind:?}: {error:#}");
            let named = choose(
                &Hiccup::new(kind, 1000),
                &Resume::From(dir.path().join("checkpoint-2")),
                dir.path(),
                |_| Ok(()),
            );
            let error = named.expect_err("it cannot be read");
            assert!(format!("{error:#}").contains("not taken for damaged"), "{kind:?}: {error:#}");
            assert_eq!(crate::failure::exit_code(&error), crate::failure::FAILED, "{kind:?}");
            assert_eq!(checkpoint::all(&RealDisk, dir.path())?.len(), 2, "{kind:?}: nothing was set aside");
        }
        Ok(())
    }

    #[test]
    fn damage_is_passed_by_and_set_aside() -> anyhow::Result<()> {
        let dir = two_checkpoints()?;
        std::fs::write(dir.path().join("checkpoint-2/state.json"), "{")?;
        assert_eq!(latest(&RealDisk, dir.path())?, Some(1));
        assert!(dir.path().join("damaged-checkpoint-2").is_dir());
        std::fs::remove_file(dir.path().join("checkpoint-1/state.json"))?;
        assert_eq!(latest(&RealDisk, dir.path())?, None);
        Ok(())
    }
}
