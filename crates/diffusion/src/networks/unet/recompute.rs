//! Gradient checkpointing of the up path (Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, §4.1): only
//! the blocks' inputs are kept, and the backward pass computes each block again.
//!
//! libtorch's hook for this exists in Python only. Here the pass is cut out of the graph instead. The loss is
//! computed from a leaf that holds the output; its gradient is carried back block by block; and what reaches the
//! inputs goes on as a term that is linear in them and has just that gradient.

use tch::{Kind, Tensor};

use super::{Bottleneck, Skips, UNet};

/// What stays in memory of a pass for its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpointing {
    /// Everything.
    Off,
    /// The inputs of the up blocks.
    On,
}

/// One pass through the up path.
#[derive(Debug)]
pub struct DecoderPass<'a> {
    unet: &'a UNet,
    bottleneck: Bottleneck,
    context: Tensor,
    inputs: Vec<Tensor>, // of each block; empty where everything is kept
    output: Tensor,
}

impl<'a> DecoderPass<'a> {
    /// Runs the up path on `bottleneck` under `context` (b, l, d).
    pub fn run(unet: &'a UNet, bottleneck: Bottleneck, context: Tensor, checkpointing: Checkpointing) -> Self {
        let mut inputs = Vec::new();
        let output = match checkpointing {
            Checkpointing::Off => unet.decode(&bottleneck, &context),
            Checkpointing::On => {
                let _no_grad = tch::no_grad_guard();
                let mut x = bottleneck.h.detach();
                for k in 0..unet.up_blocks.len() {
                    let below = unet.stage(k, &x, unet.skips_of(k, &bottleneck.skips), &bottleneck.temb, &context);
                    inputs.push(std::mem::replace(&mut x, below));
                }
                x
            }
        };
        let output = if inputs.is_empty() { output } else { output.detach().set_requires_grad(true) };
        Self { unet, bottleneck, context, inputs, output }
    }

    /// The model's output, (b, c, h, w), from which losses are computed.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// `loss`, a scalar that depends on [`DecoderPass::output`] alone, with a gradient that reaches this pass's inputs.
    ///
    /// `scale` multiplies the gradient on its way back through the blocks, so that it survives f16.
    pub fn connect(&self, loss: Tensor, scale: f64) -> Tensor {
        if self.inputs.is_empty() || !loss.requires_grad() {
            return loss;
        }
        let mut gradient = gradients(&(&loss * scale), &[&self.output]).remove(0);
        let mut reached: Vec<(&Tensor, Tensor)> = Vec::new(); // inputs of the pass, and their gradients
        for (k, x) in self.inputs.iter().enumerate().rev() {
            gradient = self.back_through(k, x, &gradient, &mut reached);
        }
        reached.push((&self.bottleneck.h, gradient));
        let linear = |(input, gradient): &(&Tensor, Tensor)| {
            (input.to_kind(Kind::Float) * gradient.to_kind(Kind::Float)).sum(Kind::Float) / scale
        };
        let terms = reached.iter().filter(|(input, _)| input.requires_grad()).map(linear);
        let value = loss.detach();
        match terms.reduce(|sum, term| sum + term) {
            Some(linear) => value + (&linear - linear.detach()),
            None => value,
        }
    }

    /// Computes block `k` again on its input `x` and carries the output's `gradient` back to it. The gradients of the
    /// context and the skips are added to `reached`.
    fn back_through<'s>(
        &'s self, k: usize, x: &Tensor, gradient: &Tensor, reached: &mut Vec<(&'s Tensor, Tensor)>,
    ) -> Tensor {
        let skips = self.unet.skips_of(k, &self.bottleneck.skips);
        let leaf = |t: &Tensor| t.detach().set_requires_grad(true);
        let (x, context) = (leaf(x), leaf(&self.context));
        let own: Vec<Tensor> = skips.own.iter().map(leaf).collect();
        let leaves = Skips { own: &own, next: skips.next };
        let output = self.unet.stage(k, &x, leaves, &self.bottleneck.temb, &context);
        let carried = (output * gradient).sum(Kind::Float);
        let wanted: Vec<usize> = (0..own.len()).filter(|&i| skips.own[i].requires_grad()).collect();
        let mut inputs = vec![&x];
        inputs.extend(self.context.requires_grad().then_some(&context));
        inputs.extend(wanted.iter().map(|&i| &own[i]));
        let mut found = gradients(&carried, &inputs).into_iter();
        let below = found.next().expect("invariant: one gradient an input");
        if self.context.requires_grad() {
            reached.extend(found.next().map(|g| (&self.context, g)));
        }
        reached.extend(wanted.iter().map(|&i| &skips.own[i]).zip(found));
        below
    }
}

/// d scalar / d input for each of `inputs`; zero if a block does not use one (an up block without attention does not
/// use the context).
fn gradients(scalar: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    let found = Tensor::run_backward(&[scalar], inputs, false, false);
    let or_zero = |(g, input): (Tensor, &&Tensor)| if g.defined() { g } else { input.zeros_like() };
    found.into_iter().zip(inputs).map(or_zero).collect()
}
