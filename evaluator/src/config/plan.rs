//! The recipe, resolved: every value is checked and every folder found, but nothing is loaded yet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diffusion::detail::Detail;
use diffusion::run::Run;
use diffusion::weights::TRANSFORMERS_STEM;
use emotions::{template, Emotion};
use hub::Hub;
use judge::classifier;
use tch::Device;

use crate::config::published::Published;
use crate::config::sweep::Sweep;
use crate::config::{Config, Models, RunMethod};
use crate::error::{Error, Result};
use crate::evaluation::ranks::Ranks;
use crate::methods::baselines::PlannedBaseline;
use crate::metrics::emotion;
use crate::report::gates::Gate;

/// What will be evaluated.
#[derive(Debug)]
pub struct Plan {
    /// The recipe as written.
    pub config: Config,
    /// The emotions, alphabetical.
    pub emotions: Vec<Emotion>,
    /// The runs, one entry for each method and emotion.
    pub runs: Vec<PlannedRun>,
    /// The other methods, in the report's order.
    pub baselines: Vec<PlannedBaseline>,
    /// The pipeline's folder and its name in the report.
    pub base: (String, PathBuf),
    /// The scoring CLIP's folder.
    pub clip: PathBuf,
    /// The classifiers that judge, at least one.
    pub judges: Vec<PlannedJudge>,
    /// The conditions on the report.
    pub gates: Vec<Gate>,
    /// Figures of papers.
    pub published: Vec<Published>,
    /// Where to compute.
    pub device: Device,
}

/// A run that will be scored for one emotion.
#[derive(Clone, Debug)]
pub struct PlannedRun {
    /// What it trained.
    pub method: RunMethod,
    /// The emotion it is scored for.
    pub emotion: Emotion,
    /// The folder as the report names it.
    pub name: String,
    /// Its settings.
    pub run: Run,
}

/// A classifier that will judge.
#[derive(Clone, Debug)]
pub struct PlannedJudge {
    /// Its folder.
    pub folder: PathBuf,
    /// The folder of the CLIP that it reads; none for a classifier of pixels.
    pub clip: Option<PathBuf>,
}

impl Plan {
    /// Checks `config`; `hub` finds models named by an id, and `ranks` says which device this process uses.
    pub fn new(config: Config, hub: Hub, ranks: &Ranks) -> Result<Self> {
        check_numbers(&config)?;
        let hub = hub.or_offline(config.models.offline);
        let runs = open_runs(&config)?;
        let emotions: BTreeSet<Emotion> = match asked(&config) {
            asked if asked.is_empty() => runs.iter().map(|r| r.emotion).collect(),
            asked => asked.into_iter().collect(),
        };
        if emotions.is_empty() {
            return Err(Error::config("emotions", "name at least one, or give runs"));
        }
        let emotions: Vec<Emotion> = emotions.into_iter().collect();
        let baselines = PlannedBaseline::all(&config, &emotions)?;
        check_headline(&config, &runs, &baselines)?;
        let base_name = base_name(&config, &runs)?;
        let base = hub.model(&base_name)?;
        let clip = hub.model(&config.models.clip)?;
        check_weights(&config.models)?;
        let judges = judges(&config, &hub)?;
        for judge in &judges {
            refuse_judge_of_a_loss(&judge.folder, &runs, &baselines)?;
            if let Some(folder) = judge.clip.as_deref().filter(|_| !config.models.allow_classifier_on_loss_clip) {
                refuse_eyes_of_a_loss(&judge.folder, folder, &runs, &baselines)?;
            }
        }
        let gates = config.gates.iter().enumerate().map(|(i, g)| Gate::parse(i, g)).collect::<Result<_>>()?;
        let published = config.published.iter().enumerate();
        let published = published.map(|(i, path)| Published::read(&format!("published.{i}"), path));
        let published = published.collect::<Result<_>>()?;
        let device = ranks.device(config.models.device)?;
        let base = (base_name, base);
        Ok(Self { emotions, runs, baselines, base, clip, judges, gates, published, device, config })
    }

    /// How the featured run restores detail after decoding; `Detail::None` if no run says.
    pub fn detail(&self) -> Detail {
        let joint = self.runs.iter().find(|planned| planned.method == RunMethod::Joint);
        joint.or(self.runs.last()).map_or(Detail::None, |planned| planned.run.config.edit.detail)
    }

    /// The strengths of a trained run.
    pub fn sweep(&self, method: RunMethod) -> Sweep {
        Sweep::new(
            &self.config.headline.per_method,
            method.key(),
            &self.config.strengths,
            self.config.headline.strength,
        )
    }
}

fn asked(config: &Config) -> Vec<Emotion> {
    config.emotion.map_or_else(|| config.emotions.clone(), |e| vec![e])
}

