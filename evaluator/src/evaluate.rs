//! The evaluation: sources in batches, every method of every emotion on each, nothing kept but numbers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use dataloader::Emotion;
use diffusion::networks::lpips::{Backbone, Lpips};
use rand::Rng;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::batch::Batch;
use crate::config::Compatibility;
use crate::contest::Lineup;
use crate::contest::{entrants, featured, Contest, Entrant};
use crate::error::Result;
use crate::gallery::{Gallery, Key};
use crate::methods::{pictures_of, Method, SHUFFLED};
use crate::metrics::clarity::Clarity;
use crate::metrics::{self, Metric, Networks, Observed, Pair};
use crate::observe::Observer;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::scores::{measure, Board, Case};
use crate::sets::Sets;
use crate::sources::{spread, Sources};

/// A finished evaluation.
pub struct Evaluation {
    /// The photos.
    pub sources: Sources,
    /// The numbers.
    pub board: Board,
    /// The sums over whole sets.
    pub sets: Sets,
    /// The pictures.
    pub gallery: Gallery,
    /// What the style images were, where a method looked at them.
    pub style: Option<Value>,
    /// The methods of each emotion, the shuffled control after the other controls.
    pub entrants: Vec<(Emotion, Vec<Entrant>)>,
    /// The method whose cases are shown.
    pub featured: Option<&'static str>,
    /// Sources of the strength sweep.
    pub sweep: Vec<usize>,
    /// The judges, for the report's account of them.
    pub observer: Observer,
}

/// Other sources that each edit is held against. What has nothing of its own source is nearer to one of them in three
/// cases of four.
const OTHERS: usize = 3;

/// What stays the same over batches.
struct Judges<'a> {
    plan: &'a Plan,
    sources: &'a Sources,
    observer: Observer,
    metrics: Vec<Box<dyn Metric>>,
    directions: Tensor, // (8, p); rows of emotions that never occur are zero
    gallery: Gallery,
    sweep: Vec<usize>,
}

/// Loads the judges, edits and scores this process's share of the sources; pictures go to `folder`. The first process
/// gets the whole, the others none.
pub fn evaluate(plan: &Plan, contest: Contest, folder: PathBuf, ranks: &Ranks) -> Result<Option<Evaluation>> {
    let Contest { sources, lineups, style } = contest;
    let models = &plan.config.models;
    let observer = Observer::load(&models.classifier, &plan.clip, plan.classifier_clip.as_deref(), plan.device)?;
    let observer = observer.with_inception(models.inception.as_deref())?;
    let metrics = metrics::all(networks(plan, &observer)?, plan.config.compatibility == Some(Compatibility::EmoEdit));
    let directions: Vec<Tensor> =
        Emotion::ALL.iter().map(|&e| observer.text_direction(&plan.config.templates, e)).collect();
    let judges = Judges {
        plan,
        sources: &sources,
        observer,
        metrics,
        directions: Tensor::cat(&directions, 0),
        gallery: Gallery::create(folder.clone())?,
        sweep: spread(sources.len(), plan.config.pictures.sweep).collect(),
    };
    let (featured, entrants) = (featured(&lineups), entrants(plan, &lineups));
    let found = judges.run(&lineups, &entrants, ranks)?;
    let (board, sets) = (found.board.gather(ranks, &folder)?, found.sets.gather(ranks, &folder)?);
    if !ranks.is_first() {
        return Ok(None);
    }
    let Judges { observer, gallery, sweep, .. } = judges;
    Ok(Some(Evaluation { board, sets, gallery, style, entrants, featured, sweep, observer, sources }))
}

/// What the metrics themselves look through.
fn networks(plan: &Plan, observer: &Observer) -> Result<Networks> {
    let models = &plan.config.models;
    let clarity = models.clarity.as_ref();
    let load = |path, backbone| Ok::<_, crate::Error>(Rc::new(Lpips::load(path, backbone, plan.device)?));
    Ok(Networks {
        lpips: load(&models.lpips, Backbone::Alex)?,
        lpips_vgg: models.lpips_vgg.as_ref().map(|path| load(path, Backbone::Vgg)).transpose()?,
        classifier: observer.classifier().clone(),
        clarity: clarity.map(|of| Clarity::load(&of.scenes, &of.objects, plan.device)).transpose()?,
    })
}

/// What is found out, edit by edit and over whole sets.
struct Found {
    board: Board,
    sets: Sets,
}

/// A batch of sources as the judges see it before any edit.
struct Before<'a> {
    batch: &'a Batch,
    source: Observed,
    others: Vec<Observed>, // each another source for every one of the batch
}

/// One of the other seven emotions, drawn from the seed and the source's place.
fn another_emotion(seed: u64, emotion: Emotion, place: u64) -> Emotion {
    let others: Vec<Emotion> = Emotion::ALL.into_iter().filter(|&e| e != emotion).collect();
    others[diffusion::noise::generator(seed, emotion.name(), place).random_range(0..others.len())]
}

