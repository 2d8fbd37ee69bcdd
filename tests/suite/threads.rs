//! OpenMP's variables as libgomp itself reports them (OMP_DISPLAY_ENV, libgomp's manual, sec. 4.13).

use std::process::Command;

use crate::fixtures::program;

const PROGRAMS: [&str; 4] = ["dataloader", "trainer", "evaluator", "editor"];
const WAITING: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];

/// What a program's libgomp says of GOMP_SPINCOUNT where the user has set `variables`, and the program's own output.
fn spin_count(name: &str, variables: &[(&str, &str)]) -> (String, String) {
    let mut command = Command::new(program(name));
    WAITING.iter().for_each(|variable| {
        command.env_remove(variable);
    });
    let ran = command.arg("--version").env("OMP_DISPLAY_ENV", "VERBOSE").envs(variables.iter().copied()).output();
    let ran = ran.expect("the program starts");
    assert!(ran.status.success(), "{name}");
    let said = String::from_utf8_lossy(&ran.stderr);
    let counts: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("GOMP_SPINCOUNT = ")).collect();
    assert_eq!(counts.len(), 1, "{name}: libgomp is initialised once: {said}");
    (counts[0].trim_matches('\'').to_string(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

#[test]
fn every_program_spins_briefly_where_the_user_says_nothing() {
    for name in PROGRAMS {
        let (count, version) = spin_count(name, &[]);
        assert_eq!(count, "1000", "{name}");
        assert!(version.starts_with(name), "{name} got its arguments: {version}");
    }
}

#[test]
fn what_the_user_says_of_waiting_holds() {
    for name in PROGRAMS {
        assert_eq!(spin_count(name, &[("GOMP_SPINCOUNT", "77")]).0, "77", "{name}");
        assert_eq!(spin_count(name, &[("OMP_WAIT_POLICY", "PASSIVE")]).0, "0", "{name}");
    }
}

#[test]
fn a_program_that_the_loader_was_asked_to_run_runs() {
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let mut command = Command::new(loader);
    WAITING.iter().for_each(|variable| {
        command.env_remove(variable);
    });
    let ran = command.arg(program("editor")).arg("--version").output().expect("the loader is there");
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("editor"), "{}", String::from_utf8_lossy(&ran.stderr));
}
