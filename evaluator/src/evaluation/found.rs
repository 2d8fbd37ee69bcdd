//! The results of batches: of one batch, as a part to store, and of all parts together.

use emotions::Emotion;
use tch::Tensor;

use crate::error::Result;
use crate::evaluation::batch::Batch;
use crate::evaluation::parts::Part;
use crate::metrics::Observed;
use crate::scores::costs::Seconds;
use crate::scores::judgements::Judgements;
use crate::scores::sets::Sets;
use crate::scores::ScoreTable;

/// The results of one batch, edit by edit and for whole sets.
pub(crate) struct Found<'a> {
    pub scores: ScoreTable,
    pub sets: &'a Sets, // their places
    pub seen: Vec<Tensor>,
    pub judgements: Judgements,
    pub seconds: Seconds,
}

impl<'a> Found<'a> {
    /// Nothing found yet, with a place for every series of `scores` and set of `sets`.
    pub fn new(scores: ScoreTable, sets: &'a Sets) -> Self {
        Self { scores, sets, seen: Vec::new(), judgements: Judgements::default(), seconds: Seconds::default() }
    }

    /// Counts the time of a batch's edits.
    pub fn took(&mut self, key: &str, emotion: Emotion, strength: Option<f64>, seconds: f64, batch: &Batch) {
        if let Some(place) = self.scores.place_of(key, emotion, strength) {
            self.seconds.add(place, seconds, batch.pictures.len());
        }
    }

    /// The part to store.
    pub fn into_part(self) -> Part {
        let rows: Vec<Tensor> = std::iter::once(self.sets.no_rows()).chain(self.seen).collect();
        Part {
            cases: self.scores.rows(),
            seen: Tensor::cat(&rows, 0),
            judged: self.judgements.rows(self.scores.judges),
            seconds: self.seconds.rows(),
        }
    }
}

/// The results of all parts together.
pub(crate) struct Whole {
    pub scores: ScoreTable,
    pub sets: Sets,
    pub judgements: Judgements,
    pub seconds: Seconds,
}

impl Whole {
    /// Nothing yet.
    pub fn new(scores: ScoreTable, sets: Sets) -> Self {
        Self { scores, sets, judgements: Judgements::default(), seconds: Seconds::default() }
    }

    /// Adds the results of a batch.
    pub fn add(&mut self, part: &Part) -> Result<()> {
        self.scores.add_rows(&part.cases)?;
        self.sets.see(&part.seen);
        self.judgements.add_rows(&part.judged)?;
        self.seconds.add_rows(&part.seconds)
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
