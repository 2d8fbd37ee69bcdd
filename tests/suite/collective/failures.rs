//! A peer that dies, freezes, dawdles, leaves or never comes becomes an error that names it, in time.

use std::time::Duration;

use collective::{connect, threads, threads_with_timeout, Backend, ReduceOp, Rendezvous};
use tch::{Device, Kind, Tensor};

use super::processes::{free_port, Processes};

/// The line that a surviving rank printed, and the seconds in it.
fn error_of(processes: &mut Processes, rank: usize) -> (f64, String) {
    let ended = processes.end_of(rank);
    assert!(ended.success, "rank {rank}: {}", ended.said);
    error_in(&ended.said)
}

/// The first `error after SECONDS: MESSAGE` of a text.
pub fn error_in(said: &str) -> (f64, String) {
    let line = said.split("error after ").nth(1).unwrap_or_else(|| panic!("no error was reported: {said}"));
    let (secs, message) = line.split_once(": ").expect("a time and a message");
    (secs.parse().expect("seconds"), message.lines().next().unwrap_or_default().to_string())
}

#[track_caller]
pub fn has(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn a_killed_peer_is_named_at_once() {
    let mut processes = Processes::start("last-dies", 2, 60);
    let (secs, message) = error_of(&mut processes, 0);
    has(&message, &["rank 0: all_reduce(sum) of 4.2 MB Float", "rank 1 has stopped answering", "operation 2"]);
    assert!(secs < 10.0, "{secs} s: {message}");
}

#[test]
fn a_killed_peer_of_three_is_named_by_both_survivors() {
    let mut processes = Processes::start("last-dies", 3, 60);
    for rank in [0, 1] {
        let (secs, message) = error_of(&mut processes, rank);
        has(&message, &["all_reduce(sum)", "rank 2 has stopped answering"]);
        assert!(secs < 10.0, "{secs} s: {message}");
    }
}

#[test]
fn a_killed_host_of_the_store_is_named() {
    let mut processes = Processes::start("first-dies", 2, 60);
    let (secs, message) = error_of(&mut processes, 1);
    has(&message, &["rank 1: all_reduce(sum)", "rank 0, which hosts the rendezvous", "does not answer"]);
    assert!(secs < 10.0, "{secs} s: {message}");
}

#[test]
fn a_frozen_peer_is_named_at_the_timeout() {
    let mut processes = Processes::start("last-freezes", 2, 3);
    let (secs, message) = error_of(&mut processes, 0);
    has(&message, &["rank 0: all_reduce(sum)", "rank 1 has stopped answering, dead or frozen"]);
    assert!((2.5..12.0).contains(&secs), "{secs} s: {message}");
}

#[test]
fn a_frozen_host_of_the_store_is_named_at_the_timeout() {
    let mut processes = Processes::start("first-freezes", 2, 3);
    let (secs, message) = error_of(&mut processes, 1);
    has(&message, &["rank 1: all_reduce(sum)", "rank 0, which hosts the rendezvous"]);
    assert!((2.5..12.0).contains(&secs), "{secs} s: {message}");
}

#[test]
fn a_peer_that_is_alive_but_elsewhere_is_told_from_a_dead_one() {
    let mut processes = Processes::start("last-dawdles", 2, 3);
    let (_, message) = error_of(&mut processes, 0);
    has(&message, &["rank 1 is alive but did not come", "last seen in operation 1, all_reduce(sum)"]);
}

#[test]
fn a_peer_that_left_is_told_from_a_dead_one() {
    let mut processes = Processes::start("last-leaves", 2, 20);
    let (secs, message) = error_of(&mut processes, 0);
    has(&message, &["rank 1 has left"]);
    assert!(secs < 10.0, "{secs} s: {message}");
}

#[test]
fn a_peer_that_never_joins_is_named() {
    let mut processes = Processes::start_some("contract", [0, 1], 3, 3);
    for rank in [0, 1] {
        let (secs, message) = error_of(&mut processes, rank);
        has(&message, &["2 of 3 ranks joined", "missing: rank 2"]);
        assert!((2.5..10.0).contains(&secs), "{secs} s: {message}");
    }
}

#[test]
fn a_host_that_never_comes_is_named() {
    let mut processes = Processes::start_some("contract", [1], 2, 3);
    let (secs, message) = error_of(&mut processes, 1);
    has(&message, &["rank 1: no rendezvous at 127.0.0.1:", "rank 0, which hosts"]);
    assert!((2.0..10.0).contains(&secs), "{secs} s: {message}");
}

#[test]
fn a_timeout_that_nobody_would_watch_is_refused() {
    for secs in [0, 101] {
        let place = Rendezvous::local(0, 1, free_port());
        let error = connect(&place, Backend::Gloo, Duration::from_secs(secs)).err().expect("out of range");
        has(&error.to_string(), &["timeout"]);
    }
}

#[test]
fn a_rank_that_loads_for_longer_than_a_collective_may_take_is_waited_for() {
    let mut processes = Processes::start("last-loads", 3, 2);
    for rank in 0..3 {
        let ended = processes.end_of(rank);
        assert!(ended.success && !ended.said.contains("error after"), "rank {rank}: {}", ended.said);
    }
}

#[test]
fn a_rank_that_dies_while_it_loads_is_named_within_the_timeout() {
    let mut processes = Processes::start("last-dies-loading", 3, 5);
    for rank in [0, 1] {
        let (secs, message) = error_of(&mut processes, rank);
        has(&message, &["a meeting (operation 1)", "rank 2 has stopped answering"]);
        assert!(secs < 12.0, "{secs} s: {message}");
    }
}

#[test]
fn a_rank_that_loads_for_longer_than_is_allowed_is_named() {
    let mut processes = Processes::start("last-loads-too-long", 2, 3);
    let (secs, message) = error_of(&mut processes, 0);
    has(&message, &["rank 1 is alive but did not come", "2 s after the others: rank 1"]);
    assert!((2.0..12.0).contains(&secs), "{secs} s: {message}");
}

#[test]
fn threads_name_who_is_missing() {
    let one = || Tensor::ones([2], (Kind::Float, Device::Cpu));
    let mut late = threads_with_timeout(2, Duration::from_millis(200));
    let error = late[0].all_reduce(&one(), ReduceOp::Sum).expect_err("rank 1 does not come");
    has(&error.to_string(), &["rank 0: all_reduce(sum)", "rank 1 did not come", "timed out"]);
    late.clear();

    let mut left = threads(2);
    drop(left.pop());
    let error = left[0].barrier().expect_err("rank 1 has gone");
    has(&error.to_string(), &["rank 0: barrier", "rank 1 has left"]);
}

#[test]
fn threads_notice_that_they_call_different_operations() {
    let mut groups = threads(2);
    let other = groups.pop().expect("two ranks");
    let peer = std::thread::spawn(move || other.barrier().expect_err("a mismatch").to_string());
    let tensor = Tensor::ones([2], (Kind::Float, Device::Cpu));
    let error = groups[0].all_reduce(&tensor, ReduceOp::Sum).expect_err("a mismatch").to_string();
    for message in [error, peer.join().expect("no panic")] {
        has(&message, &["rank 0: all_reduce(sum) of 8 B Float, rank 1: barrier"]);
    }
}
