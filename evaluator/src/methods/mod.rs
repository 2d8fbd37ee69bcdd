//! What turns sources into edits: the controls and the trained runs, all behind [`Method`].
//!
//! Adding a method is adding a file and a line in [`lineups`].

mod no_edit;
mod trained_run;
mod vae_round_trip;

use std::rc::Rc;

use dataloader::Emotion;
use diffusion::images;
use diffusion::pipeline::Pipeline;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

pub use no_edit::NoEdit;
pub use trained_run::TrainedRun;
pub use vae_round_trip::VaeRoundTrip;

use crate::error::Result;
use crate::plan::Plan;
use crate::sources::Batch;

/// The key of the control that scores the featured method's edits against other targets.
pub const SHUFFLED: &str = "shuffled";

/// How a method is named and explained.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct About {
    /// The key in report.json.
    pub key: &'static str,
    /// The row's heading.
    pub name: &'static str,
    /// One sentence.
    pub definition: &'static str,
    /// Whether it edits nothing on purpose.
    pub control: bool,
}

/// The row of relabelled edits.
pub const ABOUT_SHUFFLED: About = About {
    key: SHUFFLED,
    name: "Shuffled target",
    definition: "The featured method's edits, each scored against an emotion drawn from the other seven: an edit that \
                 hits any target would score here too.",
    control: true,
};

/// Something that edits photos.
pub trait Method {
    /// Name and definition.
    fn about(&self) -> About;

    /// The strengths it is run at, ascending; none where strength means nothing.
    fn strengths(&self) -> &[f64];

    /// The strength of the headline table.
    fn headline(&self) -> Option<f64>;

    /// The edits of a batch towards its emotion, in [−1, 1]: one (b, 3, h, w) for each of [`Method::strengths`], or one
    /// alone where there are none.
    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>>;
}

/// The methods that compete for one emotion, controls first.
pub struct Lineup {
    /// The target.
    pub emotion: Emotion,
    /// The methods.
    pub methods: Vec<Rc<dyn Method>>,
}

/// Loads the pipeline and every run of the plan.
pub fn lineups(plan: &Plan) -> Result<Vec<Lineup>> {
    let pipeline = Rc::new(Pipeline::load(&plan.base.1, plan.device, Kind::Float)?);
    let controls: [Rc<dyn Method>; 2] = [Rc::new(NoEdit), Rc::new(VaeRoundTrip::new(pipeline.clone()))];
    let mut lineups = Vec::new();
    for &emotion in &plan.emotions {
        let mut methods = controls.to_vec();
        let mut runs: Vec<_> = plan.runs.iter().filter(|r| r.emotion == emotion).collect();
        runs.sort_by_key(|r| r.method);
        for run in runs {
            methods.push(Rc::new(TrainedRun::load(plan, run, pipeline.clone())?));
        }
        lineups.push(Lineup { emotion, methods });
    }
    Ok(lineups)
}

/// Edits as a user gets them: clamped to [−1, 1], rounded to 8 bits.
pub fn pictures_of(edits: &Tensor) -> Result<Vec<RgbImage>> {
    let edits = edits.clamp(-1.0, 1.0).to_device(Device::Cpu);
    (0..edits.size()[0]).map(|i| Ok(images::from_tensor(&edits.narrow(0, i, 1))?)).collect()
}