fn check_numbers(config: &Config) -> Result<()> {
    let strengths = config.strengths.iter().chain(config.headline.per_method.values());
    let strengths = strengths.chain(config.methods.iter().flat_map(|m| m.strengths()));
    if strengths.chain([&config.headline.strength]).any(|s| !s.is_finite()) {
        return Err(Error::config("strengths", "must be finite numbers"));
    }
    if config.emotion.is_some() && config.emotions.len() > 1 {
        return Err(Error::config("emotion", "give either emotion or emotions"));
    }
    if config.batch_size == 0 {
        return Err(Error::config("batch_size", "must be at least 1"));
    }
    for (key, limit) in [("sources", config.sources.max_images), ("references", config.references.max_images)] {
        if limit == Some(0) {
            return Err(Error::config(format!("{key}.max_images"), "must be at least 1"));
        }
    }
    if config.templates.is_empty() {
        return Err(Error::config("templates", "at least one pair of prompts is needed"));
    }
    for (place, pair) in config.templates.iter().enumerate() {
        let refuse = |side: &str, message: String| Error::config(format!("templates.{place}.{side}"), message);
        template::check_target(&pair.target).map_err(|message| refuse("target", message))?;
        template::fill(&pair.source, Emotion::Amusement, None).map_err(|message| refuse("source", message))?;
    }
    Ok(())
}

/// The headline may only name methods that take part and have strengths.
fn check_headline(config: &Config, runs: &[PlannedRun], baselines: &[PlannedBaseline]) -> Result<()> {
    let known: BTreeSet<&str> =
        runs.iter().map(|r| r.method.key()).chain(baselines.iter().map(|b| b.settings.about().key)).collect();
    let named = config.headline.per_method.keys().map(|key| ("headline.per_method", key));
    for (place, key) in named.chain(config.headline.equal_lpips.iter().map(|key| ("headline.equal_lpips", key))) {
        if !known.contains(key.as_str()) {
            let known = known.iter().copied().collect::<Vec<_>>().join(", ");
            return Err(Error::config(place, format!("{key} does not take part; those that do: {known}")));
        }
    }
    Ok(())
}

/// Opens every entry's folder, or one folder for each emotion if its path has `{emotion}`.
fn open_runs(config: &Config) -> Result<Vec<PlannedRun>> {
    let mut runs: Vec<PlannedRun> = Vec::new();
    for (index, entry) in config.runs.iter().enumerate() {
        let wanted = entry.emotion.map_or_else(|| asked(config), |e| vec![e]);
        if !entry.run.contains("{emotion}") {
            add_run(&mut runs, index, entry.method, &entry.run, &wanted)?;
            continue;
        }
        if wanted.is_empty() {
            let message = "has {emotion} in it: list the emotions under emotions";
            return Err(Error::config(format!("runs.{index}.run"), message));
        }
        for emotion in wanted {
            let folder = entry.run.replace("{emotion}", emotion.name());
            add_run(&mut runs, index, entry.method, &folder, &[emotion])?;
        }
    }
    Ok(runs)
}

/// Adds the run in `folder` for each of `wanted` that it was trained for; if none is wanted, for all of them.
fn add_run(
    runs: &mut Vec<PlannedRun>, index: usize, method: RunMethod, folder: &str, wanted: &[Emotion],
) -> Result<()> {
    let run = Run::open(Path::new(folder))?;
    if let Some(warning) = run.config.edit.warning() {
        tracing::warn!("{folder}: {warning}");
    }
    check_parts(index, method, folder, &run)?;
    let known: Vec<Emotion> = run.config.emotions.iter().filter_map(|e| e.parse().ok()).collect();
    let emotions: Vec<Emotion> = known.iter().copied().filter(|e| wanted.is_empty() || wanted.contains(e)).collect();
    if emotions.is_empty() {
        let names = |e: &[Emotion]| e.iter().map(|e| e.name()).collect::<Vec<_>>().join(", ");
        let message = format!("{folder} was trained for {}, not for {}", names(&known), names(wanted));
        return Err(Error::config(format!("runs.{index}"), message));
    }
    for emotion in emotions {
        if runs.iter().any(|r| r.method == method && r.emotion == emotion) {
            let message = format!("a second {} run for {emotion}; one is enough", method.key());
            return Err(Error::config(format!("runs.{index}"), message));
        }
        runs.push(PlannedRun { method, emotion, name: folder.to_string(), run: run.clone() });
    }
    Ok(())
}

