//! Our launcher: variables, signals, and the end of all when one fails.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::failures::{error_in, has};
use super::processes::{role, wait};

/// What a supervisor of two ranks in this role says, and how long it took.
fn supervised(name: &str, timeout_secs: u64) -> (String, f64) {
    let began = Instant::now();
    let mut child =
        role(name, timeout_secs).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the test binary starts");
    let ended = wait(&mut child, began);
    assert!(ended.success, "{}", ended.said);
    (ended.said, began.elapsed().as_secs_f64())
}

#[test]
fn it_sets_the_variables() {
    let script = "echo rank=$RANK/$WORLD_SIZE local=$LOCAL_RANK/$LOCAL_WORLD_SIZE at=$MASTER_ADDR omp=$OMP_NUM_THREADS";
    let (said, _) = supervised(&format!("supervise-shell:{script}"), 5);
    has(&said, &["rank=0/2 local=0/2 at=127.0.0.1 omp=1", "rank=1/2 local=1/2", "exit 0 None"]);
}

#[test]
fn its_ranks_keep_the_contract() {
    let (said, _) = supervised("supervise:contract", 20);
    has(&said, &["exit 0 None"]);
}

#[test]
fn a_rank_that_fails_ends_the_others() {
    let (said, secs) = supervised("supervise:last-exits-with-3", 30);
    has(&said, &["exit 3", "rank 1 (process", "ended with exit code 3"]);
    assert!(secs < 20.0, "{secs} s");
}

#[test]
fn a_rank_that_is_killed_is_named_by_launcher_and_survivor() {
    // rank 0 hosts nothing here: its heartbeats can be read after its death
    let (said, secs) = supervised("supervise:first-dies", 60);
    has(&said, &["exit 1", "rank 0 (process", "was killed by signal 9"]);
    has(&error_in(&said).1, &["rank 1: all_reduce(sum)", "rank 0 has stopped answering"]);
    assert!(secs < 20.0, "{secs} s");
}

#[test]
fn a_frozen_rank_is_named_by_the_survivor_whichever_it_is() {
    let (said, secs) = supervised("supervise:first-freezes", 3);
    has(&said, &["exit 4", "rank 1 (process", "ended with exit code 4"]);
    has(&error_in(&said).1, &["rank 1: all_reduce(sum)", "rank 0 has stopped answering, dead or frozen"]);
    assert!(secs < 30.0, "{secs} s");
}

#[test]
fn signals_reach_the_ranks_and_a_stop_is_no_failure() {
    let script = "trap 'sleep 0.5; exit 75' TERM; echo ready; while :; do sleep 0.1; done";
    let began = Instant::now();
    let mut child = role(&format!("supervise-shell:{script}"), 5).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert_eq!(lines.by_ref().filter(|line| line.contains("ready")).take(2).count(), 2);
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().expect("kill(1) runs");
    assert!(lines.any(|line| line.contains("exit 75 None")), "the ranks' own code is passed on");
    assert!(wait(&mut child, began).success);
}

#[test]
fn a_rank_that_ignores_the_end_is_killed() {
    let script = "if [ $RANK = 1 ]; then exit 9; fi; trap '' TERM; while :; do sleep 0.1; done";
    let (said, secs) = supervised(&format!("supervise-shell:{script}"), 5);
    has(&said, &["exit 9", "rank 1"]);
    assert!(secs < 15.0, "{secs} s");
}
