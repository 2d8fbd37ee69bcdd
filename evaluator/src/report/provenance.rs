//! Where a report comes from: recipe, hashes, seeds, versions. No host, no absolute path, no clock: the same inputs
//! give the same description.

use std::collections::BTreeMap;
use std::path::Path;

use diffusion::run::Run;
use emotions::Emotion;
use judge::classifier::Classifier;
use serde_json::{json, Map, Value};

use crate::config::plan::{Plan, PlannedJudge, PlannedRun};
use crate::config::ClarityWeights;
use crate::error::{Error, Result};
use crate::evaluation::evaluate::Evaluation;
use crate::evaluation::evaluation_plan::EvaluationPlan;
use crate::evaluation::observe::Observer;
use crate::evaluation::sources::{reference_filter, Sources};
use crate::methods::baselines::PlannedBaseline;

/// The libtorch that this workspace is built against.
const LIBTORCH: &str = "2.11";

/// The description in report.json.
pub fn of(plan: &Plan, evaluation: &Evaluation) -> Result<Value> {
    let mut account = inputs(plan, &evaluation.sources, &evaluation.observer, evaluation.style.as_ref())?;
    account["judges_on_real_images"] = evaluation.judgements.json(&judge_names(&evaluation.observer));
    let count = |(emotion, n): (Emotion, usize)| (emotion.name().to_string(), n.into());
    account["references"]["n"] = Value::Object(evaluation.sets.reference_counts().map(count).collect());
    Ok(account)
}

/// A name for what an evaluation by `processes` of this very program will find: its inputs' hashes, hashed.
pub fn identity(plan: &Plan, evaluation_plan: &EvaluationPlan, processes: usize) -> Result<String> {
    let account = inputs(plan, &evaluation_plan.sources, &evaluation_plan.observer, evaluation_plan.style.as_ref())?;
    let program = std::env::current_exe().map_err(|e| Error::io("the evaluator's own program file", e))?;
    let named = json!({"inputs": account, "processes": processes, "program": file_hash(&program)?});
    Ok(blake3::hash(named.to_string().as_bytes()).to_hex().to_string())
}

/// Everything that is known before the first edit.
fn inputs(plan: &Plan, sources: &Sources, observer: &Observer, style: Option<&Value>) -> Result<Value> {
    let (config, classifier) = (&plan.config, observer.classifier());
    let judges = observer.judges().iter().zip(&plan.judges).map(|(judge, planned)| judge_account(plan, judge, planned));
    let clip_hash = observer.clip().hash().to_string();
    Ok(json!({
        "sources": {
            "n": sources.len(),
            "shards": shown(&config.sources.shards),
            "filter": config.sources.filter,
            "target_excluded_from_headline": config.sources.exclude_target,
            "manifest": sources.manifest_hash(),
        },
        "classifier": judge_account(plan, classifier, &plan.judges[0]),
        "judges": judges.collect::<Vec<_>>(),
        "truth": truth(plan, sources),
        "clip": {
            "name": shown(&config.models.clip),
            "hash": clip_hash,
            "took_part_in_losses": plan.runs.iter().any(|r| trained_with(r, &clip_hash)),
            "templates": config.templates,
        },
        "references": references(plan),
        "lpips": {"backbone": "alex", "version": "0.1", "hash": file_hash(&config.models.lpips)?},
        "lpips_vgg": config.models.lpips_vgg.as_deref().map(file_hash).transpose()?,
        "inception": config.models.inception.as_deref().map(file_hash).transpose()?,
        "clarity": config.models.clarity.as_ref().map(clarity).transpose()?,
        "compatibility": config.compatibility,
        "base": {"name": shown(&plan.base.0), "hashes": diffusion::pipeline::Hashes::of(&plan.base.1)?},
        "style_images": config.style_images.as_ref().zip(style).map(|(images, account)| {
            json!({"shards": shown(&images.shards), "filter": images.filter, "found": account})
        }),
        "methods": plan.baselines.iter().map(baseline).collect::<Result<Vec<_>>>()?,
        "runs": plan.runs.iter().map(run).collect::<Result<Vec<_>>>()?,
        "pixels": "edits clamped to [-1, 1] and rounded to 8 bits, as a user gets them",
        "bootstrap": {"samples": config.bootstrap.samples, "seed": config.bootstrap.seed, "resampled": "sources"},
        "device": if plan.device.is_cuda() { "cuda" } else { "cpu" },
        "versions": {"evaluator": env!("CARGO_PKG_VERSION"), "libtorch": LIBTORCH},
        "recipe": recipe(plan),
    }))
}

/// What a report says of a judge.
fn judge_account(plan: &Plan, judge: &Classifier, planned: &PlannedJudge) -> Value {
    json!({
        "name": judge.name(),
        "hash": judge.hash(),
        "architecture": judge.architecture(),
        "takes_part_in_losses": false,
        "classes_beside_emotions": judge.others().collect::<Vec<_>>(),
        "clip": judge.embedder().map(|clip| clip.hash()),
        "shares_clip_with_losses": shares_clip_with_losses(plan, judge),
        "card": card(&planned.folder),
    })
}

