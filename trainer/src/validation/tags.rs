//! What validation measures, as TensorBoard and validation.jsonl name it.

use crate::config::Config;

/// How far the edits are from their sources.
pub const LPIPS: &str = "validation/lpips";
/// The share of edits whose most probable emotion is the target.
pub const EMO_A: &str = "validation/emo_a";
/// How much more probable the target is in the edit than in the source.
pub const EMO_S: &str = "validation/emo_s";
/// The cosine between the change of CLIP's image embedding and ΔT.
pub const CLIP_DIRECTION: &str = "validation/clip_direction";

/// The tags that are measured under `config`; none if validation is off.
pub fn measured(config: &Config) -> Vec<&'static str> {
    let validation = &config.validation;
    if validation.validation_steps == 0 {
        return Vec::new();
    }
    let lpips = validation.lpips.is_some().then_some(LPIPS);
    let emotion = validation.classifier.is_some().then_some([EMO_A, EMO_S]);
    let direction = (config.loss.clip > 0.0).then_some(CLIP_DIRECTION);
    lpips.into_iter().chain(emotion.into_iter().flatten()).chain(direction).collect()
}
