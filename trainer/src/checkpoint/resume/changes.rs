//! Which keys of a recipe may change between a checkpoint and the run that resumes from it.
//!
//! A checkpoint's tensors are numbers, and the recipe gives them their meaning. A change of that meaning is refused,
//! with the key, both values and what to do. Other changes are allowed and reported.

use std::fmt;
use std::path::Path;

use diffusion::pipeline::Hashes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::failure::refuse;
use crate::run::models::Models;

/// The keys that give the tensors their meaning: whose tokens and deltas, in which order, how they are spelled,
/// shaped and conditioned, in which process and at which timesteps they act, and which quantities the moments
/// average.
const MEANING: [&str; 8] = [
    "emotions",
    "tokens",
    "delta",
    "prompts",
    "edit.process",
    "edit.condition",
    "edit.num_inversion_steps",
    "train.optimizer.rule",
];

/// The keys that may change without a report: how long to train, where to write, and what to show.
const FREE: [&str; 10] = [
    "checkpoint",
    "validation",
    "watch",
    "hub",
    "store",
    "output_dir",
    "train.max_train_steps",
    "train.num_threads",
    "train.timeout_secs",
    "train.start_timeout_secs",
];

/// The keys that decide which source a step sees at which timestep: the edited latents of a checkpoint belong to the
/// old ones.
const SOURCES: [&str; 4] = ["data.sources", "edit.trajectory", "edit.t_edit", "train.seed"];

/// A key whose value differs from the checkpoint's.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    key: String,
    was: Value,
    is: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was {}, is {}", self.key, self.was, self.is)
    }
}

impl Change {
    fn is_of(&self, keys: &[&str]) -> bool {
        let below =
            |key: &&&str| self.key.strip_prefix(**key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        keys.iter().any(|key| below(&key))
    }

    /// Whether it changes the meaning of the tensors. So does starting or ending a moving average, which has no past
    /// to go on from.
    fn changes_the_meaning(&self) -> bool {
        self.is_of(&MEANING) || (self.key == "train.ema_decay" && (self.was.is_null() || self.is.is_null()))
    }

    /// Whether later steps see other sources, or see them at other timesteps.
    pub fn moves_the_sources(&self) -> bool {
        self.is_of(&SOURCES)
    }
}

/// The frozen networks that the tensors belong to, by blake3 of their weights: folders may move, weights may not
/// change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The pipeline's.
    pub base: Hashes,
    /// The losses' CLIP, if there is one: every report on the tensors must know which CLIP trained them.
    pub clip: Option<String>,
}

impl Frozen {
    /// Those of a run.
    pub fn of(models: &Models) -> Self {
        Self { base: models.pipeline.hashes.clone(), clip: models.clip.as_ref().map(|clip| clip.hash.clone()) }
    }

    /// The networks that changed, by key.
    fn differences(&self, was: &Frozen) -> Vec<String> {
        let parts = [
            ("model.base: its unet", &was.base.unet, &self.base.unet),
            ("model.base: its vae", &was.base.vae, &self.base.vae),
            ("model.base: its text_encoder", &was.base.text_encoder, &self.base.text_encoder),
        ];
        let clip = was.clip.iter().zip(&self.clip).map(|(was, is)| ("model.clip", was, is));
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let differing = parts.into_iter().chain(clip).filter(|(_, was, is)| was != is);
        differing.map(|(what, was, is)| format!("{what} had weights {}…, has {}…", short(was), short(is))).collect()
    }
}

/// Refuses the checkpoint in `folder`, with this `state`, if `now` changes the meaning of its tensors; otherwise
/// returns the changes to report.
pub fn check(folder: &Path, state: &Value, now: &Config, frozen: &Frozen) -> anyhow::Result<Vec<Change>> {
    let changes = between(&state["config"], now)?;
    let mut refused: Vec<String> =
        changes.iter().filter(|change| change.changes_the_meaning()).map(Change::to_string).collect();
    match serde_json::from_value::<Frozen>(state["models"].clone()) {
        Ok(was) => refused.extend(frozen.differences(&was)),
        // Checkpoints of format version 1 name the models, without hashes.
        Err(_) => {
            let names = changes
                .iter()
                .filter(|c| c.is_of(&["model.base", "model.clip"]) && !c.was.is_null() && !c.is.is_null());
            refused.extend(names.map(Change::to_string));
        }
    }
    if !refused.is_empty() {
        return Err(refuse(format!(
            "{}: cannot go on from here: {}. Its tensors mean what its own recipe says: set this back, name another \
             output_dir, or begin at step 0 with --resume none (checkpoint.resume_from_checkpoint: none)",
            folder.display(),
            refused.join("; ")
        )));
    }
    let settled = |change: &Change| change.key == "edit.t_edit" && change.is == state["t_edit"];
    Ok(changes.into_iter().filter(|change| !change.is_of(&FREE) && !settled(change)).collect())
}

