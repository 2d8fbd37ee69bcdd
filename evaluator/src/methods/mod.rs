//! What turns sources into edits: the controls, the baselines and the trained runs, all behind [`Method`].
//!
//! Adding a method is adding a file with its settings and a line for each of them in [`baseline`].

pub mod adain;
pub mod baseline;
pub mod colour_transfer;
pub mod latent_arithmetic;
pub mod moments;
mod no_edit;
pub mod sdedit;
mod trained_run;
mod vae_round_trip;

use std::rc::Rc;

use dataloader::Emotion;
use diffusion::detail::Detail;
use diffusion::images;
use diffusion::pipeline::Pipeline;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

pub use adain::Adain;
pub use colour_transfer::ColourTransfer;
pub use latent_arithmetic::LatentArithmetic;
pub use no_edit::NoEdit;
pub use sdedit::Sdedit;
pub use trained_run::TrainedRun;
pub use vae_round_trip::VaeRoundTrip;

use crate::config::Config;
use crate::error::Result;
use crate::plan::Plan;
use crate::sources::{Batch, Encoded, Sources};
use crate::style::Style;

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
    definition: "The featured method's edits, each scored against an emotion drawn from the other seven. What is left of \
                 its hits is shared by seven: about (100 − Emo-A) / 7 %, chance (12.5 %) where the method knows nothing. \
                 More would mean that the judge likes any edit.",
    control: true,
};

/// The strengths that a method is run at.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Ascending, the headline's among them.
    pub strengths: Vec<f64>,
    /// The strength of the headline table.
    pub headline: f64,
}

impl Sweep {
    /// `strengths` and the recipe's headline strength for the method `key`, or `headline` if it names none.
    pub fn new(config: &Config, key: &str, strengths: &[f64], headline: f64) -> Self {
        let headline = config.headline.per_method.get(key).copied().unwrap_or(headline);
        let mut strengths: Vec<f64> = strengths.iter().copied().chain([headline]).collect();
        strengths.sort_by(f64::total_cmp);
        strengths.dedup();
        Self { strengths, headline }
    }
}

/// Something that edits photos.
pub trait Method {
    /// Name and definition.
    fn about(&self) -> About;

    /// The strengths it is run at, ascending; none where strength means nothing, nor the emotion.
    fn strengths(&self) -> &[f64];

    /// The strength of the headline table; none where there are none.
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

/// Loads the pipeline, the statistics of the style images and every run of the plan.
pub fn lineups(plan: &Plan, sources: &Sources) -> Result<(Vec<Lineup>, Option<Style>)> {
    let pipeline = Rc::new(Pipeline::load(&plan.base.1, plan.device, Kind::Float)?);
    let style = plan.config.style_images.as_ref().filter(|_| plan.baselines.iter().any(|b| b.settings.needs_style()));
    let style =
        style.map(|style| Style::gather(style, &plan.config.store, &plan.emotions, sources, &pipeline)).transpose()?;
    let controls: [Rc<dyn Method>; 2] = [Rc::new(NoEdit), Rc::new(VaeRoundTrip::new(pipeline.clone()))];
    let mut lineups = Vec::new();
    for &emotion in &plan.emotions {
        let mut methods = controls.to_vec();
        for baseline in &plan.baselines {
            methods.push(baseline.load(emotion, pipeline.clone(), style.as_ref())?);
        }
        let mut runs: Vec<_> = plan.runs.iter().filter(|r| r.emotion == emotion).collect();
        runs.sort_by_key(|r| r.method);
        for run in runs {
            methods.push(Rc::new(TrainedRun::load(plan, run, pipeline.clone())?));
        }
        lineups.push(Lineup { emotion, methods });
    }
    Ok((lineups, style))
}

/// Edited latents (b, c, h, w) as images (b, 3, h, w), with what `detail` says of the sources'.
fn decoded(pipeline: &Pipeline, source: &Encoded, latents: &Tensor, detail: Detail) -> Tensor {
    let decoded = pipeline.images_from_latents(latents);
    detail.restore(&source.images, &source.round_trip, &decoded, Tensor::shallow_clone)
}

/// Baselines are run as they were published, unless their recipe says otherwise.
fn no_detail() -> Detail {
    Detail::None
}

/// Edits as a user gets them: clamped to [−1, 1], rounded to 8 bits.
pub fn pictures_of(edits: &Tensor) -> Result<Vec<RgbImage>> {
    let edits = edits.clamp(-1.0, 1.0).to_device(Device::Cpu);
    (0..edits.size()[0]).map(|i| Ok(images::from_tensor(&edits.narrow(0, i, 1))?)).collect()
}
