//! Times what feeds a training and prints one JSON row each: `{"name": …, "per_s": …}`, and peak memory at the end.
//!
//! cargo bench --workspace --bench data -- make FOLDER ROWS PHOTO…       a data set of SD 1.5's shape, random latents
//! cargo bench --workspace --bench data -- time FOLDER THREADS PHOTO…    reading it, and photos to training images
//! cargo bench --workspace --bench data -- fetch URL CACHE               reading it from an object store
//!
//! tests/benches/data.py runs this and the peers in one go and prints the ratios.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use collective::rendezvous::process_env;
use dataloader::format::manifest::{Crop, Latent, Manifest, Model, Transform, FORMAT_VERSION};
use dataloader::format::schema::Widths;
use dataloader::making::config::{ImageFormat, PhotoLimits};
use dataloader::making::photo;
use dataloader::making::staging::Staging;
use dataloader::sources::{Content, Item};
use dataloader::{Access, Batch, Dataset, Encoding, Entry, Filter, Row, Slice, Stream};
use emotions::Emotion;
use half::f16;
use rayon::prelude::*;

/// 512 px through an autoencoder of factor 8.
const LATENT: Latent = Latent { channels: 4, height: 64, width: 64, scaling_factor: 0.18215 };
const CLIP_WIDTH: usize = 768;
const ROWS_PER_SHARD: usize = 512;
const BATCH: usize = 16;
/// What a training step does with a batch while the next is fetched.
const STEP: std::time::Duration = std::time::Duration::from_millis(5);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["make", folder, rows, ref photos @ ..] => make(Path::new(folder), rows.parse().expect("a number"), photos),
        ["fetch", url, cache] => fetch(url, Path::new(cache)),
        ["time", folder, threads, ref photos @ ..] => time(folder, threads.parse().expect("a number"), photos),
        _ => println!("make FOLDER ROWS PHOTO… | time FOLDER THREADS PHOTO… | fetch URL CACHE"),
    }
}

fn transform() -> Transform {
    Transform { resolution: 512, crop: Crop::Center, filter: "lanczos3".into(), image_format: "jpeg".into() }
}

fn item(path: &str) -> Item {
    Item {
        path: path.into(),
        content: Content::File(path.into()),
        split: None,
        emotion: None,
        namespace: None,
        label: None,
        subject: None,
        state: None,
        valence: None,
        arousal: None,
        ambiguity: None,
        attributes: serde_json::json!({}),
    }
}

fn decode(path: &str) -> image::RgbImage {
    let (item, limits) = (item(path), PhotoLimits::default());
    let bytes = photo::read(&item, &limits).expect("a file");
    photo::decode(&item, &bytes, &limits).expect("a photo")
}

/// Photos as the column `image` has them, latents of noise.
fn make(folder: &Path, rows: usize, photos: &[&str]) {
    let images: Vec<bytes::Bytes> = photos
        .iter()
        .map(|path| {
            let photo = decode(path);
            let image = photo::training_image(&transform(), &photo).expect("resized");
            photo::compress(&image, ImageFormat::Jpeg).expect("compressed").into()
        })
        .collect();
    let mut state = 1u32;
    let mut noise = move |count: usize| -> Vec<f16> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f16::from_f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
            })
            .collect()
    };
    let staging = Staging::open(folder).expect("a folder");
    let mut shards = Vec::new();
    for (n, first) in (0..rows).step_by(ROWS_PER_SHARD).enumerate() {
        let file = format!("train-{n:05}-of-{:05}.parquet", rows.div_ceil(ROWS_PER_SHARD));
        let widths = Widths { latent: LATENT.len(), clip: Some(CLIP_WIDTH) };
        let mut writer = staging.start_shard(&file, "train", "bench", widths).expect("started");
        for row in first..(first + ROWS_PER_SHARD).min(rows) {
            let latents = [(); 4].map(|()| noise(LATENT.len()));
            let [latent_mean, latent_std, flip_mean, flip_std] = latents;
            writer
                .push(Row {
                    entry: entry(row).into(),
                    image: images[row % images.len()].clone(),
                    encoding: Encoding {
                        latent_mean,
                        latent_std,
                        flip_mean,
                        flip_std,
                        clip_embedding: Some(noise(CLIP_WIDTH)),
                    },
                })
                .expect("pushed");
        }
        shards.push(writer.finish().expect("finished"));
    }
    let model = |dimension| Model { name: "noise".into(), hash: "noise".into(), dimension };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        shards: vec![],
        splits: Default::default(),
        transform: transform(),
        latent: LATENT,
        vae: model(None),
        clip: Some(model(Some(CLIP_WIDTH as u32))),
        quarantined: vec![],
        missing: 0,
        account: Default::default(),
        inversion: None,
        checksum: String::new(),
    };
    staging.commit(shards, manifest).expect("committed");
}

