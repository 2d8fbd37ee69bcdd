//! How often each emotion is drawn: some data sets have ten photos of one emotion for each photo of another.
//!
//! Like [`Order`], a pure function of (seed, position). Positions are cut into cycles. In a cycle each class has a
//! fixed number of positions, in a fresh order, and fills them from its own sequence of permutations. So frequencies
//! are exact over every cycle, and no row of a class comes twice before all have come once.

use std::collections::BTreeMap;

use emotions::Emotion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::reading::order::Order;

/// The name of rows without an emotion among the weights.
const NONE: &str = "none";

/// Positions in a cycle if shares are not all equal: shares are met to a thousandth.
const CYCLE: usize = 1000;

/// Shares of the emotions; by default every row is drawn equally often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Every emotion equally often, however many rows it has.
    pub balanced: bool,
    /// Factors on an emotion's share, by its name or `none`; 1 by default, and 0 leaves it out.
    pub weights: BTreeMap<String, f64>,
}

impl Sampling {
    /// Refuses names that are no emotions, and values that are no weights.
    pub fn check(&self) -> Result<()> {
        for (name, weight) in &self.weights {
            let key = || format!("sampling.weights.{name}");
            if name != NONE {
                name.parse::<Emotion>().map_err(|e| Error::invalid(key(), format!("{e}, or {NONE}")))?;
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(Error::invalid(key(), format!("{weight} is not a number from 0 on")));
            }
        }
        Ok(())
    }

    fn weight(&self, class: &str) -> f64 {
        self.weights.get(class).copied().unwrap_or(1.0)
    }
}

/// Which row each position holds.
#[derive(Clone, Debug)]
pub struct Sampler {
    cycle: Order,
    classes: Vec<Class>,
}

/// The rows of one emotion.
#[derive(Clone, Debug)]
struct Class {
    rows: Vec<usize>,
    order: Order,
    /// Its positions in a cycle: how many it has, and how many come before them.
    places: usize,
    before: usize,
}

impl Sampler {
    /// A sampler of rows with these emotions, at least one row. Fails if the weights leave no row.
    pub fn new(seed: u64, emotions: &[Option<Emotion>], sampling: &Sampling) -> Result<Self> {
        sampling.check()?;
        if *sampling == Sampling::default() {
            let all = Class {
                rows: (0..emotions.len()).collect(),
                order: Order::new(seed, emotions.len()),
                places: 1,
                before: 0,
            };
            return Ok(Self { cycle: Order::new(seed, 1), classes: vec![all] });
        }
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, emotion) in emotions.iter().enumerate() {
            by_name.entry(emotion.map_or(NONE, Emotion::name)).or_default().push(row);
        }
        by_name.retain(|name, _| sampling.weight(name) > 0.0);
        let share = |(name, rows): (&&str, &Vec<usize>)| {
            sampling.weight(name) * if sampling.balanced { 1.0 } else { rows.len() as f64 }
        };
        let shares: Vec<f64> = by_name.iter().map(share).collect();
        if shares.is_empty() {
            return Err(Error::invalid(
                "sampling.weights",
                "they leave no row: every emotion that is there has weight 0",
            ));
        }
        let places = places_of(&shares);
        let mut before = 0;
        let classes = by_name.into_values().zip(places).map(|(rows, places)| {
            let class = Class { order: Order::new(seed ^ before as u64, rows.len()), rows, places, before };
            before += places;
            class
        });
        let classes: Vec<Class> = classes.collect();
        Ok(Self { cycle: Order::new(seed, before), classes })
    }

    /// The row at `position`, in 0..the number of rows.
    pub fn sample(&self, position: u64) -> usize {
        let slot = self.cycle.sample(position);
        let class = self.classes.partition_point(|class| class.before <= slot) - 1;
        let Class { rows, order, places, before } = &self.classes[class];
        let round = self.cycle.epoch(position);
        rows[order.sample(round * *places as u64 + (slot - before) as u64)]
    }
}

