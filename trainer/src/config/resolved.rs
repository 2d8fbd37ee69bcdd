//! The recipe, checked: every error that can be found without a file is found here, before anything is loaded.

use diffusion::losses::directional::Directional;
use diffusion::process::asyrp::Process;
use emotions::template;
use emotions::Emotion;

use crate::config::threshold::Threshold;
use crate::config::{Config, TrajectoryKind};
use crate::failure::refuse;
use crate::objective::direction::section::DirectionKind;
use crate::validation::tags;

/// A recipe whose values are in range and consistent.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// As written, with defaults filled in.
    pub config: Config,
    /// The emotions by name, in the recipe's order.
    pub names: Vec<String>,
    /// Each emotion's prompts with learned vectors: c_edit's first, then those of the denoising loss.
    pub prompts: Vec<Vec<String>>,
    /// Each emotion's placeholder; empty without tokens.
    pub placeholders: Vec<String>,
}

impl Resolved {
    /// Checks `config`; the error names the key.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        check_emotions(&config.emotions)?;
        check_losses(&config)?;
        check_edit(&config)?;
        check_train(&config)?;
        check_validation(&config)?;
        let names: Vec<String> = config.emotions.iter().map(|e| e.name().to_string()).collect();
        let placeholders = placeholders(&config, &names)?;
        let mut prompts = Vec::new();
        for (k, &emotion) in config.emotions.iter().enumerate() {
            prompts.push(prompts_of(&config, emotion, placeholders.get(k))?);
        }
        check_direction(&config)?;
        Ok(Self { config, names, prompts, placeholders })
    }

    /// Whether a loss uses edited sources; otherwise they are neither inverted nor read.
    pub fn needs_sources(&self) -> bool {
        self.needs_directions() || self.config.loss.reconstruction > 0.0
    }

    /// Whether CLIP sees the edits.
    pub fn needs_directions(&self) -> bool {
        self.config.loss.clip > 0.0 || self.config.loss.contrast > 0.0
    }

    /// Whether Δh is trained on images of the emotion.
    pub fn needs_delta_denoising(&self) -> bool {
        self.config.loss.delta_denoising > 0.0 && self.config.delta.on().is_some()
    }

    /// Whether the denoising loss is trained.
    pub fn needs_denoising(&self) -> bool {
        self.config.loss.denoising > 0.0 && self.config.tokens.on().is_some()
    }

    /// Whether the alignment loss is trained.
    pub fn needs_alignment(&self) -> bool {
        self.config.loss.alignment > 0.0 && self.config.tokens.on().is_some()
    }

    /// Whether the direction comes from images, at least partly.
    pub fn needs_prototype(&self) -> bool {
        self.needs_directions() && self.config.direction.kind != DirectionKind::Text
    }

    /// Whether images of the emotion are read at all.
    pub fn needs_emotion_images(&self) -> bool {
        self.needs_denoising() || self.needs_delta_denoising() || self.needs_alignment() || self.needs_prototype()
    }

    /// Whether the directional loss compares with P_t of the inversion's own ε, which no step changes.
    pub fn uses_references(&self) -> bool {
        let Config { loss, edit, .. } = &self.config;
        let recorded = edit.trajectory == TrajectoryKind::Source || edit.process == Process::Anchored;
        self.needs_directions() && loss.directional == Directional::Target && recorded
    }

    /// Whether CLIP is loaded.
    pub fn needs_clip(&self) -> bool {
        let loss = &self.config.loss;
        self.needs_directions()
            || self.needs_alignment()
            || self.config.edit.t_edit == Threshold::Auto
            || loss.reconstruction_by_cosine
    }

    /// Images computed at once.
    pub fn micro_batch_size(&self) -> usize {
        let train = &self.config.train;
        train.micro_batch_size.unwrap_or(train.train_batch_size).min(train.train_batch_size)
    }

    /// Micro-batches of one rank in one optimiser step.
    pub fn micro_batches(&self) -> usize {
        let train = &self.config.train;
        train.gradient_accumulation_steps * train.train_batch_size / self.micro_batch_size()
    }

    /// Images of each stream in one optimiser step.
    pub fn global_batch(&self, world_size: usize) -> usize {
        self.config.train.train_batch_size * self.config.train.gradient_accumulation_steps * world_size
    }
}

