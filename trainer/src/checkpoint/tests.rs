//! What is saved can be loaded, whatever fails while it is written and whatever happens to it afterwards.

use super::disk::{Failing, Fault, RealDisk};
use super::*;

fn newest(limit: usize) -> Retention {
    Retention { limit, best: None, min_free_bytes: 0 }
}

fn snapshot(step: u64) -> Snapshot {
    let tensors = Tensors::from([("tokens".to_string(), Tensor::from_slice(&[step as f32, 2.0]))]);
    Snapshot { files: BTreeMap::from([("tokens".into(), tensors)]), state: serde_json::json!({"step": step}) }
}

#[test]
fn what_was_saved_is_loaded_and_only_the_newest_are_kept() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for step in [1, 2, 10] {
        save(&RealDisk, dir.path(), step, &snapshot(step), &newest(2))?;
    }
    let steps: Vec<u64> = all(&RealDisk, dir.path())?.into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [10, 2]);
    let read = load(&RealDisk, &folder(dir.path(), 10))?;
    assert_eq!(read.files["tokens"]["tokens"], Tensor::from_slice(&[10.0f32, 2.0]));
    assert_eq!(read.state["step"], 10);
    Ok(())
}

#[test]
fn every_flipped_byte_and_every_truncation_is_noticed() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = save(&RealDisk, dir.path(), 3, &snapshot(3), &newest(1))?;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        let path = entry.path();
        let good = std::fs::read(&path)?;
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            std::fs::write(&path, &bad)?;
            assert!(load(&RealDisk, &folder).is_err(), "{name}, byte {at}");
        }
        std::fs::write(&path, &good[..good.len() / 2])?;
        let error = format!("{:#}", load(&RealDisk, &folder).expect_err("truncated"));
        assert!(error.contains(&name), "{error}");
        std::fs::write(&path, &good)?;
    }
    assert!(load(&RealDisk, &folder).is_ok());
    Ok(())
}

#[test]
fn half_written_folders_are_swept() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join(".checkpoint-5.writing"))?;
    sweep(dir.path());
    assert!(all(&RealDisk, dir.path())?.is_empty());
    assert!(!dir.path().join(".checkpoint-5.writing").exists());
    Ok(())
}

/// One fault at every operation in turn: the disk refuses it, or the power fails in the middle of it. Either way the
/// earlier checkpoint is whole, whatever is loaded is whole, and a later save succeeds.
#[test]
fn a_fault_at_any_operation_leaves_a_good_checkpoint() -> anyhow::Result<()> {
    for fault in [Fault::Refused, Fault::PowerCut] {
        let mut at = 0;
        loop {
            let dir = tempfile::tempdir()?;
            save(&RealDisk, dir.path(), 1, &snapshot(1), &newest(1))?;
            let disk = Failing::new(at, fault);
            let saved = save(&disk, dir.path(), 2, &snapshot(2), &newest(1));
            let whole: Vec<u64> =
                all(&RealDisk, dir.path())?.iter().filter_map(|(_, f)| load(&RealDisk, f).ok()).map(step_of).collect();
            assert!(!whole.is_empty(), "{fault:?} at {}: nothing left", disk.last());
            if disk.reached() {
                assert!(whole.contains(&1) || whole.contains(&2), "{fault:?} at {}: {whole:?}", disk.last());
                sweep(dir.path());
                save(&RealDisk, dir.path(), 3, &snapshot(3), &newest(1))?;
                let left: Vec<u64> = all(&RealDisk, dir.path())?.into_iter().map(|(step, _)| step).collect();
                assert_eq!(left, [3], "{fault:?} at {}", disk.last());
            } else {
                assert!(saved.is_ok() && at > 10, "{at} operations: {saved:?}");
                break;
            }
            at += 1;
        }
    }
    Ok(())
}

fn step_of(snapshot: Snapshot) -> u64 {
    snapshot.state["step"].as_u64().expect("a step")
}

#[test]
fn a_full_disk_is_seen_before_anything_is_written() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let greedy = Retention { min_free_bytes: u64::MAX / 2, ..newest(1) };
    let error = format!("{:#}", save(&RealDisk, dir.path(), 1, &snapshot(1), &greedy).expect_err("no space"));
    assert!(error.contains("checkpoint.min_free_mb") && error.contains("MB are free"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}
