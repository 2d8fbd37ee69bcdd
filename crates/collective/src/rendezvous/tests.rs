//! Tables: environment → rendezvous, environment → the variable that is wrong.

use super::*;

type Table<'a> = &'a [(&'a str, &'a str)];

fn read(table: Table<'_>) -> Result<Option<Rendezvous>> {
    Rendezvous::from_env(&|name| table.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
}

/// rank, world, local rank, local world, address
fn place(table: Table<'_>) -> (usize, usize, usize, usize, String) {
    let r = read(table).expect("consistent").expect("a launcher");
    (r.rank, r.world_size, r.local_rank, r.local_world_size, r.address())
}

const TORCHRUN: [(&str, &str); 6] = [
    ("RANK", "5"),
    ("WORLD_SIZE", "8"),
    ("LOCAL_RANK", "1"),
    ("LOCAL_WORLD_SIZE", "4"),
    ("MASTER_ADDR", "head"),
    ("MASTER_PORT", "29400"),
];
const PET: [(&str, &str); 5] = [
    ("PET_NNODES", "3"),
    ("PET_NPROC_PER_NODE", "1"),
    ("PET_NODE_RANK", "2"),
    ("PET_MASTER_ADDR", "job-node-0-0.job"),
    ("PET_MASTER_PORT", "29500"),
];
const SLURM: [(&str, &str); 6] = [
    ("SLURM_PROCID", "3"),
    ("SLURM_NTASKS", "7"),
    ("SLURM_LOCALID", "1"),
    ("SLURM_NODEID", "1"),
    ("SLURM_JOB_NODELIST", "node[01-03,7]"),
    ("SLURM_JOB_ID", "123456"),
];

/// The table with one variable changed, or removed where the value is empty.
fn with<'a>(table: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut changed: Vec<_> = table.iter().copied().filter(|(key, _)| *key != name).collect();
    if !value.is_empty() {
        changed.push((name, value));
    }
    changed
}

#[test]
fn nobody_launched_it() {
    assert_eq!(read(&[]).expect("nothing is consistent"), None);
    assert_eq!(read(&[("MASTER_ADDR", "head"), ("MASTER_PORT", "1")]).expect("an address is no launcher"), None);
}

#[test]
fn torchrun_is_understood() {
    assert_eq!(place(&TORCHRUN), (5, 8, 1, 4, "head:29400".into()));
    let pytorch_job = with(&with(&TORCHRUN, "LOCAL_RANK", ""), "LOCAL_WORLD_SIZE", "");
    assert_eq!(place(&pytorch_job), (5, 8, 0, 1, "head:29400".into()));
    let mut agent = TORCHRUN.to_vec();
    assert_eq!(read(&agent).expect("consistent").expect("torchrun").store, StoreHost::Rank0);
    agent.extend([("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")]);
    let found = read(&agent).expect("consistent").expect("torchrun");
    assert_eq!((found.store, found.attempt), (StoreHost::Launcher, 2));
}

#[test]
fn torchrun_comes_before_kubeflow_before_slurm() {
    let all: Vec<_> = SLURM.into_iter().chain(PET).chain(TORCHRUN).collect();
    assert_eq!(place(&all).0, 5);
    let two: Vec<_> = SLURM.into_iter().chain(PET).collect();
    assert_eq!(place(&two).0, 2);
}

#[test]
fn kubeflow_is_understood() {
    assert_eq!(place(&PET), (2, 3, 0, 1, "job-node-0-0.job:29500".into()));
    assert_eq!(place(&[("PET_NNODES", "1")]), (0, 1, 0, 1, "127.0.0.1:29500".into()));
    assert_eq!(place(&with(&PET, "PET_NNODES", "3:3")).1, 3);
}

