//! What each optimiser step works on: a pure function of the step, so that it does not depend on the number of ranks
//! or on resumes.
//!
//! A step serves one emotion. With `trajectory: source` the emotions take turns step by step. With `trajectory:
//! edited` they take turns descent by descent; a descent edits one global batch of sources at all edited timesteps,
//! one after another.

use crate::config::TrajectoryKind;

/// The plan of all steps.
#[derive(Clone, Debug)]
pub struct StepSchedule {
    /// Which latents the edit is trained on.
    pub kind: TrajectoryKind,
    /// The timestep indices that are edited, from the highest down.
    pub timestep_indices: Vec<usize>,
    /// How many emotions take turns.
    pub num_emotions: u64,
}

/// One step of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledStep {
    /// Index of the emotion.
    pub emotion: usize,
    /// The timestep index of the whole batch; if none, each sample draws its own.
    pub timestep_index: Option<usize>,
    /// Whether the sources come fresh from their inversion, and not from the step before.
    pub fresh: bool,
    /// Which global batch of the emotion's sources.
    pub source_batch: u64,
    /// Which global batch of the emotion's images.
    pub image_batch: u64,
}

impl StepSchedule {
    /// The work of step `step`, counted from 0.
    pub fn of(&self, step: u64) -> ScheduledStep {
        let num_timesteps = self.timestep_indices.len() as u64;
        match self.kind {
            TrajectoryKind::Source => {
                let (turn, emotion) = (step / self.num_emotions, step % self.num_emotions);
                ScheduledStep {
                    emotion: emotion as usize,
                    timestep_index: None,
                    fresh: true,
                    source_batch: turn,
                    image_batch: turn,
                }
            }
            TrajectoryKind::Edited => {
                let (descent, below_top) = (step / num_timesteps, step % num_timesteps);
                let (turn, emotion) = (descent / self.num_emotions, descent % self.num_emotions);
                ScheduledStep {
                    emotion: emotion as usize,
                    timestep_index: Some(self.timestep_indices[below_top as usize]),
                    fresh: below_top == 0,
                    source_batch: turn,
                    image_batch: turn * num_timesteps + below_top,
                }
            }
        }
    }
}

impl StepSchedule {
    /// How many global batches of emotion number `emotion`'s sources the first `steps` steps see.
    pub fn source_batches(&self, emotion: usize, steps: u64) -> u64 {
        let turns = match self.kind {
            TrajectoryKind::Source => steps,
            TrajectoryKind::Edited => steps.div_ceil(self.timestep_indices.len() as u64),
        };
        (turns + self.num_emotions - 1 - emotion as u64) / self.num_emotions
    }
}

/// The indices of `timesteps` (ascending) that are edited from `t_edit` on, highest first; index 0 is the photo
/// itself.
pub fn edited_timestep_indices(timesteps: &[i64], t_edit: i64) -> Vec<usize> {
    (1..timesteps.len()).rev().filter(|&k| timesteps[k] >= t_edit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descent_passes_every_edited_timestep_with_the_same_sources() {
        let timestep_indices = edited_timestep_indices(&[0, 333, 666, 999], 600);
        assert_eq!(timestep_indices, [3, 2]);
        let step_schedule = StepSchedule { kind: TrajectoryKind::Edited, timestep_indices, num_emotions: 2 };
        let plan: Vec<ScheduledStep> = (0..8).map(|s| step_schedule.of(s)).collect();
        let timestep_indices: Vec<usize> = plan.iter().filter_map(|v| v.timestep_index).collect();
        assert_eq!(timestep_indices, [3, 2, 3, 2, 3, 2, 3, 2]);
        assert_eq!(plan.iter().map(|v| v.emotion).collect::<Vec<_>>(), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(plan.iter().map(|v| v.source_batch).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(plan.iter().map(|v| v.image_batch).collect::<Vec<_>>(), [0, 1, 0, 1, 2, 3, 2, 3]);
        assert_eq!(plan.iter().filter(|v| v.fresh).count(), 4);
        assert_eq!((step_schedule.source_batches(0, 8), step_schedule.source_batches(1, 8)), (2, 2));
        assert_eq!((step_schedule.source_batches(0, 5), step_schedule.source_batches(1, 5)), (2, 1));
    }

    #[test]
    fn on_the_source_emotions_take_turns_step_by_step() {
        let step_schedule =
            StepSchedule { kind: TrajectoryKind::Source, timestep_indices: vec![3, 2], num_emotions: 3 };
        assert_eq!((0..6).map(|s| step_schedule.of(s).emotion).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(step_schedule.of(5).source_batch, 1);
        assert_eq!((step_schedule.source_batches(0, 4), step_schedule.source_batches(1, 4)), (2, 1));
    }
}
