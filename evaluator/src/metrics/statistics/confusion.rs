//! The 8×8 confusion of asked and found emotions, the accuracy of each class, and macro-F1 as scikit-learn defines
//! it.

use emotions::Emotion;
use serde::Serialize;

/// Counts: row = the emotion asked for, column = the class found, both in [`Emotion::ALL`]'s order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confusion {
    counts: [[u32; 8]; 8],
    #[serde(skip)]
    missed: [u32; 8], // asked for, but none of the eight found; failed edits are among them
}

impl Confusion {
    /// Counts one edit.
    pub fn add(&mut self, target: Emotion, found: Emotion) {
        self.counts[target.index()][found.index()] += 1;
    }

    /// Counts an edit that failed, or in which none of the eight is found.
    pub fn add_missed(&mut self, target: Emotion) {
        self.missed[target.index()] += 1;
    }

    /// Counts pairs of (asked, found).
    pub fn of(pairs: impl IntoIterator<Item = (Emotion, Emotion)>) -> Self {
        Self::of_edits(pairs.into_iter().map(|(target, found)| (target, Some(found))))
    }

    /// Counts pairs of (asked, found); an edit may have failed or have no class.
    pub fn of_edits(pairs: impl IntoIterator<Item = (Emotion, Option<Emotion>)>) -> Self {
        let mut confusion = Self::default();
        for (target, found) in pairs {
            match found {
                Some(found) => confusion.add(target, found),
                None => confusion.add_missed(target),
            }
        }
        confusion
    }

    /// The counts, rows first.
    pub fn counts(&self) -> &[[u32; 8]; 8] {
        &self.counts
    }

    /// Share of the row's edits whose class was found (recall); none if the emotion was never asked for.
    pub fn accuracy_of(&self, emotion: Emotion) -> Option<f64> {
        let row = &self.counts[emotion.index()];
        let asked = row.iter().sum::<u32>() + self.missed[emotion.index()];
        (asked > 0).then(|| f64::from(row[emotion.index()]) / f64::from(asked))
    }

    /// Share of all edits whose class was found; 0 without edits.
    pub fn accuracy(&self) -> f64 {
        let hits: u32 = (0..8).map(|class| self.counts[class][class]).sum();
        let total: u32 = self.counts.iter().flatten().chain(&self.missed).sum();
        f64::from(hits) / f64::from(total.max(1))
    }

    /// The mean of the classes' accuracies, without those that were never asked for (scikit-learn's
    /// `balanced_accuracy_score`); 0 without edits.
    pub fn balanced_accuracy(&self) -> f64 {
        let known: Vec<f64> = Emotion::ALL.into_iter().filter_map(|e| self.accuracy_of(e)).collect();
        known.iter().sum::<f64>() / known.len().max(1) as f64
    }

    /// The unweighted mean of the eight classes' F1; a class that never occurs counts as 0 (scikit-learn's
    /// `f1_score(labels=…, average="macro", zero_division=0)`).
    pub fn macro_f1(&self) -> f64 {
        (0..8).map(|class| self.f1(class)).sum::<f64>() / 8.0
    }

    fn f1(&self, class: usize) -> f64 {
        let hits = f64::from(self.counts[class][class]);
        let asked = self.counts[class].iter().sum::<u32>() + self.missed[class];
        let found: u32 = self.counts.iter().map(|row| row[class]).sum();
        match asked + found {
            0 => 0.0,
            total => 2.0 * hits / f64::from(total),
        }
    }
}
