//! The evaluation: sources in batches, and every method of every emotion on each batch. Only numbers are kept.

use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use diffusion::networks::lpips::{Backbone, Lpips};
use emotions::Emotion;
use program::Progress;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::config::plan::Plan;
use crate::config::Compatibility;
use crate::error::Result;
use crate::evaluation::batch::Batch;
use crate::evaluation::before::Before;
use crate::evaluation::evaluation_plan::{
    each, evaluated_methods, featured, EmotionMethods, EvaluatedMethod, EvaluationPlan,
};
use crate::evaluation::found::{Edits, Found, Whole};
use crate::evaluation::gallery::{Gallery, Key};
use crate::evaluation::jobs::{self, edits_part, references_part, Job};
use crate::evaluation::made::{make, Made};
use crate::evaluation::observe::Observer;
use crate::evaluation::parts::Parts;
use crate::evaluation::ranks::Ranks;
use crate::evaluation::shuffled::another_emotion;
use crate::evaluation::sources::{spread, Sources};
use crate::methods::{Method, SHUFFLED};
use crate::metrics::clarity::Clarity;
use crate::metrics::sets::seen::Seen;
use crate::metrics::{self, Asked, Metric, Networks, Pair};
use crate::scores::judgements::Judgements;
use crate::scores::sets::{Set, Sets};
use crate::scores::{measure, Case, ScoreTable};

/// A finished evaluation.
pub struct Evaluation {
    /// The photos.
    pub sources: Sources,
    /// The numbers.
    pub scores: ScoreTable,
    /// The sums over whole sets.
    pub sets: Sets,
    /// How well the judges read the emotions' own images.
    pub judgements: Judgements,
    /// The pictures.
    pub gallery: Gallery,
    /// The style images that were used, if a method used them.
    pub style: Option<Value>,
    /// The methods of each emotion, the shuffled control after the other controls.
    pub evaluated_methods: Vec<(Emotion, Vec<EvaluatedMethod>)>,
    /// The method whose cases are shown.
    pub featured: Option<&'static str>,
    /// Sources of the strength sweep.
    pub sweep: Vec<usize>,
    /// The judges, as the report describes them.
    pub observer: Observer,
}

/// The key under which the gallery keeps true pictures.
pub const TRUTH: &str = "truth";

/// What stays the same over the batches.
struct Judges<'a> {
    plan: &'a Plan,
    sources: &'a Sources,
    observer: Observer,
    metrics: Vec<Box<dyn Metric>>,
    lpips: Rc<Lpips>,
    directions: Tensor, // (8, p); rows of emotions that never occur are zero
    gallery: Gallery,
    featured: Option<&'static str>,
    sweep: Vec<usize>,
}

/// Edits and scores this process's share of the sources, except for finished `parts`; pictures go to `folder`. The
/// first process returns the whole evaluation, the others none.
pub fn evaluate(
    plan: &Plan, evaluation_plan: EvaluationPlan, parts: &Parts, folder: PathBuf, ranks: &Ranks,
) -> Result<Option<Evaluation>> {
    let EvaluationPlan { sources, methods_by_emotion, style, observer } = evaluation_plan;
    let asked = Asked {
        judges: observer.judges().len(),
        truth: sources.have_truth(&plan.emotions),
        emoedit: plan.config.compatibility == Some(Compatibility::EmoEdit),
    };
    let networks = networks(plan, &observer)?;
    let lpips = networks.lpips.clone();
    let directions: Vec<Tensor> =
        Emotion::ALL.iter().map(|&e| observer.text_direction(&plan.config.templates, e)).collect();
    let judges = Judges {
        plan,
        sources: &sources,
        observer,
        metrics: metrics::all(networks, asked),
        lpips,
        directions: Tensor::cat(&directions, 0),
        gallery: Gallery::create(folder)?,
        featured: featured(&methods_by_emotion),
        sweep: spread(sources.len(), plan.config.pictures.sweep).collect(),
    };
    let evaluated_methods = evaluated_methods(plan, &methods_by_emotion);
    let Some(whole) = judges.run(&methods_by_emotion, &evaluated_methods, parts, ranks)? else { return Ok(None) };
    let Whole { scores, sets, judgements } = whole;
    let Judges { observer, gallery, featured, sweep, .. } = judges;
    Ok(Some(Evaluation {
        scores,
        sets,
        judgements,
        gallery,
        style,
        evaluated_methods,
        featured,
        sweep,
        observer,
        sources,
    }))
}

