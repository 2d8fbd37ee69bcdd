//! The results of batches: of one batch, as a part to store, and of all parts together.

use emotions::Emotion;

use crate::evaluation::parts::Part;
use crate::metrics::sets::seen::Seen;
use crate::metrics::Observed;
use crate::scores::judgements::Judgements;
use crate::scores::sets::{Set, Sets};
use crate::scores::{ScoreTable, Series};

/// The results of one batch, edit by edit and for whole sets.
pub(crate) struct Found {
    pub scores: ScoreTable,
    pub seen: Vec<(Set, Seen)>,
    pub judgements: Judgements,
}

impl Found {
    /// Nothing found yet, with a place for every series of `scores`.
    pub fn new(scores: ScoreTable) -> Self {
        Self { scores, seen: Vec::new(), judgements: Judgements::default() }
    }

    /// The part to store.
    pub fn into_part(self) -> Part {
        let found = |series: &Series| !series.cases.is_empty() || series.time.edits > 0;
        let series = self.scores.series.into_iter().filter(found).collect();
        Part { series, judgements: self.judgements, seen: self.seen }
    }
}

/// The results of all parts together.
pub(crate) struct Whole {
    pub scores: ScoreTable,
    pub sets: Sets,
    pub judgements: Judgements,
}

impl Whole {
    /// Nothing yet.
    pub fn new(scores: ScoreTable, sets: Sets) -> Self {
        Self { scores, sets, judgements: Judgements::default() }
    }

    /// Adds the results of a batch; says what in them is not of this evaluation.
    pub fn add(&mut self, part: Part) -> Result<(), String> {
        self.scores.add_series(part.series)?;
        for (set, seen) in &part.seen {
            self.sets.see(set, seen)?;
        }
        self.judgements.add(part.judgements);
        Ok(())
    }
}

/// Edits of a batch, to be measured.
pub(crate) struct Edits<'a> {
    pub seen: &'a Observed,
    pub failed: &'a [bool],
    /// What they were made for.
    pub emotion: Emotion,
    /// Which sources the method edits.
    pub takes: &'a [bool],
}