fn check_emotions(emotions: &[Emotion]) -> anyhow::Result<()> {
    if emotions.is_empty() {
        return Err(refuse("emotions: name at least one, such as [awe]"));
    }
    for (k, emotion) in emotions.iter().enumerate() {
        if emotions[..k].contains(emotion) {
            return Err(refuse(format!("emotions: {emotion} is named twice")));
        }
    }
    Ok(())
}

fn placeholders(config: &Config, names: &[String]) -> anyhow::Result<Vec<String>> {
    let Some(tokens) = config.tokens.on() else { return Ok(Vec::new()) };
    if tokens.num_vectors == 0 {
        return Err(refuse("tokens.num_vectors: must be at least 1; write `tokens: off` to train without"));
    }
    if !tokens.placeholder_token.contains("{emotion}") && names.len() > 1 {
        let written = &tokens.placeholder_token;
        return Err(refuse(format!(
            "tokens.placeholder_token: \"{written}\" is the same for every emotion; write {{emotion}} in it"
        )));
    }
    if tokens.placeholder_token.trim().is_empty() {
        return Err(refuse("tokens.placeholder_token: is empty; write \"<{emotion}>\""));
    }
    Ok(names.iter().map(|name| tokens.placeholder_token.replace("{emotion}", name)).collect())
}

fn prompts_of(config: &Config, emotion: Emotion, placeholder: Option<&String>) -> anyhow::Result<Vec<String>> {
    if config.prompts.source.contains("{token}") {
        return Err(refuse("prompts.source: holds {token}; the source is described without the emotion"));
    }
    let Some(placeholder) = placeholder else { return Ok(Vec::new()) };
    let mut keyed = vec![("prompts.target".to_string(), &config.prompts.target)];
    keyed.extend(config.prompts.denoising.iter().enumerate().map(|(k, p)| (format!("prompts.denoising[{k}]"), p)));
    let mut filled = Vec::new();
    if config.prompts.target.contains("{adjective}") {
        return Err(refuse(
            "prompts.target: {adjective} is for direction.templates; {token} and {emotion} are filled here",
        ));
    }
    for (key, prompt) in keyed {
        if !prompt.contains("{token}") {
            let message = format!(
                "{key}: prompt \"{prompt}\" holds no placeholder, so that the learned vectors would go unused; \
                 write {{token}} in it"
            );
            return Err(refuse(message));
        }
        filled.push(template::fill(prompt, emotion, Some(placeholder)).map_err(|e| refuse(format!("{key}: {e}")))?);
    }
    if filled.len() == 1 {
        filled.push(filled[0].clone());
    }
    Ok(filled)
}

fn check_losses(config: &Config) -> anyhow::Result<()> {
    let loss = &config.loss;
    let weights = [
        ("clip", loss.clip),
        ("reconstruction", loss.reconstruction),
        ("denoising", loss.denoising),
        ("alignment", loss.alignment),
        ("contrast", loss.contrast),
        ("delta_denoising", loss.delta_denoising),
    ];
    for (key, weight) in weights {
        if !weight.is_finite() || weight < 0.0 {
            return Err(refuse(format!("loss.{key}: {weight} is no weight; 0 switches the term off")));
        }
    }
    positive("loss.alignment_temperature", loss.alignment_temperature)?;
    positive("loss.contrast_temperature", loss.contrast_temperature)?;
    let directed = loss.clip > 0.0 || loss.contrast > 0.0;
    let edits = directed || loss.reconstruction > 0.0;
    match (config.tokens.on(), config.delta.on()) {
        (None, None) => return Err(refuse("tokens and delta are both off: there is nothing to learn")),
        (_, Some(_)) if !edits && loss.delta_denoising == 0.0 => {
            return Err(refuse(
                "loss: clip, contrast, reconstruction and delta_denoising are all 0, so that nothing would reach the delta; write `delta: off`",
            ));
        }
        (Some(_), None) if !edits && loss.denoising == 0.0 && loss.alignment == 0.0 => {
            return Err(refuse("loss: every weight is 0: there is nothing to learn from"));
        }
        (None, Some(delta)) if delta.condition_on_token => {
            return Err(refuse("delta.condition_on_token: there is no token, `tokens` is off"));
        }
        _ => {}
    }
    let clip_wanted = directed || (loss.alignment > 0.0 && config.tokens.on().is_some());
    if clip_wanted && config.model.clip.is_none() {
        return Err(refuse("model.clip: missing, and loss.clip, loss.contrast or loss.alignment needs it"));
    }
    let scale = config.model.preview_scale;
    if !(scale > 0.0 && scale <= 1.0) {
        return Err(refuse(format!("model.preview_scale: {scale} is not above 0 and at most 1")));
    }
    if config.edit.t_edit == Threshold::Auto && config.model.clip.is_none() {
        return Err(refuse("model.clip: missing, and edit.t_edit: auto needs it; or give t_edit a timestep"));
    }
    if loss.reconstruction_by_cosine && config.model.clip.is_none() {
        return Err(refuse("model.clip: missing, and loss.reconstruction_by_cosine needs it"));
    }
    Ok(())
}

