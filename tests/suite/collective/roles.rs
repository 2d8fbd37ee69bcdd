//! What a worker process of these tests does.

use std::process::Command;
use std::time::{Duration, Instant};

use collective::launch::spawn_local;
use collective::rendezvous::process_env;
use collective::{connect, Backend, ProcessGroup, ReduceOp, Rendezvous, Result};
use tch::{Device, Kind, Tensor};

use super::contract;

/// Plays a role to its end.
pub fn play(role: &str) {
    if let Some(script) = role.strip_prefix("supervise-shell:") {
        return supervise("/bin/sh", &["-c", script]);
    }
    if let Some(role) = role.strip_prefix("supervise:") {
        if process_env("RANK").is_none() {
            let me = std::env::current_exe().expect("the test binary has a path");
            let arguments = ["collective::worker", "--exact", "--nocapture", "--test-threads=1"];
            return supervise(me.to_str().expect("a plain path"), &arguments);
        }
        member(role);
        // a rank that has lost a peer fails, as a trainer would
        std::process::exit(if role == "contract" { 0 } else { 4 });
    }
    member(role);
}

/// Starts two ranks, and says how they ended.
fn supervise(program: &str, arguments: &[&str]) {
    let exit = spawn_local(2, program.as_ref(), arguments).expect("the ranks start");
    println!("exit {} {:?}", exit.code, exit.failure);
}

fn member(role: &str) {
    let place = Rendezvous::from_env(&process_env).expect("consistent variables").expect("a launcher");
    let last = place.world_size - 1;
    let began = Instant::now();
    let group = match connect(&place, Backend::Gloo, timeout()) {
        Ok(group) => group,
        Err(error) => return println!("error after {:.1}: {error}", began.elapsed().as_secs_f64()),
    };
    match role {
        "contract" => contract::check(&*group),
        "last-dies" => lose(&*group, last, || signal_self("KILL")),
        "first-dies" => lose(&*group, 0, || signal_self("KILL")),
        "last-freezes" => lose(&*group, last, || signal_self("STOP")),
        "first-freezes" => lose(&*group, 0, || signal_self("STOP")),
        "last-dawdles" => lose(&*group, last, || std::thread::sleep(timeout() + Duration::from_secs(4))),
        "last-leaves" => leave(group, last),
        "last-loads" => load(&*group, last, timeout() + Duration::from_secs(3), Duration::from_secs(60)),
        "last-loads-too-long" => load(&*group, last, timeout() * 20, Duration::from_secs(2)),
        "last-dies-loading" => load(&*group, last, Duration::ZERO, Duration::from_secs(60)),
        "last-exits-with-3" => {
            if group.rank() == last {
                std::process::exit(3);
            }
            std::thread::sleep(Duration::from_secs(60));
        }
        unknown => panic!("no role {unknown}"),
    }
}

fn timeout() -> Duration {
    let text = process_env("COLLECTIVE_TIMEOUT").expect("the test says how long");
    Duration::from_secs(text.parse().expect("seconds"))
}

/// One rank is lost after the first operation; the others say what came of the second, and of a third.
fn lose(group: &dyn ProcessGroup, lost: usize, fate: impl Fn()) {
    reduce(group).expect("everybody is alive");
    if group.rank() == lost {
        return fate();
    }
    let began = Instant::now();
    let error = reduce(group).expect_err("a peer is lost");
    println!("error after {:.1}: {error}", began.elapsed().as_secs_f64());
    let again = Instant::now();
    reduce(group).expect_err("the group is broken");
    assert!(again.elapsed() < Duration::from_secs(1), "a broken group must fail at once");
}

/// One rank loads for `long` (not at all: it dies), the others meet it, within `limit` of one another.
fn load(group: &dyn ProcessGroup, last: usize, long: Duration, limit: Duration) {
    if group.rank() == last {
        match long.is_zero() {
            true => signal_self("KILL"),
            false => std::thread::sleep(long),
        }
    }
    let began = Instant::now();
    match group.meet(limit) {
        Ok(()) => reduce(group).expect("everybody is there"),
        Err(error) => println!("error after {:.1}: {error}", began.elapsed().as_secs_f64()),
    }
}

fn leave(group: Box<dyn ProcessGroup>, last: usize) {
    if group.rank() < last {
        return lose(&*group, last, || {});
    }
    reduce(&*group).expect("everybody is alive");
    drop(group);
    std::thread::sleep(Duration::from_secs(4));
}

fn reduce(group: &dyn ProcessGroup) -> Result<()> {
    group.all_reduce(&Tensor::ones([1 << 20], (Kind::Float, Device::Cpu)), ReduceOp::Sum)
}

fn signal_self(signal: &str) {
    let pid = std::process::id().to_string();
    Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill(1) runs");
    std::thread::sleep(Duration::from_secs(60));
}
