//! `dataloader shard` as several processes and through kills: the data set is always the one that a single unbroken run
//! makes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dataloader::{Dataset, Filter, Manifest, Row};

use crate::fixtures::{pocket, program, root};

/// Kills of the drill; `CHAOS_KILLS=100 cargo test … kills` makes it long.
fn kills() -> usize {
    std::env::var("CHAOS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// A folder of photos that a run takes a second or two for.
fn photos(folder: &Path, count: usize) -> String {
    for n in 0..count {
        let photo = image::RgbImage::from_fn(40, 40, |x, y| {
            image::Rgb([(x as usize * n) as u8, (y as usize * 5 + n) as u8, (n * 7 % 256) as u8])
        });
        let place = folder.join("photos").join(["awe", "fear"][n % 2]);
        fs::create_dir_all(&place).expect("made");
        photo.save(place.join(format!("{n:03}.png"))).expect("written");
    }
    let recipe = folder.join("recipe.yaml");
    let text = format!(
        "source: {{kind: folder, path: {}, splits: {{test_fraction: 0.2}}}}\nresolution: 32\nvae: {}\noutput: none\nbatch_size: 4\n\
         rows_per_shard: 8\nrank_timeout_s: 60\n",
        folder.join("photos").display(),
        pocket("vae").display()
    );
    fs::write(&recipe, text).expect("written");
    recipe.to_string_lossy().into_owned()
}

fn shard(recipe: &str, output: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program("dataloader"));
    command.args(["shard", "--config", recipe, "--set", &format!("output={}", output.display())]).args(more);
    command.current_dir(root()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("OMP_NUM_THREADS", "1");
    command
}

fn open(folder: &Path) -> Dataset {
    Dataset::open(&folder.to_string_lossy()).expect("a data set")
}

/// All rows, and the manifest.
fn whole(folder: &Path) -> (Vec<Row>, Manifest) {
    let dataset = open(folder);
    dataset.verify().expect("sound");
    let mut rows = Vec::new();
    for (index, _) in dataset.manifest().shards.iter().enumerate() {
        rows.extend(dataset.shard_rows(index).expect("readable"));
    }
    assert_eq!(rows.len(), dataset.rows(&Filter::default()).expect("rows").len());
    (rows, dataset.manifest().clone())
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn three_processes_make_the_data_set_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = photos(folder.path(), 60);
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    succeeds(&mut shard(&recipe, &one, &[]));
    let summary = succeeds(&mut shard(&recipe, &three, &["--nproc-per-node", "3"]));
    assert!(summary.contains("60 encoded, 0 reused"), "{summary}");
    assert_eq!(whole(&three), whole(&one));
    let again = succeeds(&mut shard(&recipe, &three, &["--nproc-per-node", "3"]));
    assert!(again.contains("0 encoded, 60 reused"), "{again}");
    assert_eq!(whole(&three), whole(&one));
}

#[test]
fn an_indexed_job_makes_the_data_set_of_one_and_a_missing_pod_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = photos(folder.path(), 30);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    succeeds(&mut shard(&recipe, &one, &[]));
    let pod = |index: &str, more: &[&str]| {
        let mut command = shard(&recipe, &two, more);
        command.env("JOB_COMPLETION_INDEX", index).env("WORLD_SIZE", "2");
        command
    };
    let alone = pod("0", &["--set", "rank_timeout_s=1"]).output().expect("it runs");
    let message = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert_eq!(alone.status.code(), Some(1), "{message}");
    assert!(message.contains("ranks [1]") && message.contains("rank_timeout_s"), "{message}");
    let mut first = pod("0", &[]).spawn().expect("it runs");
    succeeds(&mut pod("1", &[]));
    assert!(first.wait().expect("it ends").success());
    assert_eq!(whole(&two), whole(&one));
}

#[test]
fn kills_at_any_moment_never_list_half_a_shard_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = photos(folder.path(), 60);
    let (unbroken, broken) = (folder.path().join("unbroken"), folder.path().join("broken"));
    let mut run = shard(&recipe, &unbroken, &[]); // builds the program if need be, which is not to be timed
    let started = Instant::now();
    succeeds(&mut run);
    let length = started.elapsed();
    let (mut finished, mut state) = (0, 0x9e37_79b9_u64);
    for _ in 0..kills() {
        // A xorshift generator is random enough for the moment of a kill.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut run = shard(&recipe, &broken, &[]).spawn().expect("it runs");
        std::thread::sleep(length.mul_f64((state % 1000) as f64 / 900.0));
        run.kill().expect("killed"); // SIGKILL
        run.wait().expect("it ends");
        if broken.join("manifest.json").exists() {
            finished += 1;
            whole(&broken);
            fs::remove_dir_all(&broken).expect("removed");
        }
    }
    eprintln!("{} kills, of which {finished} came after the end; an unbroken run took {length:.1?}", kills());
    let summary = succeeds(&mut shard(&recipe, &broken, &[]));
    assert!(summary.contains("60 rows"), "{summary}");
    assert_eq!(whole(&broken), whole(&unbroken));
    assert!(!broken.join(".staging").exists());
}

#[test]
fn a_run_that_was_killed_is_not_begun_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = photos(folder.path(), 200);
    let output = folder.path().join("out");
    let mut run = shard(&recipe, &output, &["--set", "batch_size=1"]).spawn().expect("it runs");
    let receipts = || {
        let entries = fs::read_dir(output.join(".staging")).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().ends_with(".receipt.json")).count()
    };
    let patience = Instant::now();
    while receipts() < 3 && patience.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().expect("killed");
    run.wait().expect("it ends");
    let left = receipts();
    assert!(left >= 3 && !output.join("manifest.json").exists(), "{left} shards were finished before the kill");
    let summary = succeeds(&mut shard(&recipe, &output, &["--set", "batch_size=1"]));
    let reused: usize = summary
        .split_once(" encoded, ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .expect("the summary counts what was reused");
    assert!(reused >= left * 7, "{summary}");
}
