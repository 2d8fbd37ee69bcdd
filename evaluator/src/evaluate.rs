//! The evaluation: sources in batches, every method of every emotion on each, nothing kept but numbers.

use std::path::PathBuf;
use std::rc::Rc;

use dataloader::Emotion;
use diffusion::networks::lpips::{Backbone, Lpips};
use rand::Rng;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::gallery::{Gallery, Key};
use crate::methods::{self, lineups, pictures_of, Lineup, Method, SHUFFLED};
use crate::metrics::{self, Metric, Observed, Pair};
use crate::observe::Observer;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::scores::{measure, Board};
use crate::sources::{spread, Batch, Sources};

/// A finished evaluation.
pub struct Evaluation {
    /// The photos.
    pub sources: Sources,
    /// The numbers.
    pub board: Board,
    /// The pictures.
    pub gallery: Gallery,
    /// The methods of each emotion, the shuffled control after the other controls.
    pub entrants: Vec<(Emotion, Vec<Entrant>)>,
    /// The method whose cases are shown.
    pub featured: Option<&'static str>,
    /// Sources of the strength sweep.
    pub sweep: Vec<usize>,
    /// The judges, for the report's account of them.
    pub observer: Observer,
}

/// A method as it took part.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// Name and definition.
    pub about: methods::About,
    /// Its strengths, ascending.
    pub strengths: Vec<f64>,
    /// The headline's.
    pub headline: Option<f64>,
}

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

/// Loads everything, edits and scores; pictures go to `folder`.
pub fn evaluate(plan: &Plan, folder: PathBuf) -> Result<Evaluation> {
    let sources = Sources::open(&plan.config.sources)?;
    let observer = Observer::load(&plan.config.models.classifier, &plan.clip, plan.device)?;
    let lpips = Lpips::load(&plan.config.models.lpips, Backbone::Alex, plan.device)?;
    let lineups = lineups(plan)?;
    let directions: Vec<Tensor> =
        Emotion::ALL.iter().map(|&e| observer.text_direction(&plan.config.templates, e)).collect();
    let judges = Judges {
        plan,
        sources: &sources,
        observer,
        metrics: metrics::all(lpips),
        directions: Tensor::cat(&directions, 0),
        gallery: Gallery::create(folder)?,
        sweep: spread(sources.len(), plan.config.pictures.sweep).collect(),
    };
    let board = judges.run(&lineups)?;
    let (featured, entrants) = (featured(&lineups), entrants(plan, &lineups));
    let Judges { observer, gallery, sweep, .. } = judges;
    Ok(Evaluation { board, gallery, entrants, featured, sweep, observer, sources })
}

/// The joint run where there is one, else the last trained method.
fn featured(lineups: &[Lineup]) -> Option<&'static str> {
    let trained = || lineups.iter().flat_map(|l| &l.methods).map(|m| m.about()).filter(|a| !a.control);
    trained().find(|a| a.key == "joint").or(trained().next_back()).map(|a| a.key)
}

fn entrants(plan: &Plan, lineups: &[Lineup]) -> Vec<(Emotion, Vec<Entrant>)> {
    let shuffled = featured(lineups).filter(|_| plan.config.shuffled_target);
    let of = |method: &Rc<dyn Method>| Entrant {
        about: method.about(),
        strengths: method.strengths().to_vec(),
        headline: method.headline(),
    };
    let all = |lineup: &Lineup| {
        let mut entrants: Vec<Entrant> = lineup.methods.iter().map(of).collect();
        if let Some(key) = shuffled.filter(|key| entrants.iter().any(|e| e.about.key == *key)) {
            let headline = entrants.iter().find(|e| e.about.key == key).and_then(|e| e.headline);
            let place = entrants.iter().take_while(|e| e.about.control).count();
            let about = methods::ABOUT_SHUFFLED;
            entrants.insert(place, Entrant { about, strengths: headline.into_iter().collect(), headline });
        }
        (lineup.emotion, entrants)
    };
    lineups.iter().map(all).collect()
}