/// The keys whose values differ; a key that the checkpoint's version did not have counts as its default.
fn between(before: &Value, now: &Config) -> anyhow::Result<Vec<Change>> {
    let before = match serde_json::from_value::<Config>(before.clone()) {
        Ok(config) => recipe::to_json(&config),
        Err(_) => before.clone(),
    };
    let mut found = Vec::new();
    differ("", &before, &recipe::to_json(now), &mut found);
    Ok(found)
}

fn differ(key: &str, before: &Value, now: &Value, found: &mut Vec<Change>) {
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                differ(&path, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (was, is) if was != is => found.push(Change { key: key.into(), was: was.clone(), is: is.clone() }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sets: &[&str]) -> Config {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/pocket/all-emotions.yaml");
        recipe::load(&path, &sets.iter().map(|s| s.to_string()).collect::<Vec<_>>()).expect("a recipe")
    }

    fn frozen(unet: &str, clip: Option<&str>) -> Frozen {
        let base = Hashes { unet: unet.into(), vae: "v".into(), text_encoder: "t".into() };
        Frozen { base, clip: clip.map(str::to_string) }
    }

    fn checked(sets: &[&str], models: Option<&Frozen>, now: &Frozen) -> anyhow::Result<Vec<String>> {
        let state = serde_json::json!({"config": config(&[]), "models": models, "t_edit": 350});
        let found = check(Path::new("run/checkpoint-3"), &state, &config(sets), now)?;
        Ok(found.iter().map(Change::to_string).collect())
    }

    #[test]
    fn what_gives_tensors_their_meaning_is_refused_with_both_values_and_the_way_out() {
        let models = frozen("u", Some("c"));
        for (set, named) in [
            (
                "emotions=[sadness, amusement, anger, awe, contentment, disgust, excitement, fear]",
                "\"sadness\",\"amusement\"",
            ),
            ("emotions=[awe]", "is [\"awe\"]"),
            (
                "tokens.placeholder_token=<my-{emotion}>",
                "tokens.placeholder_token was \"<{emotion}>\", is \"<my-{emotion}>\"",
            ),
            ("tokens.num_vectors=7", "tokens.num_vectors was 2, is 7"),
            ("tokens=off", "tokens was "),
            ("delta=off", "delta was "),
            ("prompts.source=a face", "prompts.source was \"a person\", is \"a face\""),
            ("edit.process=anchored", "edit.process was \"asymmetric\", is \"anchored\""),
            ("edit.num_inversion_steps=20", "edit.num_inversion_steps was 40, is 20"),
            ("train.optimizer.rule=sgd", "train.optimizer.rule was \"adamw\", is \"sgd\""),
            ("train.ema_decay=0.9", "train.ema_decay was null, is 0.9"),
        ] {
            let error = checked(&[set], Some(&models), &models).expect_err(set);
            let text = format!("{error:#}");
            for part in [named, "run/checkpoint-3", "output_dir", "--resume none"] {
                assert!(text.contains(part), "{set}: {part} is not in {text}");
            }
            assert_eq!(crate::failure::exit_code(&error), crate::failure::BAD_INPUT);
        }
    }

    #[test]
    fn what_may_change_is_said_or_free() {
        let models = frozen("u", Some("c"));
        let free = [
            "train.max_train_steps=9",
            "validation.num_validation_images=1",
            "output_dir=/elsewhere",
            "watch.log_steps=3",
        ];
        assert_eq!(checked(&free, Some(&models), &models).expect("free"), [""; 0]);
        let said = checked(&["train.learning_rate.delta=0.5", "loss.reconstruction=2"], Some(&models), &models)
            .expect("allowed");
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(checked(&["edit.t_edit=350"], Some(&models), &models).expect("as it was settled"), [""; 0]);
    }

    #[test]
    fn models_are_known_by_their_weights_and_where_those_are_unknown_by_their_names() {
        let was = frozen("u", Some("c"));
        assert!(checked(&["model.base=/moved"], Some(&was), &was).is_ok(), "the same weights in another place");
        for (now, named) in
            [(frozen("other", Some("c")), "model.base: its unet"), (frozen("u", Some("d")), "model.clip")]
        {
            let error = format!("{:#}", checked(&[], Some(&was), &now).expect_err("other weights"));
            assert!(error.contains(named), "{error}");
        }
        assert!(checked(&[], Some(&was), &frozen("u", None)).is_ok(), "no loss looks at a CLIP any more");
        let error = format!("{:#}", checked(&["model.base=/moved"], None, &was).expect_err("nobody knows"));
        assert!(error.contains("model.base was \"assets/pocket\", is \"/moved\""), "{error}");
    }
}
