//! The one thread that computes: it owns the editors, and keeps inversions and changes as long as there is room.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use diffusion::edit::{Editor, Source};
use diffusion::images::{self, Photo};
use diffusion::pipeline::{self, Pipeline};
use diffusion::run::{Run, RunConfig};
use hub::Hub;
use image::ImageFormat;
use tch::{Device, Kind, Tensor};
use tracing::{error, info};

use super::cache::Cache;
use super::id::Id;
use super::queue::{Answer, EditRequest, Format, Job, Quality, Queue, Turn, Work};
use super::refusal::Refusal;
use super::store::{Entry, State, Store};

/// How long the thread sleeps at most before it looks for photos that are gone.
const IDLE: Duration = Duration::from_secs(1);

/// Where the models are.
pub struct Models<'a> {
    /// In place of the runs' own base model.
    pub model: Option<&'a str>,
    /// Where to compute.
    pub device: Device,
    /// Looks names up.
    pub hub: &'a Hub,
}

/// The editors of all runs.
pub struct Engine {
    editors: Vec<Editor>,
    /// For each run the first one whose inversions serve it too.
    inverts_as: Vec<usize>,
    sources: Cache<(Id, usize), Source>,
    changes: Cache<ChangeOf, Tensor>,
}

/// What a change depends on. Numbers are compared by their bits.
#[derive(PartialEq)]
struct ChangeOf {
    photo: Id,
    run: usize,
    emotions: Vec<(String, u64)>,
    strength: u64,
}

impl Engine {
    /// Reads every run's weights, and each base model once. Beside the editors, returns what each run's base model has
    /// seen only. `bytes` is the room for inversions, and half as much for changes.
    pub fn load(runs: &[Run], models: &Models<'_>, bytes: u64) -> Result<(Self, Vec<Option<String>>)> {
        let mut pipelines: Vec<(Rc<Pipeline>, PathBuf)> = Vec::new();
        let (mut editors, mut seen) = (Vec::new(), Vec::new());
        for run in runs {
            let known = pipelines.iter().position(|(pipeline, _)| pipeline.hashes == run.config.base.hashes);
            let at = match known {
                Some(at) => at,
                None => {
                    let folder = folder(run, models)?;
                    let pipeline = Pipeline::load(&folder, models.device, Kind::Float)?;
                    info!(model = %folder.display(), device = ?models.device, "model read");
                    pipelines.push((Rc::new(pipeline), folder));
                    pipelines.len() - 1
                }
            };
            let (pipeline, folder) = &pipelines[at];
            editors.push(Editor::new(pipeline.clone(), run, models.device)?);
            seen.push(pipeline::seen_only(folder));
        }
        let configs: Vec<&RunConfig> = editors.iter().map(Editor::config).collect();
        let inverts_as = configs.iter().map(|config| {
            configs.iter().position(|first| same_inversion(first, config)).expect("a run inverts as itself")
        });
        let inverts_as = inverts_as.collect();
        Ok((Self { editors, inverts_as, sources: Cache::new(bytes), changes: Cache::new(bytes / 2) }, seen))
    }

    /// Works until the queue is closed.
    pub fn work(mut self, queue: &Queue, store: &Store) {
        loop {
            let turn = queue.next(IDLE);
            self.sources.retain(|(photo, _)| store.holds(*photo));
            self.changes.retain(|change| store.holds(change.photo));
            match turn {
                Turn::Job(job) => {
                    let begun = Instant::now();
                    self.answer(job, queue);
                    queue.done(begun.elapsed().as_secs_f64());
                }
                Turn::Idle => {}
                Turn::Closed => return,
            }
        }
    }

    fn answer(&mut self, job: Job, queue: &Queue) {
        let goes_on = || !job.is_left() && !queue.is_closed();
        match &job.work {
            Work::Invert(run) => {
                if let Err(refusal) = guarded(|| self.source(&job.entry, *run, &goes_on)) {
                    job.entry.set_state(State::Failed(refusal));
                }
            }
            Work::Edit(request, _) => {
                let answer = guarded(|| self.edit(&job.entry, request, &goes_on));
                job.entry.touch();
                if let Work::Edit(_, sender) = job.work {
                    // Whoever has gone meanwhile needs no answer.
                    let _ = sender.send(answer);
                }
            }
        }
    }

