//! Times the metrics on the pictures and features in a folder and prints one JSON row each: `{"name": …, "ms": …}`.
//!
//! cargo bench --workspace --bench metrics -- FOLDER THREADS REPEATS
//! tests/benches/evaluator.py makes the folder, runs this and the Python libraries in one go and prints the ratios.

use std::path::{Path, PathBuf};
use std::time::Instant;

use diffusion::networks::lpips::{Backbone, Lpips};
use evaluator::evaluation::batch::tensor_of;
use evaluator::metrics::psnr::psnr;
use evaluator::metrics::sets::fid::frechet_distance;
use evaluator::metrics::sets::moments::Moments;
use evaluator::metrics::ssim::ssim;
use tch::{Device, Tensor};

/// Pictures of each side.
const PAIRS: usize = 8;
/// Features that the sums see at once, as an evaluation's batches do.
const BATCH: i64 = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let [threads, repeats] = numbers[..] else { panic!("give FOLDER THREADS REPEATS") };
    let folder = arguments.iter().map(PathBuf::from).find(|path| path.join("features.safetensors").exists());
    let folder = folder.expect("a folder that tests/benches/evaluator.py made");
    tch::set_num_threads(threads as i32);
    let _no_grad = tch::no_grad_guard();

    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/lpips/lpips_alex.safetensors");
    let network = Lpips::load(&weights, Backbone::Alex, Device::Cpu).expect("the embedded weights");
    let (a, b) = (pictures(&folder, "a"), pictures(&folder, "b"));
    let (wide_a, wide_b) = (&a * 2.0 - 1.0, &b * 2.0 - 1.0);
    row("lpips alex", repeats, || network.distance(&wide_b, &wide_a).double_value(&[0]));
    row("lpips alex, one source and four edits", repeats, || {
        let source = network.unit_features(&wide_a);
        (0..4).map(|_| network.distance_of(&network.unit_features(&wide_b), &source).double_value(&[0])).sum()
    });
    row("ssim", repeats, || ssim(&b, &a)[0]);
    row("psnr", repeats, || psnr(&b, &a)[0]);

    let features = Tensor::read_safetensors(folder.join("features.safetensors")).expect("readable");
    let side = |name: &str| &features.iter().find(|(n, _)| n == name).expect("a side").1;
    row("fid", repeats, || frechet_distance(&moments(side("a")), &moments(side("b"))).expect("two sets"));
}

/// (8, 3, h, w) in [0, 1]
fn pictures(folder: &Path, side: &str) -> Tensor {
    let read = |k: usize| image::open(folder.join(format!("{side}{k}.png"))).expect("a picture").to_rgb8();
    (tensor_of(&(0..PAIRS).map(read).collect::<Vec<_>>()) + 1.0) / 2.0
}

fn moments(features: &Tensor) -> Moments {
    let mut moments = Moments::new(features.size()[1]);
    features.split(BATCH, 0).iter().for_each(|batch| moments.add(batch));
    moments
}

fn row(name: &str, repeats: usize, run: impl Fn() -> f64) {
    let time = || {
        let started = Instant::now();
        let value = run();
        (started.elapsed().as_secs_f64() * 1e3, value)
    };
    let mut times: Vec<f64> = (0..repeats + 2).map(|_| time().0).skip(2).collect();
    times.sort_by(f64::total_cmp);
    let value = time().1;
    println!(
        "{{\"name\": \"{name}\", \"ms\": {:.3}, \"fastest\": {:.3}, \"value\": {value}}}",
        times[times.len() / 2],
        times[0]
    );
}