/// Whole numbers of positions for shares: 1 each if all are equal, otherwise [`CYCLE`] or more by the largest
/// remainders, but at least 1 each.
fn places_of(shares: &[f64]) -> Vec<usize> {
    if shares.iter().all(|share| share == &shares[0]) {
        return vec![1; shares.len()];
    }
    let total: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares.iter().map(|share| share / total * CYCLE as f64).collect();
    let mut places: Vec<usize> = exact.iter().map(|e| (e.floor() as usize).max(1)).collect();
    let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let left = CYCLE.saturating_sub(places.iter().sum());
    by_remainder.into_iter().take(left).for_each(|class| places[class] += 1);
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROWS: [Option<Emotion>; 7] = [
        Some(Emotion::Awe),
        Some(Emotion::Fear),
        Some(Emotion::Awe),
        None,
        Some(Emotion::Awe),
        Some(Emotion::Awe),
        Some(Emotion::Fear),
    ];

    fn sampling(yaml: &str) -> Sampling {
        serde_yaml::from_str(yaml).expect("valid")
    }

    fn counts(yaml: &str, positions: u64) -> BTreeMap<&'static str, usize> {
        let sampler = Sampler::new(3, &ROWS, &sampling(yaml)).expect("rows");
        let mut counts = BTreeMap::new();
        for position in 0..positions {
            *counts.entry(ROWS[sampler.sample(position)].map_or(NONE, Emotion::name)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn without_a_wish_every_row_comes_in_the_order_of_old() {
        let sampler = Sampler::new(7, &[None; 10], &Sampling::default()).expect("rows");
        let order = Order::new(7, 10);
        assert!((0..40).all(|p| sampler.sample(p) == order.sample(p)));
    }

    #[test]
    fn balanced_classes_come_equally_often_in_every_cycle() {
        let balanced = BTreeMap::from([("awe", 20), ("fear", 20), (NONE, 20)]);
        assert_eq!(counts("{balanced: true}", 60), balanced);
        assert_eq!(counts("{balanced: true, weights: {none: 0}}", 60), BTreeMap::from([("awe", 30), ("fear", 30)]));
    }

    #[test]
    fn weights_multiply_shares() {
        let found = counts("{weights: {fear: 2}}", 1000);
        assert_eq!(found, BTreeMap::from([("awe", 445), ("fear", 444), (NONE, 111)]));
        let found = counts("{balanced: true, weights: {awe: 3, none: 0}}", 1000);
        assert_eq!(found, BTreeMap::from([("awe", 750), ("fear", 250)]));
    }

    #[test]
    fn nonsense_is_named() {
        let error = |yaml: &str| Sampler::new(0, &ROWS, &sampling(yaml)).expect_err("nonsense").to_string();
        assert!(error("{weights: {joy: 1}}").contains("sampling.weights.joy"));
        assert!(error("{weights: {awe: -1}}").contains("sampling.weights.awe"));
        assert!(error("{weights: {awe: 0, fear: 0, none: 0}}").contains("no row"));
    }

    proptest! {
        #[test]
        fn a_class_repeats_nothing_before_all_of_it_has_come(
            seed: u64, emotions in prop::collection::vec(prop::option::of(0usize..8), 1..60), balanced: bool, weight in 0.1f64..9.0,
        ) {
            let emotions: Vec<_> = emotions.into_iter().map(|e| e.map(|e| Emotion::ALL[e])).collect();
            let sampling = Sampling { balanced, weights: BTreeMap::from([("awe".into(), weight)]) };
            let sampler = Sampler::new(seed, &emotions, &sampling).expect("rows");
            let mut times = vec![0usize; emotions.len()];
            let cycles = 3 * sampler.cycle.rows_per_epoch() as u64;
            (0..cycles).for_each(|p| times[sampler.sample(p)] += 1);
            for class in &sampler.classes {
                let of_class = || class.rows.iter().map(|&row| times[row]);
                prop_assert_eq!(of_class().sum::<usize>(), 3 * class.places);
                prop_assert!(of_class().max() <= of_class().min().map(|m| m + 1));
            }
        }
    }
}
