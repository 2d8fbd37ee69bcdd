//! AdamW (Loshchilov & Hutter 2019, alg. 2) and plain SGD, with a state that can be saved: libtorch's optimisers hide
//! theirs from Rust, so that a run could not resume.
//!
//! Whether an update takes place is decided on the device, so that the host need not wait for the gradient. A
//! parameter that a step does not serve stays as it is, with its moments and its count of steps, as torch skips
//! parameters without a gradient. Otherwise the moments of one emotion would go on moving it during the other
//! emotions' steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

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

/// A parameter with its moments, all f32 and of one shape, and its count of steps.
#[derive(Debug)]
struct Slot {
    name: String,
    group: usize,
    parameter: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor, // updates of this parameter, f64, a scalar on its device
}

/// The optimiser over all parameters, in a fixed order that every rank shares.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSection,
    slots: Vec<Slot>,
    updates: Tensor, // f64, a scalar on the parameters' device
}

impl Optimizer {
    /// Takes the parameters of each group; the group's index chooses its learning rate in [`Optimizer::step`].
    pub fn new(settings: OptimizerSection, groups: &[(&str, Vec<(String, Tensor)>)]) -> Self {
        let mut slots: Vec<Slot> = Vec::new();
        for (group, (prefix, parameters)) in groups.iter().enumerate() {
            for (name, parameter) in parameters {
                slots.push(Slot {
                    name: format!("{prefix}.{name}"),
                    group,
                    parameter: parameter.shallow_clone(),
                    exp_avg: parameter.zeros_like().detach(),
                    exp_avg_sq: parameter.zeros_like().detach(),
                    steps: Tensor::zeros([], (Kind::Double, parameter.device())),
                });
            }
        }
        let device = slots.first().map_or(Device::Cpu, |slot| slot.parameter.device());
        Self { settings, slots, updates: Tensor::zeros([], (Kind::Double, device)) }
    }

    /// The parameters' names, `<group>.<name>`, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }

    /// The trainable tensors, in order.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.slots.iter().map(|s| s.parameter.shallow_clone()).collect()
    }

    /// How many numbers are trained.
    pub fn num_parameters(&self) -> i64 {
        self.slots.iter().map(|s| s.parameter.numel() as i64).sum()
    }

    /// One update of the parameters that are `served`, from `gradients` (both in the parameters' order), each group
    /// at its own rate. Nothing changes if `finite`, a boolean scalar, is false.
    pub fn step(&mut self, gradients: &[Tensor], served: &[bool], learning_rates: &[f64], finite: &Tensor) {
        let _no_grad = tch::no_grad_guard();
        self.updates += finite;
        for ((slot, gradient), _) in self.slots.iter_mut().zip(gradients).zip(served).filter(|(_, served)| **served) {
            let rate = learning_rates[slot.group];
            slot.steps += finite;
            match self.settings.rule {
                Rule::Sgd => keep_or(&mut slot.parameter, finite, |parameter| parameter - gradient * rate),
                Rule::Adamw => adamw(slot, gradient, rate, &self.settings, finite),
            }
        }
    }

    /// What a checkpoint keeps, by name: both moments of each parameter and its steps. The number of updates is kept
    /// separately.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let of = |s: &Slot| {
            [
                (format!("{}.exp_avg", s.name), s.exp_avg.shallow_clone()),
                (format!("{}.exp_avg_sq", s.name), s.exp_avg_sq.shallow_clone()),
                (format!("{}.step", s.name), s.steps.shallow_clone()),
            ]
        };
        self.slots.iter().flat_map(of).collect()
    }

    /// How many updates were made; waits for the device.
    pub fn updates(&self) -> u64 {
        self.updates.double_value(&[]) as u64
    }

    /// The same as a scalar on the device, f64; later updates change it.
    pub fn updates_on_device(&self) -> &Tensor {
        &self.updates
    }

    /// Sets the number of updates after the state's tensors were copied in place.
    pub fn set_updates(&mut self, updates: u64) {
        let _ = self.updates.fill_(updates as f64);
    }
}

fn adamw(slot: &mut Slot, gradient: &Tensor, rate: f64, settings: &OptimizerSection, finite: &Tensor) {
    let (beta1, beta2) = (settings.adam_beta1, settings.adam_beta2);
    keep_or(&mut slot.exp_avg, finite, |first| first.lerp(gradient, 1.0 - beta1));
    keep_or(&mut slot.exp_avg_sq, finite, |second| second * beta2 + gradient.square() * (1.0 - beta2));
    let correction = |beta: f64| -> Tensor { 1.0 - Tensor::pow_scalar(beta, &slot.steps) };
    let denominator = slot.exp_avg_sq.sqrt() / correction(beta2).sqrt() + settings.adam_epsilon;
    let moved = &slot.exp_avg / denominator * (rate / correction(beta1));
    keep_or(&mut slot.parameter, finite, |parameter| parameter * (1.0 - rate * settings.adam_weight_decay) - moved);
}