impl Judges<'_> {
    fn run(&self, lineups: &[Lineup]) -> Result<Board> {
        let edits_each: usize = lineups.iter().flat_map(|l| &l.methods).map(|m| m.strengths().len().max(1)).sum();
        let mut progress = Progress::new(self.sources.len() * edits_each);
        let mut board = Board::new(&self.metrics);
        let featured = featured(lineups);
        let mut first = 0;
        while first < self.sources.len() {
            let batch = self.sources.batch(first, self.plan.config.batch_size)?;
            let source = self.observer.observe(&batch.pictures);
            self.keep_all(&batch.pictures, first, "source", None, None)?;
            for lineup in lineups {
                for method in &lineup.methods {
                    let edits = method.edits(&batch)?;
                    let count = edits.len() * batch.pictures.len();
                    let is_featured = featured == Some(method.about().key);
                    self.score(&mut board, method.as_ref(), lineup.emotion, &batch, &source, edits, is_featured)?;
                    progress.advance(count);
                }
            }
            first += batch.pictures.len();
        }
        progress.finish();
        Ok(board)
    }

    #[allow(clippy::too_many_arguments)]
    fn score(
        &self, board: &mut Board, method: &dyn Method, emotion: Emotion, batch: &Batch, source: &Observed,
        edits: Vec<Tensor>, is_featured: bool,
    ) -> Result<()> {
        let key = method.about().key;
        let strengths: Vec<Option<f64>> = match method.strengths() {
            [] => vec![None],
            strengths => strengths.iter().copied().map(Some).collect(),
        };
        let targets = vec![emotion; batch.pictures.len()];
        for (strength, edit) in strengths.into_iter().zip(edits) {
            let pictures = pictures_of(&edit)?;
            let edit = self.observer.observe(&pictures);
            board.add(key, emotion, strength, self.measure(source, &edit, &targets, emotion, batch.first));
            let headline = strength == method.headline();
            self.keep(&pictures, batch.first, key, emotion, strength, headline)?;
            if headline && is_featured && self.plan.config.shuffled_target {
                let others = self.shuffled(emotion, batch);
                board.add(SHUFFLED, emotion, strength, self.measure(source, &edit, &others, emotion, batch.first));
            }
        }
        Ok(())
    }

    /// `emotion` is what the edits were made for; `targets` differ from it in the shuffled control alone.
    fn measure(
        &self, source: &Observed, edit: &Observed, targets: &[Emotion], emotion: Emotion, first: usize,
    ) -> Vec<crate::scores::Case> {
        let rows: Vec<i64> = targets.iter().map(|t| t.index() as i64).collect();
        let rows = Tensor::from_slice(&rows).to_kind(Kind::Int64).to_device(self.directions.device());
        let text_directions = self.directions.index_select(0, &rows);
        let pair = Pair { source, edit, targets, text_directions: &text_directions };
        measure(&self.metrics, &pair, first, |index| self.sources.shows(index, emotion))
    }

    /// One of the other seven emotions for each source of the batch, drawn from the seed and the source's place.
    fn shuffled(&self, emotion: Emotion, batch: &Batch) -> Vec<Emotion> {
        let others: Vec<Emotion> = Emotion::ALL.into_iter().filter(|&e| e != emotion).collect();
        let draw = |place: usize| {
            let seed = self.plan.config.bootstrap.seed;
            let mut generator = diffusion::noise::generator(seed, emotion.name(), (batch.first + place) as u64);
            others[generator.random_range(0..others.len())]
        };
        (0..batch.pictures.len()).map(draw).collect()
    }

    /// Keeps what the report may show: every headline edit, and every strength of the sweep's sources.
    fn keep(
        &self, pictures: &[image::RgbImage], first: usize, method: &'static str, emotion: Emotion,
        strength: Option<f64>, headline: bool,
    ) -> Result<()> {
        let emotion = strength.map(|_| emotion);
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