    fn edit(&mut self, entry: &Entry, request: &EditRequest, goes_on: &dyn Fn() -> bool) -> Answer {
        let EditRequest { run, emotions, strength, .. } = request;
        let key = ChangeOf {
            photo: entry.id,
            run: *run,
            emotions: emotions.iter().map(|(emotion, weight)| (emotion.clone(), weight.to_bits())).collect(),
            strength: strength.to_bits(),
        };
        let known = self.changes.get(&key).map(Tensor::shallow_clone);
        let change = match known {
            Some(change) => change,
            None => {
                self.source(entry, *run, goes_on)?;
                let source = self.sources.get(&(entry.id, self.inverts_as[*run])).ok_or_else(Refusal::failed)?;
                let change = self.editors[*run].change(source, emotions, *strength);
                let change = change.map_err(|e| Refusal::of_edit(&e))?;
                let bytes = bytes_of(&change);
                self.changes.put(key, change.shallow_clone(), bytes);
                change
            }
        };
        if !goes_on() {
            return Err(Refusal::stopping());
        }
        let photo = at_size(entry, request.quality);
        let edited = self.editors[*run].finished_photo(photo, &change).map_err(|e| Refusal::of_edit(&e))?;
        encoded(&edited, request.format)
    }

    /// Inverts the photo for `run`, unless that is at hand.
    fn source(&mut self, entry: &Entry, run: usize, goes_on: &dyn Fn() -> bool) -> Result<(), Refusal> {
        let key = (entry.id, self.inverts_as[run]);
        if self.sources.get(&key).is_some() {
            entry.set_state(State::Ready);
            return Ok(());
        }
        let editor = &self.editors[run];
        let mut watch = |done: usize, of: usize| {
            entry.set_state(State::Inverting(done, of));
            goes_on()
        };
        let inverted = editor.source_of_photo_watched(&entry.photo, editor.config().resolution, &mut watch);
        let source = inverted.map_err(|e| Refusal::of_edit(&e))?.ok_or_else(Refusal::stopping)?;
        let tensors = [&source.images, &source.round_trip, &source.trajectory.latents, &source.trajectory.outputs];
        let bytes = tensors.map(bytes_of).iter().sum();
        self.sources.put(key, source, bytes);
        entry.set_state(State::Ready);
        Ok(())
    }
}

/// Whether an inversion for one run serves the other too.
fn same_inversion(a: &RunConfig, b: &RunConfig) -> bool {
    a.base.hashes == b.base.hashes
        && a.prompts.source == b.prompts.source
        && a.edit.num_inversion_steps == b.edit.num_inversion_steps
        && a.resolution == b.resolution
}

fn folder(run: &Run, models: &Models<'_>) -> Result<PathBuf> {
    match models.model {
        Some(model) => models.hub.model(model).context("--model"),
        None => {
            let named = format!("the base model of {} (name its folder with --model)", run.folder.display());
            models.hub.model(&run.config.base.name).context(named)
        }
    }
}

/// The photo at the asked size.
pub fn at_size(entry: &Entry, quality: Quality) -> &Photo {
    match quality {
        Quality::Preview => entry.preview(),
        Quality::Full => &entry.photo,
    }
}

/// The content of a file of `photo`.
pub fn encoded(photo: &Photo, format: Format) -> Answer {
    let format = match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Webp => ImageFormat::WebP,
    };
    images::encoded_photo(photo, format).map_err(|e| Refusal::of_edit(&e))
}

fn bytes_of(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

/// libtorch's errors come as panics, as one of memory that ran out: they end the job, and not the server.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        error!("an edit ended in a panic");
        Err(Refusal::failed())
    })
}