/// The networks that the metrics use themselves.
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

/// One entry a strength, or a single none for a method that has no strengths.
fn strengths_or_none(strengths: &[f64]) -> Vec<Option<f64>> {
    match strengths {
        [] => vec![None],
        strengths => strengths.iter().copied().map(Some).collect(),
    }
}

impl Judges<'_> {
    /// Evaluates this process's share; returns the numbers of all processes on the first.
    fn run(
        &self, methods_by_emotion: &[EmotionMethods], evaluated_methods: &[(Emotion, Vec<EvaluatedMethod>)],
        parts: &Parts, ranks: &Ranks,
    ) -> Result<Option<Whole>> {
        let (scores, sets) = (self.scores(evaluated_methods), self.sets(evaluated_methods));
        let jobs = jobs::all(self.plan, self.sources.len(), ranks)?;
        let ours: Vec<&Job> = jobs.iter().enumerate().filter(|(k, _)| ranks.owns(*k)).map(|(_, job)| job).collect();
        let edits = |job: &&Job| {
            job.missing(methods_by_emotion, parts).into_iter().map(EmotionMethods::edits).sum::<usize>() * job.len()
        };
        let edits = ours.iter().map(edits).sum::<usize>() as u64;
        let progress = Progress::new("evaluating", "edits", edits, ranks.is_first());
        let found = || Found::new(self.scores(evaluated_methods));
        for job in ours {
            match job {
                Job::Sources(span) => {
                    let missing = job.missing(methods_by_emotion, parts);
                    let batches = if missing.is_empty() { Vec::new() } else { self.batches(span)? };
                    for group in missing {
                        let mut found = found();
                        for before in &batches {
                            ranks.check()?;
                            self.judge(&mut found, group, before, &progress)?;
                        }
                        parts.save(&edits_part(span, group.emotion), found.into_part())?;
                    }
                }
                Job::References(emotion, own, span) => {
                    let name = references_part(span, *emotion);
                    if !parts.has(&name) {
                        ranks.check()?;
                        let mut found = found();
                        self.see_references(&mut found, *emotion, own, span)?;
                        parts.save(&name, found.into_part())?;
                    }
                }
            }
        }
        drop(progress);
        if !ranks.is_first() {
            return Ok(None);
        }
        let mut whole = Whole::new(scores, sets);
        let _gathering = Progress::unbounded("gathering all processes' parts", true);
        for (k, job) in jobs.iter().enumerate() {
            for name in job.parts(methods_by_emotion) {
                let part = parts.wait(&name, || ranks.check_owner(k))?;
                whole.add(part).map_err(|message| parts.refused(&name, message))?;
            }
        }
        whole.scores.series.iter_mut().for_each(|series| series.cases.sort_by_key(|case| case.source));
        Ok(Some(whole))
    }

    /// A table with a place for every method.
    fn scores(&self, evaluated_methods: &[(Emotion, Vec<EvaluatedMethod>)]) -> ScoreTable {
        let mut scores = ScoreTable::new(&self.metrics, self.observer.judges().len());
        for (emotion, method) in each(evaluated_methods) {
            for strength in strengths_or_none(&method.strengths) {
                scores.open(method.about.key, emotion, strength);
            }
        }
        scores
    }

    /// Sums with a place for every method but the shuffled control, whose edits are another row's.
    fn sets(&self, evaluated_methods: &[(Emotion, Vec<EvaluatedMethod>)]) -> Sets {
        let projection = self.observer.clip().projection_dim();
        let mut sets = Sets::new(&self.plan.emotions, projection, self.plan.config.models.inception.is_some());
        for (emotion, method) in each(evaluated_methods).filter(|(_, method)| method.about.key != SHUFFLED) {
            sets.open(Set::Edits { method: method.about.key.into(), emotion });
        }
        sets
    }

    fn see_references(&self, found: &mut Found, emotion: Emotion, own: &Sources, span: &Range<usize>) -> Result<()> {
        let mut first = span.start;
        while first < span.end {
            let pictures = own.batch(first, span.end - first)?.pictures;
            let rows: Vec<i64> = (0..pictures.len() as i64).collect();
            let observed = self.observer.observe(&pictures);
            found.judgements.see(emotion, &observed);
            found.seen.push((Set::References { emotion }, Seen::new(&observed, None, &rows)));
            first += pictures.len();
        }
        Ok(())
    }

    /// The sources of a span as the judges see them, grouped by shape.
    fn batches(&self, span: &Range<usize>) -> Result<Vec<Before>> {
        let mut batches = Vec::new();
        let mut first = span.start;
        while first < span.end {
            let mut batch = self.sources.batch(first, span.end - first)?;
            first += batch.pictures.len();
            for &emotion in &self.plan.emotions {
                batch.truth.insert(emotion, self.sources.true_pictures(&batch, emotion)?);
            }
            self.keep_all(&batch.pictures, batch.first, "source", None, None)?;
            batches.push(Before::new(batch, self.sources, &self.observer)?);
        }
        Ok(batches)
    }

    /// Every method of one emotion on one batch.
    fn judge(&self, found: &mut Found, group: &EmotionMethods, before: &Before, progress: &Progress) -> Result<()> {
        for method in &group.methods {
            let method = method.as_ref();
            match method.looks_at_emotion() {
                false => self.score_once(found, method, group.emotion, before)?,
                true => self.score(found, method, group.emotion, before)?,
            }
            progress.inc((method.strengths().len().max(1) * before.batch.pictures.len()) as u64);
        }
        Ok(())
    }

    /// A method that does not depend on the emotion: its edits are made and observed once, for the first emotion, and
    /// measured for each.
    fn score_once(&self, found: &mut Found, method: &dyn Method, emotion: Emotion, before: &Before) -> Result<()> {
        let key = method.about().key;
        let known = before.unswept.borrow().get(key).cloned();
        let edits = match known {
            Some(edits) => edits,
            None => {
                let (mut made, seconds) = make(method, &before.batch)?;
                let Made { pictures, failed, .. } = made.remove(0);
                self.keep_all(&pictures, before.batch.first, key, None, None)?;
                found.scores.took(key, emotion, None, seconds, before.batch.pictures.len());
                let edits = Rc::new((self.observer.observe(&pictures), failed));
                before.unswept.borrow_mut().insert(key, edits.clone());
                edits
            }
        };
        let (seen, failed) = (&edits.0, &edits.1);
        let edits = Edits { seen, failed, emotion, takes: &vec![true; failed.len()] };
        let targets = vec![emotion; failed.len()];
        found.scores.add(key, emotion, None, self.measure(before, &edits, &targets));
        self.see(found, key, &edits, before);
        Ok(())
    }

    fn score(&self, found: &mut Found, method: &dyn Method, emotion: Emotion, before: &Before) -> Result<()> {
        let (key, batch) = (method.about().key, &before.batch);
        let (featured, takes) = (self.featured == Some(key), method.takes(batch));
        let targets = vec![emotion; batch.pictures.len()];
        if !takes.contains(&true) {
            return Ok(());
        }
        let (made, seconds) = make(method, batch)?;
        for Made { strength, pictures, failed } in made {
            let is_headline = strength == method.headline();
            let seen = self.observer.observe(&pictures);
            let edits = Edits { seen: &seen, failed: &failed, emotion, takes: &takes };
            found.scores.took(key, emotion, strength, seconds, batch.pictures.len());
            found.scores.add(key, emotion, strength, self.measure(before, &edits, &targets));
            if is_headline {
                self.see(found, key, &edits, before);
            }
            self.keep(&pictures, &edits, before, key, strength, is_headline)?;
            if is_headline && featured {
                self.keep_truth(&edits, before)?;
            }
            if is_headline && featured && self.plan.config.shuffled {
                let place = |row: usize| (batch.first + row) as u64;
                let draw = |row: usize| another_emotion(self.plan.config.bootstrap.seed, emotion, place(row));
                let others: Vec<Emotion> = (0..batch.pictures.len()).map(draw).collect();
                found.scores.add(SHUFFLED, emotion, strength, self.measure(before, &edits, &others));
            }
        }
        Ok(())
    }

    /// Collects what the metrics of whole sets need from the edits that the headline counts.
    fn see(&self, found: &mut Found, key: &'static str, edits: &Edits<'_>, before: &Before) {
        let is_there = |row: &i64| edits.takes[*row as usize] && !edits.failed[*row as usize];
        let rows: Vec<i64> = self.counted(edits.emotion, &before.batch).into_iter().filter(is_there).collect();
        if !rows.is_empty() {
            let set = Set::Edits { method: key.into(), emotion: edits.emotion };
            found.seen.push((set, Seen::new(edits.seen, Some(&before.source), &rows)));
        }
    }

    /// The rows of a batch that the headline counts.
    fn counted(&self, emotion: Emotion, batch: &Batch) -> Vec<i64> {
        let counts = |place: &i64| {
            !(self.plan.config.sources.exclude_target && self.sources.shows(batch.first + *place as usize, emotion))
        };
        (0..batch.pictures.len() as i64).filter(counts).collect()
    }

    /// `targets` differ from the emotions of the edits in the shuffled control only, which has no true pictures.
    fn measure(&self, before: &Before, edits: &Edits<'_>, targets: &[Emotion]) -> Vec<Case> {
        let rows: Vec<i64> = targets.iter().map(|t| t.index() as i64).collect();
        let rows = Tensor::from_slice(&rows).to_kind(Kind::Int64).to_device(self.directions.device());
        let text_directions = self.directions.index_select(0, &rows);
        let as_asked = targets.iter().all(|target| *target == edits.emotion);
        let truth = as_asked.then(|| before.truth(edits.emotion, &self.lpips)).flatten();
        let truth = truth.map(|truth| truth.nearest(edits.seen, &self.lpips));
        let pair = Pair {
            source: &before.source,
            edit: edits.seen,
            targets,
            text_directions: &text_directions,
            truth: truth.as_ref(),
        };
        let shows = |index| self.sources.shows(index, edits.emotion);
        let first = before.batch.first;
        let cases = measure(&self.metrics, &pair, &before.others, first, edits.failed, shows);
        cases.into_iter().zip(edits.takes).filter(|(_, takes)| **takes).map(|(case, _)| case).collect()
    }

    /// Stores pictures that the report may show: every headline edit, and every strength of the sweep's sources.
    fn keep(
        &self, pictures: &[image::RgbImage], edits: &Edits<'_>, before: &Before, method: &'static str,
        strength: Option<f64>, headline: bool,
    ) -> Result<()> {
        let (first, emotion) = (before.batch.first, Some(edits.emotion));
        for (place, picture) in pictures.iter().enumerate().filter(|(place, _)| edits.takes[*place]) {
            if !edits.failed[place] && (headline || self.sweep.contains(&(first + place))) {
                self.gallery.keep(Key { source: first + place, method, emotion, strength }, picture)?;
            }
        }
        Ok(())
    }

    /// Stores the true pictures that are nearest to the featured method's edits.
    fn keep_truth(&self, edits: &Edits<'_>, before: &Before) -> Result<()> {
        let Some(truth) = before.truth(edits.emotion, &self.lpips) else { return Ok(()) };
        let nearest = truth.nearest(edits.seen, &self.lpips);
        for row in 0..before.batch.pictures.len() {
            if let Some(picture) = nearest.picture(row) {
                let source = before.batch.first + row;
                let key = Key { source, method: TRUTH, emotion: Some(edits.emotion), strength: None };
                self.gallery.keep(key, &picture)?;
            }
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
