//! Random draws as pure functions of (seed, stream, position): the same at any world size and after any resume.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tch::Tensor;

/// A generator for one stream at one position.
pub fn generator(seed: u64, stream: &str, position: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&position.to_le_bytes()).update(stream.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Standard normal values of `shape`, f32 on the CPU.
pub fn normal(seed: u64, stream: &str, position: u64, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = generator(seed, stream, position).sample_iter(StandardNormal).take(count).collect();
    Tensor::from_slice(&values).view(shape)
}

/// A whole number in 0..`bound`.
pub fn below(seed: u64, stream: &str, position: u64, bound: u64) -> u64 {
    generator(seed, stream, position).random_range(0..bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_stream_and_position_alone() {
        let first = normal(1, "noise", 7, &[4, 3]);
        assert_eq!(first, normal(1, "noise", 7, &[4, 3]));
        for other in [normal(2, "noise", 7, &[4, 3]), normal(1, "flip", 7, &[4, 3]), normal(1, "noise", 8, &[4, 3])] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn normal_draws_have_mean_zero_and_variance_one() {
        let draws = normal(0, "noise", 0, &[100_000]);
        assert!(draws.mean(tch::Kind::Double).double_value(&[]).abs() < 0.02);
        assert!((draws.std(true).double_value(&[]) - 1.0).abs() < 0.02);
    }
}
