//! The contrast over emotions, with the directions of all that are known: also of those that are not trained here.
//!
//! Shapes: b batch, k emotions, p CLIP's projection.

use diffusion::losses::contrast::contrast;
use emotions::Emotion;
use tch::Tensor;

use crate::config::resolved::Resolved;
use crate::data::Data;
use crate::objective::direction::Direction;
use crate::run::models::Models;

/// The contrast's constants.
pub struct Contrast {
    directions: Tensor, // (k, p)
    targets: Vec<i64>,  // each trained emotion's row
}

impl Contrast {
    /// The directions of all emotions that are known here: the prototypes need images, words need none.
    pub fn new(recipe: &Resolved, models: &Models, data: &Data) -> anyhow::Result<Self> {
        let clip = models.loss_clip();
        let (known, prototypes) = match recipe.needs_prototype() {
            false => (Emotion::ALL.to_vec(), None),
            true => {
                let (known, prototypes) = data.prototypes(&clip.hash)?;
                (known, Some(prototypes.to_device(models.device)))
            }
        };
        if known.len() < 2 {
            let message =
                "loss.contrast: needs images of at least two emotions in data.emotion_images, or direction.kind: text";
            return Err(crate::failure::refuse(message));
        }
        let vector = |(k, &emotion): (usize, &Emotion)| {
            let prototype = prototypes.as_ref().map(|all| all.get(k as i64));
            Direction::of(&recipe.config.direction, emotion, None, clip, prototype)?.vector(clip, None)
        };
        let directions = known.iter().enumerate().map(vector).collect::<anyhow::Result<Vec<_>>>()?;
        let row = |e: &Emotion| known.iter().position(|p| p == e).expect("opened: each emotion has images") as i64;
        let targets = recipe.config.emotions.iter().map(row).collect();
        Ok(Self { directions: Tensor::stack(&directions, 0), targets })
    }

    /// The loss of edits towards emotion number `emotion` of the recipe: `edited` and `source` are (b, p).
    pub fn term(&self, edited: &Tensor, source: &Tensor, emotion: usize, temperature: f64) -> Tensor {
        contrast(edited, source, &self.directions, self.targets[emotion], temperature)
    }
}
