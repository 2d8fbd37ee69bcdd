//! The text conditions of one micro-batch. The losses see them through a leaf: each part's backward pass ends there,
//! and one backward pass through the text encoder serves all parts.
//!
//! Shapes: l tokens, d text features.

use diffusion::networks::clip_text::TextEncoder;
use diffusion::run::pooled_token;
use diffusion::tokens::{embed, Prompt, Tokens};
use tch::{IndexOp, Tensor};

use crate::optim::gradients::Gradients;

/// c_edit and the denoising prompts' contexts.
pub struct Contexts {
    /// c_edit, (1, l, d).
    pub edited: Tensor,
    /// (prompts, l, d); none without tokens.
    pub denoising: Option<Tensor>,
    /// What conditions the deltas, (1, d), if they are conditioned.
    pub pooled: Option<Tensor>,
    kept: Option<Kept>,
}

/// The text encoder's output.
struct Kept {
    graph: Tensor,            // (prompts, l, d), as it depends on the tokens
    leaf: Tensor,             // its value
    gradient: Option<Tensor>, // the sum of what has reached the leaf
}

impl Contexts {
    /// Without tokens: c_edit is the source's (1, l, d).
    pub fn constant(source: &Tensor) -> Self {
        Self { edited: source.shallow_clone(), denoising: None, pooled: None, kept: None }
    }

    /// One pass of the text encoder over `prompts`, c_edit's first, with each distinct prompt once. `conditioned`
    /// says whether the deltas depend on the token.
    pub fn learned(encoder: &TextEncoder, prompts: &[Prompt], tokens: &Tokens, conditioned: bool) -> Self {
        let same = prompts[1..].iter().all(|p| *p == prompts[0]);
        let distinct = if same { &prompts[..1] } else { prompts };
        let graph = encoder.forward_embeddings(&embed(encoder, distinct, Some(tokens)));
        let leaf = graph.detach().set_requires_grad(true);
        let edited = leaf.i(0..1);
        let denoising = match same {
            true => edited.expand([prompts.len() as i64 - 1, -1, -1], false),
            false => leaf.i(1..),
        };
        let pooled = conditioned.then(|| pooled_token(&edited, prompts[0].eos));
        let kept = Some(Kept { graph, leaf, gradient: None });
        Self { edited, denoising: Some(denoising), pooled, kept }
    }

    /// Adds a part's gradient: for the parameters, what reaches them directly; for the leaf, what comes through the
    /// contexts.
    pub fn back(&mut self, loss: &Tensor, gradients: &mut Gradients) {
        let found = gradients.add(loss, self.kept.as_ref().map(|kept| &kept.leaf));
        if let (Some(kept), Some(found)) = (&mut self.kept, found) {
            kept.gradient = Some(kept.gradient.take().map_or_else(|| found.shallow_clone(), |sum| sum + &found));
        }
    }

    /// Carries the leaf's gradient back through the text encoder, once all parts are done.
    pub fn finish(self, gradients: &mut Gradients) {
        if let Some(Kept { graph, gradient: Some(gradient), .. }) = self.kept {
            gradients.add_through(&graph, &gradient);
        }
    }
}