/// The judges as tables name them.
pub fn judge_names(observer: &Observer) -> Vec<String> {
    observer.judges().iter().map(|judge| judge.name().to_string()).collect()
}

/// For each emotion, how many sources have how many true pictures; null if no source has any.
fn truth(plan: &Plan, sources: &Sources) -> Value {
    if !sources.have_truth(&plan.emotions) {
        return Value::Null;
    }
    let of = |&emotion: &Emotion| {
        let mut drawings: BTreeMap<usize, usize> = BTreeMap::new();
        for count in (0..sources.len()).map(|index| sources.truth(index, emotion).count()).filter(|&count| count > 0) {
            *drawings.entry(count).or_default() += 1;
        }
        let by_count: Map<String, Value> = drawings.iter().map(|(k, n)| (k.to_string(), json!(n))).collect();
        let pairs: usize = drawings.values().sum();
        (emotion.name().to_string(), json!({"sources": pairs, "by_true_pictures": by_count}))
    };
    Value::Object(plan.emotions.iter().map(of).collect())
}

/// A baseline's settings, with the runs whose tokens it uses.
fn baseline(planned: &PlannedBaseline) -> Result<Value> {
    let mut settings = recipe::to_json(&planned.settings);
    shorten(&mut settings);
    let mut runs = Map::new();
    for (emotion, (folder, run)) in &planned.runs {
        let account = json!({"folder": shown(folder), "seed": run.config.seed, "hashes": run_hashes(run)?});
        runs.insert(emotion.name().into(), account);
    }
    Ok(json!({"settings": settings, "strengths": planned.sweep.strengths, "runs": runs}))
}

/// Which of the target's own images the edits were compared with.
fn references(plan: &Plan) -> Value {
    let shards = plan.config.references.shards.as_ref().unwrap_or(&plan.config.sources.shards);
    json!({"shards": shown(shards), "filter": reference_filter(&plan.config)})
}

/// Whether the classifier reads a CLIP that a run was trained to please.
fn shares_clip_with_losses(plan: &Plan, classifier: &Classifier) -> bool {
    classifier.embedder().is_some_and(|clip| plan.runs.iter().any(|r| trained_with(r, clip.hash())))
}

fn clarity(weights: &ClarityWeights) -> Result<Value> {
    Ok(json!({"scenes": file_hash(&weights.scenes)?, "objects": file_hash(&weights.objects)?}))
}

fn run(planned: &PlannedRun) -> Result<Value> {
    let config = &planned.run.config;
    Ok(json!({
        "method": planned.method,
        "emotion": planned.emotion,
        "folder": shown(&planned.name),
        "seed": config.seed,
        "loss_clip": config.loss_clip.as_ref().map(|clip| json!({"name": shown(&clip.name), "hash": clip.hash})),
        "edit": config.edit,
        "hashes": run_hashes(&planned.run)?,
    }))
}

fn run_hashes(run: &Run) -> Result<Map<String, Value>> {
    let mut hashes = Map::new();
    for path in run.files() {
        let name = path.strip_prefix(&run.folder).unwrap_or(&path).display().to_string();
        hashes.insert(name, file_hash(&path)?.into());
    }
    Ok(hashes)
}

/// Whether the CLIP with this hash took part in the runs' losses: CLIP-I and CLIP direction are then not neutral.
fn trained_with(planned: &PlannedRun, clip_hash: &str) -> bool {
    planned.run.config.loss_clip.as_ref().is_some_and(|clip| clip.hash == clip_hash)
}

/// The classifier's own figures of its accuracy, if it has them.
fn card(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("metrics.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn file_hash(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// The recipe with every absolute path shortened.
fn recipe(plan: &Plan) -> String {
    let mut value = recipe::to_json(&plan.config);
    shorten(&mut value);
    recipe::to_yaml(&value)
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => *text = shown(text),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(map) => map.values_mut().for_each(shorten),
        _ => {}
    }
}

/// A path or URL as a report may show it: of an absolute path only the last part, of a URL no password or signature.
fn shown(name: &str) -> String {
    if Path::new(name).is_absolute() {
        let last = Path::new(name).file_name().map(|n| n.to_string_lossy().into_owned());
        return format!("…/{}", last.unwrap_or_default());
    }
    recipe::secrets::masked(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn absolute_paths_are_shortened() {
        assert_eq!(shown("/home/someone/runs/awe"), "…/awe");
        assert_eq!(shown("runs/awe"), "runs/awe");
        assert_eq!(shown("s3://affect/emoset"), "s3://affect/emoset");
        assert_eq!(shown("https://ada:s3cret@host/emoset"), "https://***@host/emoset");
    }
}