/// Replaces `tensor` by `next` of it, if `finite` holds.
fn keep_or(tensor: &mut Tensor, finite: &Tensor, next: impl FnOnce(&Tensor) -> Tensor) {
    let chosen = next(tensor).where_self(finite, tensor);
    tensor.copy_(&chosen);
}

/// The norm of one flat tensor of all gradients, a scalar in f64.
pub fn norm(gradient: &Tensor) -> Tensor {
    gradient.square().sum(Kind::Double).sqrt()
}

/// Scales `gradient`, whose norm is `norm`, in place to a norm of at most `max_norm`, as torch's `clip_grad_norm_`.
pub fn clip(gradient: &mut Tensor, norm: &Tensor, max_norm: f64) {
    let coefficient = (max_norm / (norm + 1e-6)).clamp_max(1.0);
    let _ = gradient.g_mul_(&coefficient);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// Made by tests/fixtures/trainer/make.py with torch.optim.AdamW.
    fn fixture(name: &str) -> BTreeMap<String, Tensor> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/trainer").join(name);
        Tensor::read_safetensors(path).expect("the fixture is readable").into_iter().collect()
    }

    #[test]
    fn ten_steps_match_pytorch() {
        let fixture = fixture("adamw.safetensors");
        let start = |name: &str| (name.to_string(), fixture[name].copy().set_requires_grad(true));
        let groups = [("a", vec![start("a.start")]), ("b", vec![start("b.start")])];
        let settings = OptimizerSection { adam_weight_decay: 0.01, ..OptimizerSection::default() };
        let mut optimizer = Optimizer::new(settings, &groups);
        for step in 0..10 {
            let gradients = ["a", "b"].map(|g| fixture[&format!("{g}.gradient.{step}")].shallow_clone());
            // A gradient that is not finite changes nothing, the number of updates included.
            let (rates, broken) = ([1e-3, 5e-3], gradients.each_ref().map(|g| g * f64::NAN));
            optimizer.step(&broken, &[true; 2], &rates, &Tensor::from(false));
            optimizer.step(&gradients, &[true; 2], &rates, &Tensor::from(true));
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

    /// Two parameters that take turns, and a third that every step serves; torch gets `None` as the gradient of one
    /// that is not served.
    #[test]
    fn what_is_not_served_keeps_still_as_in_pytorch() {
        let fixture = fixture("adamw_turns.safetensors");
        let names = ["a", "b", "c"];
        let start = |name: &str| (name.to_string(), fixture[&format!("{name}.start")].copy().set_requires_grad(true));
        let groups = [("g", names.map(start).into_iter().collect::<Vec<_>>())];
        let settings = OptimizerSection { adam_weight_decay: 0.01, ..OptimizerSection::default() };
        let mut optimizer = Optimizer::new(settings, &groups);
        for step in 0..12 {
            let gradient = |name: &str| fixture.get(&format!("{name}.gradient.{step}")).map(Tensor::shallow_clone);
            let served = names.map(|name| gradient(name).is_some());
            let gradients =
                names.map(|name| gradient(name).unwrap_or_else(|| fixture[&format!("{name}.start")].zeros_like()));
            optimizer.step(&gradients, &served, &[1e-2], &Tensor::from(true));
        }
        for (parameter, name) in optimizer.parameters().iter().zip(names) {
            let difference = (parameter - &fixture[&format!("{name}.end")]).abs().max().double_value(&[]);
            assert!(difference < 1e-7, "{name}: {difference:e}");
        }
        for (name, tensor) in optimizer.state() {
            let expected = &fixture[name.trim_start_matches("g.")];
            let difference = (&tensor - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-7, "{name}: {tensor:?}, torch has {expected:?}");
        }
    }

    #[test]
    fn clipping_bounds_the_norm_and_leaves_small_gradients_alone() {
        let mut large = Tensor::from_slice(&[3.0f32, 4.0]);
        assert_eq!(norm(&large).double_value(&[]), 5.0);
        let of_large = norm(&large);
        clip(&mut large, &of_large, 1.0);
        assert!((large.norm().double_value(&[]) - 1.0).abs() < 1e-6);
        let mut small = Tensor::from_slice(&[0.3f32, 0.4]);
        let of_small = norm(&small);
        clip(&mut small, &of_small, 1.0);
        assert_eq!(small, Tensor::from_slice(&[0.3f32, 0.4]));
    }

    #[test]
    fn sgd_moves_against_the_gradient() {
        let parameter = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
        let settings = OptimizerSection { rule: Rule::Sgd, ..OptimizerSection::default() };
        let mut optimizer = Optimizer::new(settings, &[("delta", vec![("w".into(), parameter)])]);
        optimizer.step(&[Tensor::from_slice(&[2.0f32])], &[true], &[0.5], &Tensor::from(true));
        assert_eq!(optimizer.parameters()[0].double_value(&[0]), 0.0);
    }
}
