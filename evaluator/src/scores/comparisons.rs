//! Every method against the featured one on the same sources: paired differences of the deciding metrics, with Holm's
//! correction over the emotions.

use emotions::Emotion;
use serde::Serialize;
use serde_json::{json, Map, Value};

use crate::config::plan::Plan;
use crate::evaluation::evaluate::Evaluation;
use crate::evaluation::evaluation_plan::EvaluatedMethod;
use crate::methods::{self, SHUFFLED};
use crate::metrics::statistics::bootstrap::Bootstrap;
use crate::metrics::statistics::holm;
use crate::metrics::statistics::paired::Difference;
use crate::metrics::About;
use crate::scores::{Case, Series};

/// The metrics that methods are compared by, also under the further judges.
const COMPARED: [&str; 4] = ["emo_a", "emo_s", "lpips", "truth_gain"];

/// The featured method minus another in one metric.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The other method.
    pub method: methods::About,
    /// What is compared.
    pub metric: About,
    /// Over all emotions; none if no source has both values.
    pub overall: Option<Difference>,
    /// Each emotion's own.
    pub emotions: Vec<EmotionDifference>,
}

/// The featured method minus another in one metric, over one emotion's edits.
#[derive(Clone, Debug, Serialize)]
pub struct EmotionDifference {
    /// The emotion.
    #[serde(skip)]
    pub emotion: Emotion,
    /// The difference.
    #[serde(flatten)]
    pub difference: Difference,
    /// Its p-value, adjusted for the number of emotions.
    pub p_holm: Option<f64>,
}

impl EmotionDifference {
    /// Whether it is significant at 5 % after the correction.
    pub fn is_clear(&self) -> bool {
        self.p_holm.is_some_and(|p| p < 0.05)
    }
}

/// All comparisons of an evaluation, method by method; none if no method is featured.
pub fn all(plan: &Plan, evaluation: &Evaluation) -> Vec<Comparison> {
    let Some(featured) = evaluation.featured else { return Vec::new() };
    let bootstrap = Bootstrap { samples: plan.config.bootstrap.samples, seed: plan.config.bootstrap.seed };
    let mut compared = Vec::new();
    for method in others(evaluation, featured) {
        for metric in evaluation.scores.metrics.iter().filter(|m| is_compared(m.key)) {
            let pairs = Pairs { plan, evaluation, featured, other: method.key, metric: metric.key };
            let strata: Vec<(Emotion, Vec<f64>)> =
                plan.emotions.iter().filter_map(|&emotion| Some((emotion, pairs.differences(emotion)?))).collect();
            compared.push(Comparison::new(method, *metric, &strata, &bootstrap));
        }
    }
    compared
}

fn is_compared(key: &str) -> bool {
    COMPARED
        .iter()
        .any(|compared| key == *compared || key.strip_prefix(compared).is_some_and(|k| k.starts_with("_judge_")))
}

/// The other methods of any emotion, without the shuffled control.
fn others(evaluation: &Evaluation, featured: &str) -> Vec<methods::About> {
    let mut others: Vec<methods::About> = Vec::new();
    for EvaluatedMethod { about, .. } in
        evaluation.evaluated_methods.iter().flat_map(|(_, evaluated_methods)| evaluated_methods)
    {
        let is_other = about.key != featured && about.key != SHUFFLED;
        if is_other && others.iter().all(|known| known.key != about.key) {
            others.push(*about);
        }
    }
    others
}

/// One comparison's values.
struct Pairs<'a> {
    plan: &'a Plan,
    evaluation: &'a Evaluation,
    featured: &'a str,
    other: &'a str,
    metric: &'a str,
}

impl Pairs<'_> {
    /// Featured minus other at their headline strengths, one value for each source; NaN if either has no value, none
    /// if a method did not take part.
    fn differences(&self, emotion: Emotion) -> Option<Vec<f64>> {
        let (featured, other) = (self.values(self.featured, emotion)?, self.values(self.other, emotion)?);
        Some(featured.iter().zip(other).map(|(featured, other)| featured - other).collect())
    }

    fn values(&self, key: &str, emotion: Emotion) -> Option<Vec<f64>> {
        let (_, evaluated_methods) = self.evaluation.evaluated_methods.iter().find(|(e, _)| *e == emotion)?;
        let headline = evaluated_methods.iter().find(|evaluated_method| evaluated_method.about.key == key)?.headline;
        let series: &Series = self.evaluation.scores.find(key, emotion, headline)?;
        let counts = |case: &&Case| !(self.plan.config.sources.exclude_target && case.shows_target);
        let mut values = vec![f64::NAN; self.evaluation.sources.len()];
        series.cases.iter().filter(counts).for_each(|case| values[case.source] = case.values[self.metric]);
        Some(values)
    }
}

impl Comparison {
    fn new(method: methods::About, metric: About, strata: &[(Emotion, Vec<f64>)], bootstrap: &Bootstrap) -> Self {
        let rows: Vec<Vec<f64>> = strata.iter().map(|(_, values)| values.clone()).collect();
        let of = |(emotion, values): &(Emotion, Vec<f64>)| {
            Some((*emotion, Difference::of(std::slice::from_ref(values), bootstrap)?))
        };
        let alone: Vec<(Emotion, Difference)> = strata.iter().filter_map(of).collect();
        let p: Vec<f64> = alone.iter().filter_map(|(_, difference)| difference.p).collect();
        let mut adjusted = holm::adjusted(&p).into_iter();
        let emotions = alone.into_iter().map(|(emotion, difference)| {
            let p_holm = difference.p.and_then(|_| adjusted.next());
            EmotionDifference { emotion, difference, p_holm }
        });
        Self { method, metric, overall: Difference::of(&rows, bootstrap), emotions: emotions.collect() }
    }
}

/// For report.json: by method, then by metric.
pub fn json(comparisons: &[Comparison]) -> Value {
    let mut methods = Map::new();
    for Comparison { method, metric, overall, emotions } in comparisons {
        let emotion = |of: &EmotionDifference| (of.emotion.name().to_string(), json!(of));
        let emotions: Map<String, Value> = emotions.iter().map(emotion).collect();
        let by_metric = methods.entry(method.key).or_insert_with(|| json!({}));
        by_metric[metric.key] = json!({"overall": overall, "emotions": emotions});
    }
    Value::Object(methods)
}
