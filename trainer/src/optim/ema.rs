//! An exponential moving average of the parameters, with the warm-up of diffusers' EMAModel: what is exported, shown and
//! scored where `train.ema_decay` is set.

use tch::Tensor;

/// The average of every parameter, f32, in the optimiser's order.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    averages: Vec<(String, Tensor)>,
}

impl Ema {
    /// Starts at the parameters' values.
    pub fn new(decay: f64, parameters: &[(String, Tensor)]) -> Self {
        let average = |(name, parameter): &(String, Tensor)| (name.clone(), parameter.detach().copy());
        Self { decay, averages: parameters.iter().map(average).collect() }
    }

    /// Moves the averages towards `parameters` after update number `updates` (a scalar in f64, counted from 1), if
    /// `finite` holds, that is, if the update took place.
    pub fn update(&mut self, parameters: &[Tensor], updates: &Tensor, finite: &Tensor) {
        let _no_grad = tch::no_grad_guard();
        let share: Tensor = (1.0 - decay_at(self.decay, updates)) * finite;
        for ((_, average), parameter) in self.averages.iter_mut().zip(parameters) {
            let _ = average.lerp_tensor_(parameter, &share.to_kind(parameter.kind()));
        }
    }

    /// The averages by name; they share memory with `self`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.averages.iter().map(|(name, average)| (name.clone(), average.shallow_clone())).collect()
    }

    /// Runs `work` with the averages in `parameters`, and restores their own values.
    pub fn with_averages<T>(&self, parameters: &mut [Tensor], work: impl FnOnce() -> T) -> T {
        let _no_grad = tch::no_grad_guard();
        let own: Vec<Tensor> = parameters.iter().map(|p| p.detach().copy()).collect();
        for (parameter, (_, average)) in parameters.iter_mut().zip(&self.averages) {
            parameter.copy_(average);
        }
        let result = work();
        for (parameter, own) in parameters.iter_mut().zip(&own) {
            parameter.copy_(own);
        }
        result
    }
}

/// min(decay, (1 + s)/(10 + s)) with s = updates − 1; 0 at the first update.
fn decay_at(decay: f64, updates: &Tensor) -> Tensor {
    let s = (updates - 1.0).clamp_min(0.0);
    let warm: Tensor = (&s + 1.0) / (&s + 10.0);
    warm.clamp_max(decay) * s.gt(0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// tests/fixtures/trainer/make.py: a parameter after each step, and diffusers' EMAModel's average of it.
    #[test]
    fn the_average_is_that_of_diffusers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/trainer/ema.safetensors");
        let fixture: BTreeMap<String, Tensor> =
            Tensor::read_safetensors(path).expect("the fixture is readable").into_iter().collect();
        let mut ema = Ema::new(0.8, &[("w".into(), fixture["parameter.0"].shallow_clone())]);
        for step in 1..=60 {
            let parameter = fixture[&format!("parameter.{step}")].shallow_clone();
            let updates = Tensor::from(f64::from(step));
            ema.update(&[&parameter + 1.0], &updates, &Tensor::from(false));
            ema.update(&[parameter], &updates, &Tensor::from(true));
            let difference = (&ema.averages[0].1 - &fixture[&format!("average.{step}")]).abs().max();
            assert!(difference.double_value(&[]) < 1e-6, "step {step}: {difference:?}");
        }
    }

    #[test]
    fn the_averages_are_lent_and_the_parameters_come_back() {
        let mut parameters = [Tensor::from_slice(&[1.0f32])];
        let ema = Ema::new(0.9, &[("w".into(), Tensor::from_slice(&[5.0f32]))]);
        let view = parameters[0].shallow_clone();
        assert_eq!(ema.with_averages(&mut parameters, || view.double_value(&[0])), 5.0);
        assert_eq!(parameters[0].double_value(&[0]), 1.0);
    }
}
