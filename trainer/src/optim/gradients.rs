//! The gradient of a step, summed term by term: each term's graph is freed before the next term is computed.
//!
//! Sums are in f64, so that it hardly matters which rank computed what: AdamW amplifies the last bits of a small
//! gradient.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::run::world::flatten;

/// The sum of gradients in each parameter, over terms and micro-batches.
pub struct Gradients {
    parameters: Vec<Tensor>,
    sums: Vec<Option<Tensor>>,
    loss_scale: f64,
}

impl Gradients {
    /// Empty sums. Losses are multiplied by `loss_scale` before each backward pass, and the sums keep that factor.
    pub fn new(parameters: Vec<Tensor>, loss_scale: f64) -> Self {
        let sums = parameters.iter().map(|_| None).collect();
        Self { parameters, sums, loss_scale }
    }

    /// Adds the gradient of `loss`, a scalar. Returns the gradient of `leaf`, a tensor that stands for a part of the
    /// graph whose backward pass comes later.
    pub fn add(&mut self, loss: &Tensor, leaf: Option<&Tensor>) -> Option<Tensor> {
        if !loss.requires_grad() {
            return None;
        }
        let inputs: Vec<&Tensor> = self.parameters.iter().chain(leaf).collect();
        let mut found = Tensor::run_backward(&[loss * self.loss_scale], &inputs, false, false);
        let of_leaf = leaf.and_then(|_| found.pop()).filter(Tensor::defined);
        self.gather(found);
        of_leaf
    }

    /// Adds the parameters' gradient through `graph`, whose own `gradient` is given, scaled already.
    pub fn add_through(&mut self, graph: &Tensor, gradient: &Tensor) {
        let carried = (graph * gradient).sum(graph.kind());
        let found = Tensor::run_backward(&[carried], &self.parameters, false, false);
        self.gather(found);
    }

    fn gather(&mut self, found: Vec<Tensor>) {
        for (sum, gradient) in self.sums.iter_mut().zip(found) {
            if gradient.defined() {
                let gradient = gradient.to_kind(Kind::Double);
                *sum = Some(sum.take().map_or_else(|| gradient.shallow_clone(), |sum| sum + &gradient));
            }
        }
    }

    /// The sums of the parameters in `range` as one flat tensor; zero where there was no gradient.
    pub fn flat(&self, range: Range<usize>, device: Device) -> Tensor {
        let sums = self.parameters[range.clone()].iter().zip(&self.sums[range]);
        let sums =
            sums.map(|(parameter, sum)| sum.as_ref().map_or_else(|| parameter.zeros_like(), Tensor::shallow_clone));
        flatten(&sums.collect::<Vec<_>>(), Kind::Double, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two terms over one shared part of the graph must give what one backward pass of their sum gives.
    #[test]
    fn term_by_term_is_the_gradient_of_the_sum() {
        tch::manual_seed(0);
        let leaf = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let (token, delta) = (leaf(&[3]), leaf(&[3]));
        let shared = |token: &Tensor| (token * 2.0).sin();
        let edit = |context: &Tensor| (context * &delta).square().sum(Kind::Double);
        let denoising = |context: &Tensor| context.exp().sum(Kind::Double) + token.square().sum(Kind::Double);
        let context = shared(&token);
        let whole = edit(&context) + denoising(&context);
        let expected = Tensor::run_backward(&[whole * 8.0], &[&token, &delta], false, false);

        let mut gradients = Gradients::new(vec![token.shallow_clone(), delta.shallow_clone()], 8.0);
        let graph = shared(&token);
        let kept = graph.detach().set_requires_grad(true);
        let from_edit = gradients.add(&edit(&kept), Some(&kept)).expect("it reaches the context");
        let from_denoising = gradients.add(&denoising(&kept), Some(&kept)).expect("it reaches the context");
        gradients.add_through(&graph, &(from_edit + from_denoising));
        assert_eq!(gradients.add(&Tensor::from(1.0), None), None, "a constant gives nothing");
        let found = gradients.flat(0..2, Device::Cpu);
        let expected = flatten(&expected, Kind::Double, Device::Cpu);
        assert!(found.allclose(&expected, 1e-12, 1e-12, false), "{found:?} {expected:?}");
        assert_eq!(gradients.flat(1..2, Device::Cpu).size(), [3]);
    }

    #[test]
    fn what_nothing_reaches_is_zero() {
        let parameter = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let gradients = Gradients::new(vec![parameter], 1.0);
        assert_eq!(gradients.flat(0..1, Device::Cpu), Tensor::zeros([2], (Kind::Double, Device::Cpu)));
        assert_eq!(gradients.flat(0..0, Device::Cpu).size(), [0], "as the tokens of Asyrp alone");
    }
}
