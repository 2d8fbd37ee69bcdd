//! Waiting for files that other processes write into a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use program::Progress;

use crate::error::{Error, Result};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long nothing may change in the folder before the other processes are taken for dead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience(pub Duration);

/// Returns once `missing` names nothing more; fails if nothing in `folder` has changed for too long.
pub fn wait_for(folder: &Path, patience: Patience, mut missing: impl FnMut() -> Option<String>) -> Result<()> {
    let (mut seen, mut since) = (BTreeMap::new(), Instant::now());
    let mut progress = None;
    while let Some(what) = missing() {
        progress.get_or_insert_with(|| Progress::unbounded("waiting for", true)).say(what.clone());
        let now = sizes(folder);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        if since.elapsed() > patience.0 {
            let seconds = patience.0.as_secs_f64();
            let hint = "start the ranks that died again: what is finished is kept (rank_timeout_s sets the limit)";
            let message = format!("waited {seconds:.0} s in vain for {what}; {hint}");
            return Err(Error::store(folder.display().to_string(), message));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Every file and its size.
fn sizes(folder: &Path) -> BTreeMap<std::ffi::OsString, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name(), entry.metadata().map_or(0, |m| m.len()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_waited_for_and_what_does_not_come_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut looks = 0;
        let patience = Patience(Duration::from_secs(60));
        wait_for(folder.path(), patience, || {
            looks += 1;
            (looks < 3).then(|| "rank 1".to_string())
        })
        .expect("it came");
        let patience = Patience(Duration::from_millis(1));
        let error = wait_for(folder.path(), patience, || Some("shard 7".into())).expect_err("it never comes");
        assert!(error.to_string().contains("shard 7"), "{error}");
    }
}
