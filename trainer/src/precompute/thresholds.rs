//! Measures t_edit and t_boost if the recipe says `auto`: on inversions of training sources, by rank 0 for all ranks.

use dataloader::{RowRef, Stream};
use diffusion::losses::directional::{cosine, normalise};
use diffusion::networks::lpips::{Backbone, Lpips};
use diffusion::process::thresholds::Probe;
use emotions::template;
use emotions::Emotion;
use tch::Kind;

use crate::config::threshold::Threshold;
use crate::config::Config;
use crate::failure::{input, refuse};
use crate::precompute::inversions;
use crate::run::context::RunContext;
use crate::run::models::Models;
use crate::step::state::State;

/// How many sources are measured; the thresholds are coarse.
const NUM_PROBES: usize = 8;

/// Sets both thresholds, unless a checkpoint has brought them.
pub fn set(run: &RunContext<'_>, state: &mut State) -> anyhow::Result<()> {
    let (edit, stored) = (&run.recipe.config.edit, state.counters);
    let known = |threshold: Threshold, stored: i64| match threshold {
        Threshold::At(t) => t,
        Threshold::Auto => stored,
    };
    let mut settled = [known(edit.t_edit, stored.t_edit), known(edit.t_boost, stored.t_boost)];
    if settled.contains(&-1) {
        if !run.recipe.needs_sources() {
            return Err(refuse(
                "edit: auto thresholds are measured on edited sources, which loss.clip 0 and loss.reconstruction 0 \
                 switch off; give timesteps",
            ));
        }
        let probes: Vec<_> = run.data.sources[0].rows().into_iter().take(NUM_PROBES).collect();
        inversions::fill(run, &probes)?;
        if run.world.is_first() {
            settled = measure(run, &probes, settled)?;
        }
    }
    let mut settled = run.world.agree(&settled)?;
    if settled[1] > settled[0] {
        if run.world.is_first() {
            let [t_edit, t_boost] = [settled[0], settled[1]];
            tracing::warn!(
                "edit.t_boost {t_boost} is above edit.t_edit {t_edit}, where the edit begins: {t_edit} is taken"
            );
        }
        settled[1] = settled[0];
    }
    (state.counters.t_edit, state.counters.t_boost) = (settled[0], settled[1]);
    Ok(())
}

fn measure(run: &RunContext<'_>, probes: &[(&Stream, &RowRef)], given: [i64; 2]) -> anyhow::Result<[i64; 2]> {
    let (recipe, models) = (run.recipe, run.models);
    let path = recipe.config.validation.lpips.as_ref().expect("resolved: auto thresholds come with LPIPS weights");
    let lpips = input(Lpips::load(path, Backbone::Alex, models.device))?;
    let ids: Vec<&str> = probes.iter().map(|(_, row)| row.image_id.as_str()).collect();
    let sources = run.trajectories.whole(&ids, models.device)?;
    let probe = Probe {
        lpips: &lpips,
        decoder: models.preview(),
        schedule: &models.pipeline.schedule,
        inversion_schedule: run.inversion_schedule,
    };
    let [mut t_edit, mut t_boost] = given;
    if t_edit < 0 {
        let cosine = text_cosine(&recipe.config, models, &recipe.config.emotions)?;
        t_edit = probe.t_edit(&sources, cosine);
        tracing::info!("t_edit {t_edit}, measured on {} sources; cos(source text, target text) {cosine:.3}", ids.len());
    }
    if t_boost < 0 {
        t_boost = probe.t_boost(&sources);
        tracing::info!("t_boost {t_boost}, measured on {} sources", ids.len());
    }
    Ok([t_edit, t_boost])
}

/// cos(E_T(source), E_T(target)), the mean over the recipe's templates and `emotions`.
pub fn text_cosine(config: &Config, models: &Models, emotions: &[Emotion]) -> anyhow::Result<f64> {
    let _no_grad = tch::no_grad_guard();
    let clip = models.loss_clip();
    let mut cosines = Vec::new();
    for &emotion in emotions {
        for template in &config.direction.templates {
            let fill = |text: &str| template::fill(text, emotion, Some(emotion.name())).map_err(refuse);
            let embed = |text: String| Ok::<_, anyhow::Error>(normalise(&clip.embed_texts(&[&text], None)?));
            let (source, target) = (embed(fill(&template.source)?)?, embed(fill(&template.target)?)?);
            cosines.push(cosine(&source, &target).mean(Kind::Double).double_value(&[]));
        }
    }
    if cosines.is_empty() {
        return Err(refuse(
            "direction.templates: edit.t_edit: auto and loss.reconstruction_by_cosine need at least one pair",
        ));
    }
    Ok(cosines.iter().sum::<f64>() / cosines.len() as f64)
}