/// A run must contain what its method is said to have trained, and nothing else.
fn check_parts(index: usize, method: RunMethod, folder: &str, run: &Run) -> Result<()> {
    let (tokens, delta) = (run.config.tokens.is_some(), run.config.delta.is_some());
    let found = match (tokens, delta) {
        (true, true) => RunMethod::Joint,
        (true, false) => RunMethod::TextualInversion,
        _ => RunMethod::Asyrp,
    };
    if found == method {
        return Ok(());
    }
    let message = format!("{folder} is a {} run, not {}", found.key(), method.key());
    Err(Error::config(format!("runs.{index}.method"), message))
}

fn base_name(config: &Config, runs: &[PlannedRun]) -> Result<String> {
    let of_runs = runs.first().map(|r| r.run.config.base.name.clone());
    config.models.base.clone().or(of_runs).ok_or_else(|| Error::config("models.base", "needed where there are no runs"))
}

/// A run was optimised to please its loss's networks: none of them may score it, under any name.
fn refuse_judge_of_a_loss(classifier: &Path, runs: &[PlannedRun], baselines: &[PlannedBaseline]) -> Result<()> {
    let hash = diffusion::weights::hash(classifier, TRANSFORMERS_STEM)?;
    let Some((folder, clip)) = loss_with(&hash, runs, baselines) else { return Ok(()) };
    let place = classifier.display();
    let message = format!("{place} is {clip}, which took part in the loss of {folder}; use another one");
    Err(Error::config("models.classifier", message))
}

/// A classifier that reads the embeddings of a loss's CLIP is no independent judge either.
fn refuse_eyes_of_a_loss(
    classifier: &Path, clip: &Path, runs: &[PlannedRun], baselines: &[PlannedBaseline],
) -> Result<()> {
    let hash = diffusion::weights::hash(clip, TRANSFORMERS_STEM)?;
    let Some((run, clip)) = loss_with(&hash, runs, baselines) else { return Ok(()) };
    Err(Error::ClassifierOnLossClip { folder: classifier.to_path_buf(), clip, run })
}

/// The first run whose loss had the network with this hash, and that network's name.
fn loss_with(hash: &str, runs: &[PlannedRun], baselines: &[PlannedBaseline]) -> Option<(String, String)> {
    let of_runs = runs.iter().map(|planned| (&planned.name, &planned.run));
    let of_baselines = baselines
        .iter()
        .filter(|b| b.settings.is_trained())
        .flat_map(|b| b.runs.values())
        .map(|(name, run)| (name, run));
    of_runs.chain(of_baselines).find_map(|(folder, run)| {
        let clip = run.config.loss_clip.as_ref().filter(|clip| clip.hash == hash)?;
        Some((folder.clone(), clip.name.clone()))
    })
}

/// Every judge with the CLIP that it reads, if it reads one: the recipe's, otherwise the one that it names.
fn judges(config: &Config, hub: &Hub) -> Result<Vec<PlannedJudge>> {
    let clip = |folder: &PathBuf| -> Result<Option<PathBuf>> {
        let Some(named) = classifier::clip_of(folder)? else { return Ok(None) };
        Ok(Some(hub.model(config.models.classifier_clip.as_ref().unwrap_or(&named))?))
    };
    let planned = config.models.judges().map(|folder| Ok(PlannedJudge { folder: folder.clone(), clip: clip(folder)? }));
    let planned: Vec<PlannedJudge> = planned.collect::<Result<_>>()?;
    let mut known: Vec<String> = Vec::new();
    for judge in &planned {
        let hash = diffusion::weights::hash(&judge.folder, TRANSFORMERS_STEM)?;
        if known.contains(&hash) {
            let message = format!("{} is a judge already; two that are one say no more", judge.folder.display());
            return Err(Error::config("models.judges", message));
        }
        known.push(hash);
    }
    Ok(planned)
}

/// Every file that is named must exist.
fn check_weights(models: &Models) -> Result<()> {
    models.classifier.iter().try_for_each(|path| must_exist("models.classifier", path))?;
    models.judges.iter().enumerate().try_for_each(|(n, path)| must_exist(&format!("models.judges.{n}"), path))?;
    let (count, most) = (models.judges().count(), emotion::MOST_JUDGES);
    if !(1..=most).contains(&count) {
        let message = format!("{count} judges; name one in `classifier`, or up to {most} in `judges`");
        return Err(Error::config("models.judges", message));
    }
    must_exist("models.lpips", &models.lpips)?;
    models.lpips_vgg.iter().try_for_each(|path| must_exist("models.lpips_vgg", path))?;
    models.inception.iter().try_for_each(|path| must_exist("models.inception", path))?;
    models.clarity.iter().try_for_each(|clarity| {
        must_exist("models.clarity.scenes", &clarity.scenes)?;
        must_exist("models.clarity.objects", &clarity.objects)
    })
}

fn must_exist(key: &str, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    Err(Error::config(key, format!("{}: no such file or folder", path.display())))
}
