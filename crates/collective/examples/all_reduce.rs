//! Times all_reduce over Gloo between processes of this machine:
//!
//! cargo run --release -p collective --example all_reduce -- 2

use std::time::Instant;

use collective::launch::spawn_local;
use collective::rendezvous::process_env;
use collective::{connect, Backend, ProcessGroup, ReduceOp, Rendezvous, DEFAULT_TIMEOUT};
use tch::{Device, Kind, Tensor};

const SIZES: [i64; 4] = [4, 64 << 10, 4 << 20, 64 << 20];

fn main() -> anyhow::Result<()> {
    let Some(place) = Rendezvous::from_env(&process_env)? else {
        let nproc: usize = std::env::args().nth(1).unwrap_or_else(|| "2".into()).parse()?;
        let exit = spawn_local(nproc, &std::env::current_exe()?, &[] as &[&str])?;
        anyhow::ensure!(exit.code == 0, "{exit:?}");
        return Ok(());
    };
    let began = Instant::now();
    let group = connect(&place, Backend::Gloo, DEFAULT_TIMEOUT)?;
    if place.rank == 0 {
        println!("{} processes connected in {:.0} ms", place.world_size, began.elapsed().as_secs_f64() * 1e3);
    }
    SIZES.into_iter().try_for_each(|bytes| time(&*group, bytes))
}

/// The median of some all_reduces.
fn time(group: &dyn ProcessGroup, bytes: i64) -> anyhow::Result<()> {
    let tensor = Tensor::ones([bytes / 4], (Kind::Float, Device::Cpu));
    let runs = if bytes > 8 << 20 { 5 } else { 41 };
    let mut times = Vec::new();
    for _ in 0..runs {
        group.barrier()?;
        let began = Instant::now();
        group.all_reduce(&tensor, ReduceOp::Mean)?;
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    if group.rank() == 0 {
        println!("all_reduce(mean) of {bytes:>9} B: median {:.3} ms of {runs}", times[runs / 2] * 1e3);
    }
    Ok(())
}