fn check_edit(config: &Config) -> anyhow::Result<()> {
    let edit = &config.edit;
    if !(2..=1000).contains(&edit.num_inversion_steps) {
        return Err(refuse(format!("edit.num_inversion_steps: {} is not in 2..=1000", edit.num_inversion_steps)));
    }
    for (key, threshold) in [("t_edit", edit.t_edit), ("t_boost", edit.t_boost)] {
        match threshold {
            Threshold::At(t) if !(0..1000).contains(&t) => {
                return Err(refuse(format!("edit.{key}: {t} is not a timestep in 0..1000")));
            }
            Threshold::Auto if config.validation.lpips.is_none() => {
                return Err(refuse(format!("edit.{key}: auto measures LPIPS; name its weights as validation.lpips")));
            }
            _ => {}
        }
    }
    if let (Threshold::At(t_edit), Threshold::At(t_boost)) = (edit.t_edit, edit.t_boost) {
        if t_boost > t_edit {
            return Err(refuse(format!(
                "edit.t_boost: {t_boost} is above edit.t_edit {t_edit}: boosting begins where the edit has ended; at most \
                 {t_edit}, or 0 for none"
            )));
        }
    }
    if !edit.guidance_scale.is_finite() || edit.guidance_scale <= 0.0 {
        return Err(refuse(format!("edit.guidance_scale: {} must be above 0; 1 is none", edit.guidance_scale)));
    }
    if let Some(problem) = edit.mask.on().and_then(|mask| mask.problem()) {
        return Err(refuse(format!("edit.mask.{problem}")));
    }
    if !edit.strength.is_finite() || edit.strength == 0.0 {
        return Err(refuse(format!("edit.strength: {} trains nothing; 1 is usual", edit.strength)));
    }
    Ok(())
}

fn check_direction(config: &Config) -> anyhow::Result<()> {
    let (direction, used) = (&config.direction, config.loss.clip > 0.0 || config.loss.contrast > 0.0);
    if !(0.0..=1.0).contains(&direction.mix) {
        return Err(refuse(format!("direction.mix: {} is not in 0..=1", direction.mix)));
    }
    // Templates that no loss uses may name a token that is not learned.
    let token = config.tokens.on().map(|t| t.placeholder_token.as_str()).or((!used).then_some("{token}"));
    for (k, template) in direction.templates.iter().enumerate() {
        for text in [&template.source, &template.target] {
            let filled = template::fill(text, config.emotions[0], token);
            filled.map_err(|e| refuse(format!("direction.templates[{k}]: {e}")))?;
            if config.loss.contrast > 0.0 && text.contains("{token}") {
                return Err(refuse(format!(
                    "direction.templates[{k}]: holds {{token}}, which loss.contrast cannot fill for the emotions that are \
                     not trained; write {{emotion}} or {{adjective}}"
                )));
            }
        }
    }
    if used && direction.kind != DirectionKind::Prototype && direction.templates.is_empty() {
        return Err(refuse("direction.templates: a text direction needs at least one {source, target} pair"));
    }
    if used && direction.kind != DirectionKind::Text && config.data.emotion_images.is_none() {
        return Err(refuse("data.emotion_images: missing, and direction.kind needs images of the emotion"));
    }
    Ok(())
}

