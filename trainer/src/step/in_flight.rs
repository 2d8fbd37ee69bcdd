//! Steps whose numbers are still on the device: they are read together, so that the host seldom waits.

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::step::numbers::StepNumbers;

/// One step, finished or still being computed.
pub struct StepInFlight {
    /// Its number, counted from 1.
    pub step: u64,
    /// A row of [`StepNumbers`] on the device, f64.
    pub numbers: Tensor,
    /// Of each group of parameters.
    pub learning_rates: Vec<(&'static str, f64)>,
}

/// The steps in order, and the time since the last read.
pub struct StepsInFlight {
    steps: Vec<StepInFlight>,
    since: Instant,
    waited: Duration,
}

/// The result of a read: the steps with their numbers, and the average time of a step.
pub struct Read {
    /// In order.
    pub steps: Vec<(StepInFlight, StepNumbers)>,
    /// The part of it that was spent waiting for data.
    pub waited: Duration,
    /// The whole step.
    pub whole: Duration,
}

impl StepsInFlight {
    /// No steps; time counts from now.
    pub fn new() -> Self {
        Self { steps: Vec::new(), since: Instant::now(), waited: Duration::ZERO }
    }

    /// Adds a step and the time that it waited for its data.
    pub fn push(&mut self, step: StepInFlight, waited: Duration) {
        self.steps.push(step);
        self.waited += waited;
    }

    /// Waits for the device and reads all steps in one transfer.
    pub fn read(&mut self) -> anyhow::Result<Read> {
        let steps = std::mem::take(&mut self.steps);
        let count = steps.len().max(1) as u32;
        let numbers: Vec<&Tensor> = steps.iter().map(|step| &step.numbers).collect();
        let numbers: Vec<Vec<f64>> = match numbers.is_empty() {
            true => Vec::new(),
            false => Vec::try_from(Tensor::stack(&numbers, 0).to_kind(Kind::Double).to_device(Device::Cpu))?,
        };
        let read = Read {
            steps: steps.into_iter().zip(numbers.iter().map(|row| StepNumbers::from_row(row))).collect(),
            waited: self.waited / count,
            whole: self.since.elapsed() / count,
        };
        self.since = Instant::now();
        self.waited = Duration::ZERO;
        Ok(read)
    }

    /// Restarts the clock after work that does not belong to a step.
    pub fn restart_clock(&mut self) {
        self.since = Instant::now();
    }
}
