//! What every part of a run needs: the recipe, the frozen networks, the images, the other ranks.

use diffusion::process::ddim::InversionSchedule;

use crate::config::resolved::Resolved;
use crate::data::trajectories::Trajectories;
use crate::data::Data;
use crate::run::models::Models;
use crate::run::signals::Stop;
use crate::run::world::World;

/// Set up once; training changes nothing in it.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The checked recipe.
    pub recipe: &'a Resolved,
    /// The frozen networks.
    pub models: &'a Models,
    /// The timesteps of inversion and edit.
    pub inversion_schedule: &'a InversionSchedule,
    /// The image streams.
    pub data: &'a Data,
    /// The sources' inversions.
    pub trajectories: &'a Trajectories,
    /// The other ranks.
    pub world: &'a World,
    /// Whether a signal came.
    pub stop: &'a Stop,
}
