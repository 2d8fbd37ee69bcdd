//! A batch of sources as the judges see them before any edit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use diffusion::networks::lpips::Lpips;
use emotions::Emotion;

use crate::error::Result;
use crate::evaluation::batch::Batch;
use crate::evaluation::observe::Observer;
use crate::evaluation::sources::Sources;
use crate::evaluation::truth::SeenTruth;
use crate::metrics::Observed;

/// How many other sources each edit is compared with. An edit that has kept nothing of its source is nearer to one of
/// three others in three cases of four.
const OTHERS: usize = 3;

/// Edits of a batch, and which of them failed.
pub(crate) type SeenEdits = (Observed, Vec<bool>);

/// A batch of sources as the judges see them before any edit.
pub(crate) struct Before {
    pub batch: Batch,
    pub source: Observed,
    /// Each holds another source for every source of the batch.
    pub others: Vec<Observed>,
    /// The true pictures for the emotion that was asked for last. Emotions come one after another, and all of them at
    /// once would fill the memory.
    truth: RefCell<Option<(Emotion, Option<Rc<SeenTruth>>)>>,
    /// Edits of methods that do not depend on the emotion, and which of them failed.
    pub unswept: RefCell<BTreeMap<&'static str, Rc<SeenEdits>>>,
}

impl Before {
    /// Observes a batch.
    pub fn new(batch: Batch, sources: &Sources, observer: &Observer) -> Result<Self> {
        let others = (1..=OTHERS).filter_map(|distance| sources.others(&batch, distance).transpose());
        let others = others.map(|pictures| Ok(observer.observe(&pictures?))).collect::<Result<_>>()?;
        let source = observer.observe(&batch.pictures);
        Ok(Self { batch, source, others, truth: RefCell::default(), unswept: RefCell::default() })
    }

    /// The LPIPS features of the true pictures for an emotion; none if there are no such pictures.
    pub fn truth(&self, emotion: Emotion, lpips: &Lpips) -> Option<Rc<SeenTruth>> {
        let mut known = self.truth.borrow_mut();
        if known.as_ref().is_none_or(|(last, _)| *last != emotion) {
            let pictures = self.batch.truth.get(&emotion);
            let seen = pictures.and_then(|pictures| SeenTruth::new(pictures, &self.source, lpips));
            *known = Some((emotion, seen.map(Rc::new)));
        }
        known.as_ref().and_then(|(_, seen)| seen.clone())
    }
}
