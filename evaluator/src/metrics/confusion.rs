//! The 8×8 confusion of asked and found emotions, accuracy per class, and macro-F1 as scikit-learn defines it.

use dataloader::Emotion;
use serde::Serialize;

/// Counts: row = the emotion asked for, column = the class found, both in [`Emotion::ALL`]'s order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confusion {
    counts: [[u32; 8]; 8],
}

impl Confusion {
    /// Counts one edit.
    pub fn add(&mut self, target: Emotion, found: Emotion) {
        self.counts[target.index()][found.index()] += 1;
    }

    /// Counts pairs of (asked, found).
    pub fn of(pairs: impl IntoIterator<Item = (Emotion, Emotion)>) -> Self {
        let mut confusion = Self::default();
        for (target, found) in pairs {
            confusion.add(target, found);
        }
        confusion
    }

    /// The counts, rows first.
    pub fn counts(&self) -> &[[u32; 8]; 8] {
        &self.counts
    }

    /// Share of the row's edits that were found right (recall); none where the emotion was never asked for.
    pub fn accuracy_of(&self, emotion: Emotion) -> Option<f64> {
        let row = &self.counts[emotion.index()];
        let asked: u32 = row.iter().sum();
        (asked > 0).then(|| f64::from(row[emotion.index()]) / f64::from(asked))
    }

    /// The unweighted mean of the eight classes' F1, a class that never occurs counting 0
    /// (scikit-learn's `f1_score(labels=…, average="macro", zero_division=0)`).
    pub fn macro_f1(&self) -> f64 {
        (0..8).map(|class| self.f1(class)).sum::<f64>() / 8.0
    }

    fn f1(&self, class: usize) -> f64 {
        let hits = f64::from(self.counts[class][class]);
        let asked: u32 = self.counts[class].iter().sum();
        let found: u32 = self.counts.iter().map(|row| row[class]).sum();
        match asked + found {
            0 => 0.0,
            total => 2.0 * hits / f64::from(total),
        }
    }
}