/// One entry a strength, or a single none for a method that has no strengths.
fn strengths_or_none(strengths: &[f64]) -> Vec<Option<f64>> {
    match strengths {
        [] => vec![None],
        strengths => strengths.iter().copied().map(Some).collect(),
    }
}

/// Cuts `count` sources into batches of at most `size`, as even as that allows for `ranks` processes.
fn spans(count: usize, size: usize, ranks: usize) -> Vec<Range<usize>> {
    let rounds = count.div_ceil(size * ranks).max(1);
    let size = count.div_ceil(rounds * ranks).max(1);
    (0..count).step_by(size).map(|first| first..(first + size).min(count)).collect()
}

impl Judges<'_> {
    /// This process's share.
    fn run(&self, lineups: &[Lineup], entrants: &[(Emotion, Vec<Entrant>)], ranks: &Ranks) -> Result<Found> {
        let mut found = self.open(entrants);
        self.see_references(&mut found.sets, ranks)?;
        let spans = spans(self.sources.len(), self.plan.config.batch_size, ranks.size);
        let ours: Vec<Range<usize>> =
            spans.into_iter().enumerate().filter(|(k, _)| ranks.owns(*k)).map(|(_, span)| span).collect();
        let edits_each: usize = lineups.iter().flat_map(|l| &l.methods).map(|m| m.strengths().len().max(1)).sum();
        let sources: usize = ours.iter().map(|span| span.len()).sum();
        let mut progress = Progress::new(sources * edits_each, ranks.is_first());
        for span in ours {
            let mut first = span.start;
            while first < span.end {
                let batch = self.sources.batch(first, span.end - first)?;
                self.judge(&mut found, lineups, &batch, &mut progress)?;
                first += batch.pictures.len();
            }
        }
        progress.finish();
        Ok(found)
    }

    /// A board and sums with a place for every entrant.
    fn open(&self, entrants: &[(Emotion, Vec<Entrant>)]) -> Found {
        let mut board = Board::new(&self.metrics);
        let projection = self.observer.clip().projection_dim();
        let mut sets = Sets::new(&self.plan.emotions, projection, self.plan.config.models.inception.is_some());
        for (emotion, entrant) in entrants.iter().flat_map(|(emotion, all)| all.iter().map(move |e| (*emotion, e))) {
            for strength in strengths_or_none(&entrant.strengths) {
                board.open(entrant.about.key, emotion, strength);
            }
            if entrant.about.key != SHUFFLED {
                sets.open(entrant.about.key, emotion); // the shuffled edits are another row's
            }
        }
        Found { board, sets }
    }

    /// This process's share of every emotion's own images.
    fn see_references(&self, sets: &mut Sets, ranks: &Ranks) -> Result<()> {
        for &emotion in &self.plan.emotions {
            let Some(references) = Sources::references(&self.plan.config, emotion)? else { continue };
            let spans = spans(references.len(), self.plan.config.batch_size, ranks.size);
            for (_, span) in spans.into_iter().enumerate().filter(|(k, _)| ranks.owns(*k)) {
                let mut first = span.start;
                while first < span.end {
                    let pictures = references.batch(first, span.end - first)?.pictures;
                    sets.add_references(emotion, &self.observer.observe(&pictures));
                    first += pictures.len();
                }
            }
        }
        Ok(())
    }

    /// Every method of every emotion on one batch.
    fn judge(&self, found: &mut Found, lineups: &[Lineup], batch: &Batch, progress: &mut Progress) -> Result<()> {
        let featured = featured(lineups);
        let before = self.before(batch)?;
        self.keep_all(&batch.pictures, batch.first, "source", None, None)?;
        let mut unswept = BTreeMap::new();
        for lineup in lineups {
            for method in &lineup.methods {
                let method = method.as_ref();
                match method.headline() {
                    None => self.score_once(found, method, lineup.emotion, &before, &mut unswept)?,
                    Some(headline) => {
                        let shuffled = featured == Some(method.about().key) && self.plan.config.shuffled;
                        self.score(found, method, lineup.emotion, &before, headline, shuffled)?;
                    }
                }
                progress.advance(method.strengths().len().max(1) * batch.pictures.len());
            }
        }
        Ok(())
    }

    fn before<'b>(&self, batch: &'b Batch) -> Result<Before<'b>> {
        let others = (1..=OTHERS).filter_map(|distance| self.sources.others(batch, distance).transpose());
        let others = others.map(|pictures| Ok(self.observer.observe(&pictures?))).collect::<Result<_>>()?;
        Ok(Before { batch, source: self.observer.observe(&batch.pictures), others })
    }

    /// A method that looks at no emotion: its edits are made and observed for the first one, and measured for each.
    fn score_once(
        &self, found: &mut Found, method: &dyn Method, emotion: Emotion, before: &Before<'_>,
        observed: &mut BTreeMap<&'static str, Observed>,
    ) -> Result<()> {
        let key = method.about().key;
        if !observed.contains_key(key) {
            let pictures = pictures_of(&Tensor::cat(&method.edits(before.batch)?, 0))?;
            self.keep_all(&pictures, before.batch.first, key, None, None)?;
            observed.insert(key, self.observer.observe(&pictures));
        }
        let targets = vec![emotion; before.batch.pictures.len()];
        found.board.add(key, emotion, None, self.measure(before, &observed[key], &targets, emotion));
        found.sets.add(key, emotion, &observed[key], &before.source, &self.counted(emotion, before.batch));
        Ok(())
    }

    fn score(
        &self, found: &mut Found, method: &dyn Method, emotion: Emotion, before: &Before<'_>, headline: f64,
        shuffled: bool,
    ) -> Result<()> {
        let (key, batch) = (method.about().key, before.batch);
        let targets = vec![emotion; batch.pictures.len()];
        for (&strength, edit) in method.strengths().iter().zip(method.edits(batch)?) {
            let (is_headline, strength) = (strength == headline, Some(strength));
            let pictures = pictures_of(&edit)?;
            let edit = self.observer.observe(&pictures);
            found.board.add(key, emotion, strength, self.measure(before, &edit, &targets, emotion));
            if is_headline {
                found.sets.add(key, emotion, &edit, &before.source, &self.counted(emotion, batch));
            }
            self.keep(&pictures, batch.first, key, emotion, strength, is_headline)?;
            if is_headline && shuffled {
                let place = |row: usize| (batch.first + row) as u64;
                let draw = |row: usize| another_emotion(self.plan.config.bootstrap.seed, emotion, place(row));
                let others: Vec<Emotion> = (0..batch.pictures.len()).map(draw).collect();
                found.board.add(SHUFFLED, emotion, strength, self.measure(before, &edit, &others, emotion));
            }
        }
        Ok(())
    }

    /// The rows of a batch that the headline counts.
    fn counted(&self, emotion: Emotion, batch: &Batch) -> Vec<i64> {
        let counts = |place: &i64| {
            !(self.plan.config.sources.exclude_target && self.sources.shows(batch.first + *place as usize, emotion))
        };
        (0..batch.pictures.len() as i64).filter(counts).collect()
    }

    /// `emotion` is what the edits were made for; `targets` differ from it in the shuffled control alone.
    fn measure(&self, before: &Before<'_>, edit: &Observed, targets: &[Emotion], emotion: Emotion) -> Vec<Case> {
        let rows: Vec<i64> = targets.iter().map(|t| t.index() as i64).collect();
        let rows = Tensor::from_slice(&rows).to_kind(Kind::Int64).to_device(self.directions.device());
        let text_directions = self.directions.index_select(0, &rows);
        let pair = Pair { source: &before.source, edit, targets, text_directions: &text_directions };
        let shows = |index| self.sources.shows(index, emotion);
        measure(&self.metrics, &pair, &before.others, before.batch.first, shows)
    }

    /// Keeps what the report may show: every headline edit, and every strength of the sweep's sources.
    fn keep(
        &self, pictures: &[image::RgbImage], first: usize, method: &'static str, emotion: Emotion,
        strength: Option<f64>, headline: bool,
    ) -> Result<()> {
        let emotion = Some(emotion);
        if headline {
            return self.keep_all(pictures, first, method, emotion, strength);
        }
        for (place, picture) in pictures.iter().enumerate().filter(|(place, _)| self.sweep.contains(&(first + place))) {
            self.gallery.keep(Key { source: first + place, method, emotion, strength }, picture)?;
        }
        Ok(())
    }

    fn keep_all(
        &self, pictures: &[image::RgbImage], first: usize, method: &'static str, emotion: Option<Emotion>,
        strength: Option<f64>,
    ) -> Result<()> {
        for (place, picture) in pictures.iter().enumerate() {
            self.gallery.keep(Key { source: first + place, method, emotion, strength }, picture)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_targets_are_the_other_seven_alike_and_never_the_asked() {
        let emotion = Emotion::Sadness;
        let count = |drawn| (0..7000).filter(|&place| another_emotion(3, emotion, place) == drawn).count();
        assert_eq!(count(emotion), 0);
        for other in Emotion::ALL.into_iter().filter(|&e| e != emotion) {
            assert!((850..1150).contains(&count(other)), "{other}: {}", count(other));
        }
    }

    #[test]
    fn batches_cover_every_source_once_and_burden_all_alike() {
        for (count, size, ranks) in [(52, 16, 2), (1, 16, 4), (7, 3, 1), (100, 8, 8), (46, 46, 2)] {
            let spans = spans(count, size, ranks);
            assert_eq!(spans.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            assert!(spans.iter().all(|span| span.len() <= size));
            let share = |rank: usize| spans.iter().skip(rank).step_by(ranks).map(|s| s.len()).sum::<usize>();
            let most = (0..ranks).map(share).max().expect("a process");
            assert!(most <= count.div_ceil(ranks) + size.min(count) / 2, "{count} {size} {ranks}: {most}");
        }
    }
}
