//! Drills: ranks are killed and frozen at any moment, the disk fills up. What is resumed is never damaged, at most
//! `checkpointing_steps` are lost, and the end is that of a run that nobody disturbed.
//!
//! `make chaos` runs them long: CHAOS_KILLS=200.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::*;

const EVERY: usize = 2;
const STEPS: usize = 24;

fn kills() -> usize {
    std::env::var("CHAOS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Any moment of a run's first seconds, and which of its processes is killed: reproducible, spread over all.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn two_ranks() -> Vec<String> {
    let sets = [
        format!("train.max_train_steps={STEPS}"),
        format!("checkpoint.checkpointing_steps={EVERY}"),
        "checkpoint.checkpoints_total_limit=2".into(),
        "validation.validation_steps=0".into(),
        "train.timeout_secs=20".into(),
    ];
    let mut arguments = vec!["--nproc-per-node".to_string(), "2".into()];
    sets.into_iter().for_each(|set| arguments.extend(["--set".to_string(), set]));
    arguments
}

fn as_str(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The step that a run said it resumed from; 0 where it began anew.
fn resumed_from(text: &str) -> Option<usize> {
    if text.contains("starting at step 0") {
        return Some(0);
    }
    let after = text.split("resuming from ").nth(1)?;
    after.split("checkpoint-").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The processes of a launcher: itself first, then its ranks.
fn family(launcher: u32) -> Vec<u32> {
    [vec![launcher], children(launcher)].concat()
}

/// Starts the run, kills one of its processes after a while, and returns what was written; none if it ended before.
/// (A resumed run drops the lines of steps that it makes again, so that a wait for more of them is a long one.)
fn disturbed(scene: &Scene, draws: &mut Draws) -> Option<String> {
    let log = scene.folder.path().join("log");
    let file = fs::File::create(&log).expect("a log");
    let arguments = two_ranks();
    let mut command = scene.command(&as_str(&arguments));
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("started");
    // Half of the kills come after some steps, wherever in one; the others at any time, while the models load as well.
    let (steps, moment) = match draws.below(2) {
        0 => (0, Instant::now() + Duration::from_millis(200 + draws.below(6_000))),
        _ => {
            (steps_done(scene) + 1 + draws.below(6) as usize, Instant::now() + Duration::from_millis(draws.below(500)))
        }
    };
    while Instant::now() < moment || steps_done(scene) < steps {
        if let Some(status) = child.try_wait().expect("waited") {
            assert!(status.success(), "{}", fs::read_to_string(log).unwrap_or_default());
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let all = family(child.id());
    let victim = all[draws.below(all.len() as u64) as usize];
    send("-KILL", victim);
    child.wait().expect("gone");
    // A launcher that was killed itself leaves ranks that have to end by themselves.
    wait_for("the ranks to end", || all[1..].iter().all(|rank| !Path::new(&format!("/proc/{rank}/exe")).exists()));
    Some(fs::read_to_string(log).expect("a log"))
}

#[test]
fn kills_at_any_moment_lose_at_most_the_steps_since_a_checkpoint() {
    let undisturbed = Scene::new();
    undisturbed.run(0, &as_str(&two_ranks()));
    let expected = tensors_of(&undisturbed.checkpoint(STEPS as u64));
    let (mut killed, mut draws, mut most_lost) = (0, Draws(7), 0);
    while killed < kills() {
        let scene = Scene::new();
        let mut reached = 0;
        loop {
            let log = disturbed(&scene, &mut draws);
            if let Some(from) = log.as_deref().and_then(resumed_from) {
                // While a checkpoint is written the training goes on: the step after it may be lost as well.
                assert!(from + EVERY + 1 >= reached, "{from} after {reached} steps");
                most_lost = most_lost.max(reached.saturating_sub(from));
                assert!(!log.as_deref().unwrap_or_default().contains("damaged"), "a half-written checkpoint was read");
            }
            if log.is_none() {
                break;
            }
            killed += 1;
            reached = reached.max(steps_done(&scene));
            if killed >= kills() {
                scene.run(0, &as_str(&two_ranks()));
                break;
            }
        }
        assert!(tensors_of(&scene.checkpoint(STEPS as u64)) == expected, "after {killed} kills: another course");
    }
    println!("{killed} kills; at most {most_lost} steps lost, checkpoints every {EVERY}");
}

#[test]
fn a_frozen_rank_ends_the_run_in_time_and_by_name() {
    let scene = Scene::new();
    let sets = ["--nproc-per-node", "2", "--set", "train.timeout_secs=5", "--set", "train.max_train_steps=1000"];
    let launcher = scene.command(&sets).spawn().expect("started");
    wait_for("the first step", || steps_done(&scene) >= 1);
    let ranks = children(launcher.id());
    send("-STOP", ranks[1]);
    let begun = Instant::now();
    let output = launcher.wait_with_output().expect("gone");
    let (took, text) = (begun.elapsed(), errors(&output));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("rank 1"), "{text}");
    assert!(took < Duration::from_secs(40), "{took:?}: {text}");
    assert!(!Path::new(&format!("/proc/{}/exe", ranks[1])).exists(), "the frozen rank is left over");
}

/// A run whose disk has no room for what it will write is refused before its first step, and resumes once there is room.
#[test]
fn a_full_disk_never_harms_the_last_good_checkpoint() {
    let scene = Scene::new();
    scene.run(0, &["--set", "train.max_train_steps=3"]);
    let good = tensors_of(&scene.checkpoint(3));
    let text = scene.run(2, &["--set", "checkpoint.min_free_mb=1000000000"]);
    assert!(text.contains("MB are free") && text.contains("output_dir"), "{text}");
    assert!(tensors_of(&scene.checkpoint(3)) == good && !scene.checkpoint(6).exists());
    let text = scene.run(0, &[]);
    assert!(text.contains("checkpoint-3"), "{text}");
    assert_same_course(&scene);
}

/// A disk that fills up while the run is under way, a small tmpfs in a mount namespace of its own: the run goes on, says so,
/// fails at its end, and resumes from the first checkpoint once there is room.
#[test]
#[ignore = "mounts a tmpfs, which takes user namespaces: make chaos runs it"]
fn a_tmpfs_that_is_full_never_harms_the_last_good_checkpoint() {
    let scene = Scene::new();
    fs::create_dir_all(scene.run_dir()).expect("made");
    let script = r#"
        mount -t tmpfs -o size=64m tmpfs "$1" || exit 99
        shift
        "$@" --set train.max_train_steps=6 &
        until [ -e "$RUN/checkpoint-3/manifest.json" ]; do kill -0 $! || exit 98; sleep 0.01; done
        dd if=/dev/zero of="$RUN/filler" bs=64k 2>/dev/null
        wait $!; echo "ended with $?"
        rm "$RUN/filler"
        "$@" --set train.max_train_steps=6 || exit 97
        cp -r "$RUN/checkpoint-6" "$OUT"
    "#;
    let out = scene.folder.path().join("out");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(scene.run_dir()).arg(program("trainer"));
    command.arg("--config").arg(scene.folder.path().join("recipe.yaml")).args([
        "--offline",
        "--set",
        "checkpoint.min_free_mb=0",
    ]);
    let output = command.env("RUN", scene.run_dir()).env("OUT", &out).output().expect("unshare runs");
    let text = errors(&output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("ended with 1") && text.contains("cannot write"), "{text}");
    assert!(tensors_of(&out) == tensors_of(&unbroken().checkpoint(6)), "another course");
}