fn check_validation(config: &Config) -> anyhow::Result<()> {
    let validation = &config.validation;
    if validation.validation_steps > 0 && validation.num_validation_images == 0 {
        return Err(refuse(
            "validation.num_validation_images: must be at least 1; write validation_steps: 0 to validate never",
        ));
    }
    if let Some(best) = &config.checkpoint.keep_best {
        let tags = tags::measured(config);
        if !tags.contains(&best.metric.as_str()) {
            let (metric, tags) = (&best.metric, if tags.is_empty() { "nothing".into() } else { tags.join(", ") });
            return Err(refuse(format!("checkpoint.keep_best.metric: {metric} is not measured; here: {tags}")));
        }
    }
    check_held_out(config)
}

/// Refuses a recipe that trains on what validation uses, as a source or as an image of the emotion.
fn check_held_out(config: &Config) -> anyhow::Result<()> {
    let (held_out, sources) = (&config.validation.split, &config.data.sources);
    if config.validation.validation_steps == 0 {
        return Ok(());
    }
    let images = config.data.emotion_images.as_ref().filter(|images| images.shards == sources.shards);
    let trained =
        [("data.sources", Some(&sources.filter)), ("data.emotion_images", images.map(|images| &images.filter))];
    for (key, filter) in trained.into_iter().filter_map(|(key, filter)| Some((key, filter?))) {
        match &filter.split {
            Some(split) if split == held_out => {
                return Err(refuse(format!(
                    "validation.split: \"{held_out}\" is what is trained on ({key}.filter.split); name a held-out split"
                )));
            }
            None => {
                return Err(refuse(format!(
                    "{key}.filter.split: names none, so that the held-out \"{held_out}\" (validation.split) would be trained \
                     on; name the split to train on, such as train"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_train(config: &Config) -> anyhow::Result<()> {
    let train = &config.train;
    let counts = [
        ("train.train_batch_size", train.train_batch_size as u64),
        ("train.micro_batch_size", train.micro_batch_size.unwrap_or(1) as u64),
        ("train.gradient_accumulation_steps", train.gradient_accumulation_steps as u64),
        ("train.max_train_steps", train.max_train_steps),
        ("train.max_skipped_steps", train.max_skipped_steps),
        ("train.timeout_secs", train.timeout_secs),
        ("train.start_timeout_secs", train.start_timeout_secs),
        ("train.num_threads", train.num_threads.unwrap_or(1) as u64),
        ("checkpoint.checkpoints_total_limit", config.checkpoint.checkpoints_total_limit as u64),
        ("data.sources.inversion_batch_size", config.data.sources.inversion_batch_size as u64),
        ("data.sources.limit", config.data.sources.limit.unwrap_or(1) as u64),
    ];
    if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(refuse(format!("{key}: must be at least 1")));
    }
    let piece = train.micro_batch_size.unwrap_or(train.train_batch_size);
    if piece < train.train_batch_size && !train.train_batch_size.is_multiple_of(piece) {
        let whole = train.train_batch_size;
        return Err(refuse(format!("train.micro_batch_size: {piece} does not divide train_batch_size {whole}")));
    }
    let most = [collective::MAX_TIMEOUT, collective::MAX_START].map(|most| most.as_secs());
    let limits = [("train.timeout_secs", train.timeout_secs), ("train.start_timeout_secs", train.start_timeout_secs)];
    if let Some(((key, secs), most)) = limits.into_iter().zip(most).find(|((_, secs), most)| secs > most) {
        return Err(refuse(format!("{key}: {secs} is above {most}: a lost rank would go unnoticed")));
    }
    positive("train.learning_rate.tokens", train.learning_rate.tokens)?;
    positive("train.learning_rate.delta", train.learning_rate.delta)?;
    positive("train.max_grad_norm", train.max_grad_norm)?;
    if !(0.0..=1.0).contains(&train.lr_final_fraction) {
        return Err(refuse(format!("train.lr_final_fraction: {} is not in 0..=1", train.lr_final_fraction)));
    }
    positive("train.lr_power", train.lr_power)?;
    if let Some(peak) = config.watch.peak_tflops {
        positive("watch.peak_tflops", peak)?;
    }
    if let Some(decay) = train.ema_decay.filter(|decay| !(0.0..1.0).contains(decay)) {
        return Err(refuse(format!("train.ema_decay: {decay} is not in 0..1; 0.999 is usual")));
    }
    if train.lr_num_cycles == 0 {
        return Err(refuse("train.lr_num_cycles: must be at least 1"));
    }
    let by_tokens = (config.loss.denoising > 0.0 || config.loss.alignment > 0.0) && config.tokens.on().is_some();
    let by_delta = config.loss.delta_denoising > 0.0 && config.delta.on().is_some();
    if (by_tokens || by_delta) && config.data.emotion_images.is_none() {
        let terms = "loss.denoising, loss.delta_denoising or loss.alignment";
        return Err(refuse(format!("data.emotion_images: missing, and {terms} needs it")));
    }
    Ok(())
}

fn positive(key: &str, value: f64) -> anyhow::Result<()> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(refuse(format!("{key}: {value} must be a number above 0"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn recipes() -> Vec<PathBuf> {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let names = Emotion::ALL.iter().map(|e| e.name()).chain(["all-emotions"]).map(|name| format!("{name}.yaml"));
        let both = names.flat_map(|name| [configs.join(&name), configs.join("pocket").join(&name)]);
        both.chain([configs.join("multi-node.yaml")]).collect()
    }

    fn resolve(path: &Path, sets: &[&str]) -> anyhow::Result<Resolved> {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        Resolved::new(recipe::load(path, &sets)?)
    }

    #[test]
    fn every_recipe_of_the_repository_resolves() {
        for path in recipes() {
            let recipe = resolve(&path, &[]).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let all: Vec<&str> = Emotion::ALL.iter().map(|e| e.name()).collect();
            let expected = if all.contains(&name.as_str()) { vec![name.as_str()] } else { all };
            assert_eq!(recipe.names, expected, "{}", path.display());
            for sets in [["tokens=off", "delta.condition_on_token=false"], ["delta=off", "train.seed=1"]] {
                resolve(&path, &sets).unwrap_or_else(|e| panic!("{} {sets:?}: {e:#}", path.display()));
            }
        }
    }

    #[test]
    fn a_resolved_recipe_reads_back_as_itself() {
        for path in recipes() {
            let config = resolve(&path, &[]).expect("valid").config;
            let text = recipe::to_yaml(&config);
            let again: Config = recipe::parse(&path, &text, &[]).expect("valid");
            assert_eq!(recipe::to_yaml(&again), text);
        }
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let path = &recipes()[1];
        let cases = [
            ("train.train_batch_size=0", "train.train_batch_size"),
            ("train.micro_batch_size=4", "train.micro_batch_size"),
            ("train.timeout_secs=1000", "train.timeout_secs"),
            ("train.start_timeout_secs=100000", "train.start_timeout_secs"),
            ("direction.mix=2", "direction.mix"),
            ("edit.t_edit=1000", "edit.t_edit"),
            ("edit.strength=0", "edit.strength"),
            ("edit.guidance_scale=0", "edit.guidance_scale"),
            ("edit.mask={threshold: 0.9}", "edit.mask.threshold: 0.9"),
            ("loss={contrast: 1, contrast_temperature: 0}", "loss.contrast_temperature"),
            ("edit={t_edit: 350, t_boost: 351}", "edit.t_boost: 351 is above edit.t_edit 350"),
            ("loss.clip=-1", "loss.clip"),
            ("delta.condition_on_token=1", "condition_on_token"),
            ("prompts.source={token}", "prompts.source"),
            ("emotions=[awe, awe]", "twice"),
            ("validation.split=train", "validation.split"),
            ("data.sources.filter={}", "data.sources.filter.split: names none, so that the held-out \"val\""),
            ("data.emotion_images.filter={}", "data.emotion_images.filter.split"),
            ("checkpoint.keep_best={metric: validation/lipps}", "validation/lpips, validation/emo_a, validation/emo_s"),
            ("train.ema_decay=1", "train.ema_decay"),
            ("model.preview_scale=0", "model.preview_scale"),
            ("direction.templates=[{source: a, target: \"{mood}\"}]", "{mood}"),
        ];
        for (set, named) in cases {
            let error = format!("{:#}", resolve(path, &[set]).expect_err(set));
            assert!(error.contains(named), "{set}: {error}");
        }
    }
}
