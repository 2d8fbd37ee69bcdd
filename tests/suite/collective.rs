//! Process groups: one contract for every backend, and what becomes of a peer that dies, freezes or never comes.
//!
//! Processes are this test binary again: `worker` plays the role that COLLECTIVE_ROLE names, and does nothing without.

mod contract;
mod failures;
mod launcher;
mod processes;
mod roles;

use std::time::Duration;

use collective::{connect, cuda, single, threads, Backend, Rendezvous};

use processes::Processes;

#[test]
fn worker() {
    if let Some(role) = std::env::var_os("COLLECTIVE_ROLE") {
        roles::play(&role.to_string_lossy());
    }
}

#[test]
fn a_world_of_one_keeps_the_contract() {
    contract::check(&*single());
}

#[test]
fn threads_keep_the_contract() {
    for n in [1, 2, 3] {
        let members: Vec<_> =
            threads(n).into_iter().map(|group| std::thread::spawn(move || contract::check(&*group))).collect();
        for member in members {
            member.join().expect("no thread panicked");
        }
    }
}

#[test]
fn two_gloo_processes_keep_the_contract() {
    Processes::start("contract", 2, 20).all_succeed();
}

#[test]
fn three_gloo_processes_keep_the_contract() {
    Processes::start("contract", 3, 20).all_succeed();
}

#[test]
fn nccl_keeps_the_contract_or_says_what_it_lacks() {
    let place = Rendezvous::local(0, 1, processes::free_port());
    let group = connect(&place, Backend::Nccl, Duration::from_secs(20));
    if cuda::available() {
        contract::check_on(&*group.expect("a GPU is enough for a world of one"), tch::Device::Cuda(0));
        assert!(cuda::memory(0).expect("statistics").peak_allocated > 0);
        return;
    }
    let error = group.err().expect("no GPU, no NCCL").to_string();
    assert!(error.starts_with("NCCL is not available: CUDA is not available"), "{error}");
    assert!(cuda::memory(0).is_err());
}
