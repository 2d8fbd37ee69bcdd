//! Which row each position of training holds: a pure function of (seed, position). So any number of ranks, and any
//! resume, sees the same samples in the same order.
//!
//! Position p lies in epoch p / len; each epoch is a fresh permutation. The permutation is a keyed Feistel network
//! over the smallest even power of two that holds `len`, repeated until the result is below `len`: Black & Rogaway,
//! *Ciphers with Arbitrary Finite Domains* (CT-RSA 2002), sections 4 and 5. It needs no memory, and any position can
//! be computed at once.

/// One Feistel round mixes little; six rounds leave no visible structure even in small sets.
const NUM_ROUNDS: u64 = 6;

/// A seeded sequence of permutations of `len` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    len: u64,
    half_bits: u32,
}

impl Order {
    /// The order of `len` rows under `seed`. `len` must not be zero.
    pub fn new(seed: u64, len: usize) -> Self {
        assert!(len > 0, "an order needs rows");
        let bits = u64::BITS - (len as u64 - 1).leading_zeros();
        Self { seed, len: len as u64, half_bits: bits.div_ceil(2).max(1) }
    }

    /// The row at `position`, in 0..len.
    pub fn sample(&self, position: u64) -> usize {
        let key = mix(self.seed ^ mix(position / self.len));
        let mut index = self.encrypt(key, position % self.len);
        while index >= self.len {
            index = self.encrypt(key, index);
        }
        index as usize
    }

    /// The epoch that `position` lies in.
    pub fn epoch(&self, position: u64) -> u64 {
        position / self.len
    }

    /// Rows per epoch.
    pub fn rows_per_epoch(&self) -> usize {
        self.len as usize
    }

    fn encrypt(&self, key: u64, index: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (index >> self.half_bits, index & mask);
        for round in 0..NUM_ROUNDS {
            let mixed = mix(key ^ mix(right ^ (round << 56)));
            (left, right) = (right, left ^ (mixed & mask));
        }
        (left << self.half_bits) | right
    }
}

/// SplitMix64's finaliser (Steele, Lea & Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The part of each global batch that belongs to one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// This rank, in 0..world_size.
    pub rank: usize,
    /// Number of ranks.
    pub world_size: usize,
    /// Rows per rank and batch.
    pub batch_size: usize,
}

impl Slice {
    /// The positions of this rank in global batch `batch`. With G = world_size · batch_size, global batch g covers
    /// [g·G, (g+1)·G), and rank r takes the r-th `batch_size` of them.
    pub fn positions(&self, batch: u64) -> std::ops::Range<u64> {
        let first = batch * self.global_batch_size() + (self.rank * self.batch_size) as u64;
        first..first + self.batch_size as u64
    }

    /// Rows per global batch.
    pub fn global_batch_size(&self) -> u64 {
        (self.world_size * self.batch_size) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_is_a_permutation(seed: u64, len in 1usize..400, epoch in 0u64..1000) {
            let order = Order::new(seed, len);
            let mut seen = vec![false; len];
            for position in epoch * len as u64..(epoch + 1) * len as u64 {
                let row = order.sample(position);
                prop_assert!(!std::mem::replace(&mut seen[row], true));
                prop_assert_eq!(order.epoch(position), epoch);
            }
        }

        #[test]
        fn ranks_only_cut_the_same_sequence(seed: u64, len in 1usize..100, batch in 0u64..50) {
            let order = Order::new(seed, len);
            let global = |world_size: usize| -> Vec<usize> {
                (0..world_size)
                    .flat_map(|rank| Slice { rank, world_size, batch_size: 8 / world_size }.positions(batch))
                    .map(|position| order.sample(position))
                    .collect()
            };
            prop_assert_eq!(global(1), global(2));
            prop_assert_eq!(global(1), global(4));
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let epoch =
            |seed, epoch: u64| -> Vec<usize> { (0..64).map(|p| Order::new(seed, 64).sample(epoch * 64 + p)).collect() };
        assert_ne!(epoch(0, 0), epoch(0, 1));
        assert_ne!(epoch(0, 0), epoch(1, 0));
        assert_ne!(epoch(0, 0), (0..64).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_lands_on_every_place_equally_often() {
        let mut counts = [[0u32; 10]; 10];
        for seed in 0..5000 {
            let order = Order::new(seed, 10);
            (0..10).for_each(|p| counts[p as usize][order.sample(p)] += 1);
        }
        for count in counts.iter().flatten() {
            assert!((400..600).contains(count), "{counts:?}");
        }
    }

    #[test]
    fn the_order_is_fixed_for_all_time() {
        let order = Order::new(7, 10);
        let found: Vec<usize> = (0..10).map(|p| order.sample(p)).collect();
        assert_eq!(found, GOLDEN);
    }

    /// Checkpoints record positions: another order would silently change what a resumed run sees.
    const GOLDEN: [usize; 10] = [0, 7, 4, 2, 1, 3, 6, 8, 5, 9];
}
