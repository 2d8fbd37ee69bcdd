//! Inversions at Stable Diffusion 1.5's shape, of random numbers: prints one JSON row each for bytes a source, files,
//! and the time that a batch of 16 takes to read.
//!
//! cargo bench --workspace --bench inversions -- FOLDER SOURCES WRITERS
//!
//! tests/benches/precompute.py runs this and reads the files with pyarrow.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use dataloader::format::manifest::Latent;
use dataloader::inversions::columns::{inversions_batch, Inverted};
use dataloader::inversions::pool::{Key, Layout, Pool};
use dataloader::inversions::recording::Recording;
use half::f16;

const LATENT: Latent = Latent { channels: 4, height: 64, width: 64, scaling_factor: 0.18215 };
const NUM_TIMESTEPS: usize = 40;
/// The lowest timestep index that is edited, about: t_edit 500 of 1000.
const FIRST_EDITED: usize = 20;
const BLOCK: usize = 16;
const BATCH: usize = 16;
const BATCHES: u64 = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [folder, sources, writers] => {
            let number = |text: &str| text.parse().expect("a number");
            measure(Path::new(folder), number(sources), number(writers));
        }
        _ => println!("FOLDER SOURCES WRITERS"),
    }
}

fn measure(folder: &Path, sources: usize, writers: usize) {
    let started = Instant::now();
    // As many processes of a training, each with blocks of its own.
    std::thread::scope(|scope| {
        for writer in 0..writers {
            scope.spawn(move || write(folder, sources, writer, writers));
        }
    });
    report("ms to write a source", started.elapsed().as_secs_f64() * 1e3 / sources as f64);
    let pool = open(folder);
    let started = Instant::now();
    let groups = pool.mergeable().expect("readable");
    groups.iter().for_each(|group| pool.merge(group).expect("merged"));
    report("s to merge what is left over", started.elapsed().as_secs_f64());
    let sizes: Vec<u64> = std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "parquet"))
        .map(|entry| entry.metadata().expect("a file").len())
        .collect();
    report("files", sizes.len() as f64);
    report("sources a file", sources as f64 / sizes.len() as f64);
    report("bytes a source", sizes.iter().sum::<u64>() as f64 / sources as f64);
    let started = Instant::now();
    let pool = open(folder);
    report("ms to open", started.elapsed().as_secs_f64() * 1e3);
    let mut times: Vec<f64> = (0..BATCHES).map(|n| read(&pool, sources, n)).collect();
    times.sort_by(f64::total_cmp);
    report("ms to read a batch of 16, the median", times[times.len() / 2]);
    report("ms to read a batch of 16, the slowest", times[times.len() - 1]);
}

fn open(folder: &Path) -> Pool {
    Pool::open(folder, Layout::inversions(&LATENT, NUM_TIMESTEPS)).expect("opened")
}

fn write(folder: &Path, sources: usize, writer: usize, writers: usize) {
    let pool = open(folder);
    for first in (0..sources).step_by(BLOCK).skip(writer).step_by(writers) {
        let rows: Vec<Inverted> = (first..(first + BLOCK).min(sources)).map(inverted).collect();
        pool.publish(&inversions_batch(pool.schema(), &rows).expect("a batch")).expect("published");
    }
}

fn inverted(n: usize) -> Inverted {
    let mut state = n as u32 + 1;
    let mut noise = |count: usize| -> Vec<f16> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // A sign, an exponent of 2⁻³ to 2⁰, ten random bits: cheap, and no compression would help.
                f16::from_bits((state >> 16) as u16 & 0x87ff | 0x3000)
            })
            .collect()
    };
    Inverted {
        image_id: format!("{n:064}"),
        split: "train".into(),
        latent: noise(LATENT.len()),
        outputs: noise(LATENT.len() * NUM_TIMESTEPS),
    }
}

/// Milliseconds for a batch of any sources at any edited timesteps.
fn read(pool: &Pool, sources: usize, batch: u64) -> f64 {
    let recording = Recording { latent: LATENT, steps: vec![[0.99, 0.01]; NUM_TIMESTEPS - 1] };
    let draw = |k: u64| (batch * 1_000 + k).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let keys: Vec<Key> = (0..BATCH as u64)
        .map(|k| Key { image_id: format!("{:064}", draw(k) % sources as u64), timestep: None })
        .collect();
    let span = (NUM_TIMESTEPS - FIRST_EDITED) as u64;
    let timestep_indices: Vec<usize> =
        (0..BATCH as u64).map(|k| FIRST_EDITED + (draw(k + 500) % span) as usize).collect();
    let started = Instant::now();
    let one = |i: usize, last| pool.read(&keys[i], |file, row| recording.read(file, row, last));
    black_box(recording.at_timesteps(&timestep_indices, one).expect("readable"));
    started.elapsed().as_secs_f64() * 1e3
}

fn report(name: &str, value: f64) {
    println!("{}", serde_json::json!({"name": name, "value": (value * 1e3).round() / 1e3}));
}
