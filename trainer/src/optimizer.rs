//! AdamW (Loshchilov & Hutter 2019, alg. 2) and plain SGD, with state that is ours to save: libtorch's optimisers
//! hide theirs from Rust, so a run could not resume.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which rule moves the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Adam with decoupled weight decay.
    Adamw,
    /// θ ← θ − lr·g: what Asyrp's release used for its conv delta.
    Sgd,
}

/// The optimiser's constants; names as diffusers' examples have them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSection {
    /// adamw or sgd.
    pub rule: Rule,
    /// Decay of the first moment.
    pub adam_beta1: f64,
    /// Decay of the second moment.
    pub adam_beta2: f64,
    /// Decoupled weight decay.
    pub adam_weight_decay: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
}

impl Default for OptimizerSection {
    fn default() -> Self {
        Self { rule: Rule::Adamw, adam_beta1: 0.9, adam_beta2: 0.999, adam_weight_decay: 0.0, adam_epsilon: 1e-8 }
    }
}

/// A parameter with its moments, all f32 and of one shape.
#[derive(Debug)]
struct Slot {
    name: String,
    group: usize,
    parameter: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

/// The optimiser over all parameters, in a fixed order that every rank shares.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSection,
    slots: Vec<Slot>,
    updates: u64,
}

impl Optimizer {
    /// Takes the parameters of each group; the group's index chooses its learning rate in [`Optimizer::step`].
    pub fn new(settings: OptimizerSection, groups: &[(&str, Vec<(String, Tensor)>)]) -> Self {
        let mut slots = Vec::new();
        for (group, (prefix, parameters)) in groups.iter().enumerate() {
            for (name, parameter) in parameters {
                slots.push(Slot {
                    name: format!("{prefix}.{name}"),
                    group,
                    parameter: parameter.shallow_clone(),
                    exp_avg: parameter.zeros_like().detach(),
                    exp_avg_sq: parameter.zeros_like().detach(),
                });
            }
        }
        Self { settings, slots, updates: 0 }
    }

    /// The trainable tensors, in order.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.slots.iter().map(|s| s.parameter.shallow_clone()).collect()
    }

    /// How many numbers are trained.
    pub fn num_parameters(&self) -> i64 {
        self.slots.iter().map(|s| s.parameter.numel() as i64).sum()
    }

    /// One update from `gradients` (in the parameters' order), each group at its own rate.
    pub fn step(&mut self, gradients: &[Tensor], learning_rates: &[f64]) {
        let _no_grad = tch::no_grad_guard();
        self.updates += 1;
        for (slot, gradient) in self.slots.iter_mut().zip(gradients) {
            let rate = learning_rates[slot.group];
            match self.settings.rule {
                Rule::Sgd => slot.parameter.copy_(&(&slot.parameter - gradient * rate)),
                Rule::Adamw => adamw(slot, gradient, rate, &self.settings, self.updates as i32),
            }
        }
    }

    /// What a checkpoint keeps, by name: both moments of each parameter. The number of updates is kept beside.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let of = |s: &Slot| {
            [
                (format!("{}.exp_avg", s.name), s.exp_avg.shallow_clone()),
                (format!("{}.exp_avg_sq", s.name), s.exp_avg_sq.shallow_clone()),
            ]
        };
        self.slots.iter().flat_map(of).collect()
    }

    /// How many updates were made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Sets the number of updates, after the state's tensors were copied in place.
    pub fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }
}

fn adamw(slot: &mut Slot, gradient: &Tensor, rate: f64, settings: &OptimizerSection, updates: i32) {
    let (beta1, beta2) = (settings.adam_beta1, settings.adam_beta2);
    let _ = slot.exp_avg.lerp_(gradient, 1.0 - beta1);
    let second = &slot.exp_avg_sq * beta2 + gradient.square() * (1.0 - beta2);
    slot.exp_avg_sq.copy_(&second);
    let (correction1, correction2) = (1.0 - beta1.powi(updates), 1.0 - beta2.powi(updates));
    let denominator = slot.exp_avg_sq.sqrt() / correction2.sqrt() + settings.adam_epsilon;
    let decayed = &slot.parameter * (1.0 - rate * settings.adam_weight_decay);
    slot.parameter.copy_(&(decayed - &slot.exp_avg / denominator * (rate / correction1)));
}

/// The norm of one flat tensor that holds every gradient, a scalar in f64.
pub fn norm(gradient: &Tensor) -> Tensor {
    gradient.square().sum(Kind::Double).sqrt()
}

/// Scales `gradient`, of this `norm`, in place so that its norm is at most `max_norm`, as torch's `clip_grad_norm_`.
pub fn clip(gradient: &mut Tensor, norm: f64, max_norm: f64) {
    let coefficient = max_norm / (norm + 1e-6);
    if coefficient < 1.0 {
        let _ = gradient.g_mul_scalar_(coefficient);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// Made by tests/fixtures/trainer/make.py with torch.optim.AdamW.
    fn fixture() -> BTreeMap<String, Tensor> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/trainer/adamw.safetensors");
        Tensor::read_safetensors(path).expect("the fixture is readable").into_iter().collect()
    }

    #[test]
    fn ten_steps_match_pytorch() {
        let fixture = fixture();
        let start = |name: &str| (name.to_string(), fixture[name].copy().set_requires_grad(true));
        let groups = [("a", vec![start("a.start")]), ("b", vec![start("b.start")])];
        let settings = OptimizerSection { adam_weight_decay: 0.01, ..OptimizerSection::default() };
        let mut optimizer = Optimizer::new(settings, &groups);
        for step in 0..10 {
            let gradients = ["a", "b"].map(|g| fixture[&format!("{g}.gradient.{step}")].shallow_clone());
            optimizer.step(&gradients, &[1e-3, 5e-3]);
        }
        for (parameter, name) in optimizer.parameters().iter().zip(["a.end", "b.end"]) {
            let difference = (parameter - &fixture[name]).abs().max().double_value(&[]);
            assert!(difference < 1e-7, "{name}: {difference:e}");
        }
        for (name, tensor) in optimizer.state() {
            let short = name.replacen("a.a.start", "a", 1).replacen("b.b.start", "b", 1);
            let difference = (&tensor - &fixture[&short]).abs().max().double_value(&[]);
            assert!(difference < 1e-7, "{name}: {difference:e}");
        }
    }

    #[test]
    fn clipping_bounds_the_norm_and_leaves_small_gradients_alone() {
        let mut large = Tensor::from_slice(&[3.0f32, 4.0]);
        assert_eq!(norm(&large).double_value(&[]), 5.0);
        clip(&mut large, 5.0, 1.0);
        assert!((large.norm().double_value(&[]) - 1.0).abs() < 1e-6);
        let mut small = Tensor::from_slice(&[0.3f32, 0.4]);
        clip(&mut small, 0.5, 1.0);
        assert_eq!(small, Tensor::from_slice(&[0.3f32, 0.4]));
    }

    #[test]
    fn sgd_moves_against_the_gradient() {
        let parameter = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
        let settings = OptimizerSection { rule: Rule::Sgd, ..OptimizerSection::default() };
        let mut optimizer = Optimizer::new(settings, &[("delta", vec![("w".into(), parameter)])]);
        optimizer.step(&[Tensor::from_slice(&[2.0f32])], &[0.5]);
        assert_eq!(optimizer.parameters()[0].double_value(&[0]), 0.0);
    }
}