fn entry(row: usize) -> Entry {
    Entry {
        image_id: format!("{row:064}"),
        source: "bench".into(),
        path: format!("{row}.jpg"),
        split: "train".into(),
        emotion: Some(Emotion::ALL[row % 8]),
        emotions: vec![],
        namespace: Some("evoked".into()),
        label: None,
        subject: None,
        state: None,
        valence: None,
        arousal: None,
        ambiguity: None,
        attributes: serde_json::json!({"row": row}),
        width: 640,
        height: 512,
        crop: [64, 0, 512, 512],
    }
}

fn time(folder: &str, threads: usize, photos: &[&str]) {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the first pool");
    let images = || {
        photos.par_iter().for_each(|path| {
            black_box(photo::training_image(&transform(), &decode(path)).expect("resized"));
        });
        photos.len()
    };
    report("photos to 512 px", images);
    let open = || Arc::new(Dataset::open(folder).expect("a data set"));
    report("hash all shards", || {
        let dataset = open();
        dataset.verify().expect("sound");
        dataset.manifest().rows() as usize
    });
    let dataset = open();
    dataset.verify().expect("sound");
    let stream = Arc::new(Stream::new(dataset, &Filter::default(), 0).expect("rows"));
    report("rows in batches", || epoch(&stream));
    let steps = (stream.rows().len() / BATCH) as u64;
    report("batches beside a step of 5 ms, fetched in the step", || {
        for step in 0..steps {
            black_box(stream.fetch(&positions(step)).expect("readable"));
            std::thread::sleep(STEP);
        }
        steps as usize
    });
    report("batches beside a step of 5 ms, prefetched", || {
        for batch in stream.prefetch((0..steps).map(positions), 4) {
            black_box(batch.expect("readable"));
            std::thread::sleep(STEP);
        }
        steps as usize
    });
    println!("{}", serde_json::json!({"name": "peak memory", "megabytes": peak_memory()}));
}

/// An epoch as a machine that has nothing yet sees it: every shard comes from the store.
fn fetch(url: &str, cache: &Path) {
    let mut access = Access::default().with_env(&process_env);
    access.cache.folder = cache.into();
    report("rows from S3", || {
        if cache.exists() {
            std::fs::remove_dir_all(cache).expect("emptied");
        }
        let dataset = Arc::new(Dataset::open_with(url, &access).expect("a data set"));
        epoch(&Stream::new(dataset, &Filter::default(), 0).expect("rows"))
    });
}

fn positions(step: u64) -> Vec<u64> {
    Slice { rank: 0, world_size: 1, batch_size: BATCH }.positions(step).collect()
}

/// Every row of an epoch, in its shuffled order, in batches as they go to a device: one array a column.
fn epoch(stream: &Stream) -> usize {
    let rows = stream.rows().len() as u64;
    let mut batch = Batch::default();
    for start in (0..rows).step_by(BATCH) {
        let positions: Vec<u64> = (start..(start + BATCH as u64).min(rows)).collect();
        stream.fetch_into(&positions, &mut batch).expect("readable");
        black_box(&batch);
    }
    rows as usize
}

/// The best of three, as the machine is shared.
fn report(name: &str, work: impl Fn() -> usize) {
    let rate = || {
        let started = Instant::now();
        let count = work();
        count as f64 / started.elapsed().as_secs_f64()
    };
    let best = (0..3).map(|_| rate()).fold(0.0, f64::max);
    println!("{}", serde_json::json!({"name": name, "per_s": best}));
}

/// VmHWM of /proc, in MB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
