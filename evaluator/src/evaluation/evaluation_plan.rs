//! What an evaluation needs: the methods, the photos and the judges.

use std::rc::Rc;

use diffusion::pipeline::Pipeline;
use emotions::Emotion;
use serde_json::Value;
use tch::Kind;

use crate::config::plan::Plan;
use crate::error::Result;
use crate::evaluation::observe::Observer;
use crate::evaluation::sources::Sources;
use crate::methods::style::Style;
use crate::methods::{self, Method, NoEdit, Oracle, TrainedRun, VaeRoundTrip};

/// Who takes part, on which photos, before which judges.
pub struct EvaluationPlan {
    /// The photos.
    pub sources: Sources,
    /// The methods of each emotion.
    pub methods_by_emotion: Vec<EmotionMethods>,
    /// What the style images were, where a method looks at them.
    pub style: Option<Value>,
    /// The networks that judge the edits.
    pub observer: Observer,
}

impl EvaluationPlan {
    /// Opens the sources and loads every method and judge of the plan.
    pub fn open(plan: &Plan) -> Result<Self> {
        let sources = Sources::open(&plan.config.sources, &plan.config.store)?;
        let (methods_by_emotion, style) = methods_by_emotion(plan, &sources)?;
        Ok(Self { sources, methods_by_emotion, style: style.map(|style| style.account()), observer: observer(plan)? })
    }
}

/// Loads the judges of a plan.
pub fn observer(plan: &Plan) -> Result<Observer> {
    let models = &plan.config.models;
    let (first, further) = plan.judges.split_first().expect("a plan has at least one judge");
    let observer = Observer::load(&first.folder, &plan.clip, first.clip.as_deref(), plan.device)?;
    let observer = further.iter().try_fold(observer, |all, judge| all.with_judge(&judge.folder, judge.clip.as_deref()));
    observer?.with_inception(models.inception.as_deref())
}

/// A method and its place in the evaluation.
#[derive(Clone, Debug)]
pub struct EvaluatedMethod {
    /// Name and definition.
    pub about: methods::About,
    /// Its strengths, ascending.
    pub strengths: Vec<f64>,
    /// The headline strength.
    pub headline: Option<f64>,
    /// Whether its edits differ by emotion.
    pub by_emotion: bool,
}

/// The joint run where there is one, else the last trained method.
pub(crate) fn featured(methods_by_emotion: &[EmotionMethods]) -> Option<&'static str> {
    let trained = || methods_by_emotion.iter().flat_map(|l| &l.methods).map(|m| m.about()).filter(|a| !a.control);
    trained().find(|a| a.key == "joint").or(trained().next_back()).map(|a| a.key)
}

pub(crate) fn evaluated_methods(
    plan: &Plan, methods_by_emotion: &[EmotionMethods],
) -> Vec<(Emotion, Vec<EvaluatedMethod>)> {
    let shuffled = featured(methods_by_emotion).filter(|_| plan.config.shuffled);
    let of = |method: &Rc<dyn Method>| EvaluatedMethod {
        about: method.about(),
        strengths: method.strengths().to_vec(),
        headline: method.headline(),
        by_emotion: method.looks_at_emotion(),
    };
    let all = |emotion_methods: &EmotionMethods| {
        let mut evaluated_methods: Vec<EvaluatedMethod> = emotion_methods.methods.iter().map(of).collect();
        if let Some(key) = shuffled.filter(|key| evaluated_methods.iter().any(|e| e.about.key == *key)) {
            let headline = evaluated_methods.iter().find(|e| e.about.key == key).and_then(|e| e.headline);
            let place = evaluated_methods.iter().take_while(|e| e.about.control).count();
            let about = methods::ABOUT_SHUFFLED;
            let strengths = headline.into_iter().collect();
            evaluated_methods.insert(place, EvaluatedMethod { about, strengths, headline, by_emotion: true });
        }
        (emotion_methods.emotion, evaluated_methods)
    };
    methods_by_emotion.iter().map(all).collect()
}

/// Every method of every emotion.
pub(crate) fn each(
    evaluated_methods: &[(Emotion, Vec<EvaluatedMethod>)],
) -> impl Iterator<Item = (Emotion, &EvaluatedMethod)> {
    evaluated_methods.iter().flat_map(|(emotion, all)| all.iter().map(|method| (*emotion, method)))
}

/// The methods that compete for one emotion, controls first.
pub struct EmotionMethods {
    /// The target.
    pub emotion: Emotion,
    /// The methods.
    pub methods: Vec<Rc<dyn Method>>,
}

impl EmotionMethods {
    /// Edits of each source.
    pub fn edits(&self) -> usize {
        self.methods.iter().map(|m| m.strengths().len().max(1)).sum()
    }
}

/// Loads the pipeline, the statistics of the style images and every run of the plan.
fn methods_by_emotion(plan: &Plan, sources: &Sources) -> Result<(Vec<EmotionMethods>, Option<Style>)> {
    let pipeline = Rc::new(Pipeline::load(&plan.base.1, plan.device, Kind::Float)?);
    let style = plan.config.style_images.as_ref().filter(|_| plan.baselines.iter().any(|b| b.settings.needs_style()));
    let style =
        style.map(|style| Style::gather(style, &plan.config.store, &plan.emotions, sources, &pipeline)).transpose()?;
    let controls: [Rc<dyn Method>; 2] = [Rc::new(NoEdit), Rc::new(VaeRoundTrip::new(pipeline.clone()))];
    let (have_truth, detail) = (sources.have_truth(&plan.emotions), plan.detail());
    let mut methods_by_emotion = Vec::new();
    for &emotion in &plan.emotions {
        let mut methods = controls.to_vec();
        if have_truth {
            methods.push(Rc::new(Oracle::new(pipeline.clone(), emotion, detail)));
        }
        for baseline in &plan.baselines {
            methods.push(baseline.load(emotion, pipeline.clone(), style.as_ref())?);
        }
        let mut runs: Vec<_> = plan.runs.iter().filter(|r| r.emotion == emotion).collect();
        runs.sort_by_key(|r| r.method);
        for run in runs {
            methods.push(Rc::new(TrainedRun::load(
                run.method,
                &run.run,
                emotion,
                plan.sweep(run.method),
                pipeline.clone(),
            )?));
        }
        methods_by_emotion.push(EmotionMethods { emotion, methods });
    }
    Ok((methods_by_emotion, style))
}