#[test]
fn a_kubeflow_node_tells_its_launcher() {
    let node = |table: Vec<(&str, &str)>| {
        Node::from_env(&|name| table.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    };
    let eight = node(with(&PET, "PET_NPROC_PER_NODE", "8")).expect("consistent").expect("a node");
    assert_eq!((eight.nnodes, eight.node_rank, eight.nproc_per_node), (3, 2, Processes::Exactly(8)));
    let gpu = node(with(&PET, "PET_NPROC_PER_NODE", "gpu")).expect("consistent").expect("a node");
    assert_eq!((gpu.nproc_per_node, gpu.port), (Processes::OnePerGpu, Some(29500)));
    assert_eq!(node(PET.into_iter().chain(TORCHRUN).collect()).expect("started already"), None);
    assert_eq!(node(vec![]).expect("no launcher"), None);
}

#[test]
fn slurm_is_understood() {
    let port = 20000 + 123456 % 12000;
    // seven tasks on four nodes: at most two on one
    assert_eq!(place(&SLURM), (3, 7, 1, 2, format!("node01:{port}")));
    let uneven = with(&SLURM, "SLURM_TASKS_PER_NODE", "1,3(x2)");
    assert_eq!(place(&uneven).3, 3);
    assert_eq!(place(&with(&SLURM, "SLURM_NTASKS_PER_NODE", "4")).3, 4);
    let own = [("MASTER_ADDR", "head"), ("MASTER_PORT", "5000")];
    let addressed: Vec<_> = SLURM.into_iter().chain(own).filter(|(key, _)| *key != "SLURM_JOB_NODELIST").collect();
    assert_eq!(place(&with(&addressed, "SLURM_NTASKS_PER_NODE", "2")).4, "head:5000");
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(Table<'_>, &str, &str, &str); 24] = [
        (&TORCHRUN, "RANK", "", "RANK is missing"),
        (&TORCHRUN, "WORLD_SIZE", "", "WORLD_SIZE is missing"),
        (&TORCHRUN, "MASTER_ADDR", "", "MASTER_ADDR is missing"),
        (&TORCHRUN, "MASTER_PORT", "", "MASTER_PORT is missing"),
        (&TORCHRUN, "LOCAL_RANK", "", "LOCAL_RANK is missing"),
        (&TORCHRUN, "LOCAL_WORLD_SIZE", "", "LOCAL_WORLD_SIZE is missing"),
        (&TORCHRUN, "RANK", "eight", "RANK is \"eight\""),
        (&TORCHRUN, "RANK", "8", "RANK is 8, but WORLD_SIZE is 8"),
        (&TORCHRUN, "WORLD_SIZE", "0", "WORLD_SIZE is 0"),
        (&TORCHRUN, "LOCAL_RANK", "4", "LOCAL_RANK is 4"),
        (&TORCHRUN, "LOCAL_WORLD_SIZE", "9", "LOCAL_WORLD_SIZE is 9"),
        (&TORCHRUN, "MASTER_PORT", "70000", "MASTER_PORT is \"70000\""),
        (&TORCHRUN, "MASTER_PORT", "0", "MASTER_PORT is 0"),
        (&PET, "PET_NODE_RANK", "", "PET_NODE_RANK is missing"),
        (&PET, "PET_NODE_RANK", "3", "PET_NODE_RANK is 3"),
        (&PET, "PET_MASTER_ADDR", "", "PET_MASTER_ADDR is missing"),
        (&PET, "PET_NNODES", "1:4", "PET_NNODES is \"1:4\""),
        (&PET, "PET_NPROC_PER_NODE", "8", "PET_NPROC_PER_NODE is \"8\""),
        (&PET, "PET_NPROC_PER_NODE", "many", "PET_NPROC_PER_NODE is \"many\""),
        (&SLURM, "SLURM_NTASKS", "", "SLURM_NTASKS is missing"),
        (&SLURM, "SLURM_LOCALID", "2", "SLURM_LOCALID is 2"),
        (&SLURM, "SLURM_JOB_NODELIST", "", "SLURM_JOB_NODELIST is missing"),
        (&SLURM, "SLURM_JOB_NODELIST", "node[1", "SLURM_JOB_NODELIST is \"node[1\""),
        (&SLURM, "SLURM_JOB_ID", "", "SLURM_JOB_ID is missing"),
    ];
    for (table, name, value, words) in cases {
        let table = match name {
            // without a node list, all tasks would be on one node
            "SLURM_JOB_NODELIST" => with(table, "SLURM_NTASKS_PER_NODE", "2"),
            _ => table.to_vec(),
        };
        let error = read(&with(&table, name, value)).expect_err(words).to_string();
        assert!(error.starts_with(words), "{error:?} should start with {words:?}");
    }
}
