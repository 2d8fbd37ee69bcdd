//! A batch of sources as the judges see it before any edit.

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

/// Other sources that each edit is held against. What has nothing of its own source is nearer to one of them in three
/// cases of four.
const OTHERS: usize = 3;

/// Edits of a batch, and which of them failed.
pub(crate) type SeenEdits = (Observed, Vec<bool>);

/// A batch of sources as the judges see it before any edit.
pub(crate) struct Before {
    pub batch: Batch,
    pub source: Observed,
    /// Each another source for every one of the batch.
    pub others: Vec<Observed>,
    /// The true pictures towards the emotion that was asked for last: emotions come one after the other, and all of them
    /// at once would fill the memory.
    truth: RefCell<Option<(Emotion, Option<Rc<SeenTruth>>)>>,
    /// Edits of methods that look at no emotion, and which of them failed.
    pub unswept: RefCell<BTreeMap<&'static str, Rc<SeenEdits>>>,
}

impl Before {
    /// Looks at a batch.
    pub fn new(batch: Batch, sources: &Sources, observer: &Observer) -> Result<Self> {
        let others = (1..=OTHERS).filter_map(|distance| sources.others(&batch, distance).transpose());
        let others = others.map(|pictures| Ok(observer.observe(&pictures?))).collect::<Result<_>>()?;
        let source = observer.observe(&batch.pictures);
        Ok(Self { batch, source, others, truth: RefCell::default(), unswept: RefCell::default() })
    }

    /// The true pictures towards an emotion as LPIPS sees them; none where there is none.
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
