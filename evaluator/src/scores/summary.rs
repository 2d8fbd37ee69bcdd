//! From cases to the sections of the report: headlines, curves, splits and comparisons at equal LPIPS.

use emotions::Emotion;

use crate::config::plan::Plan;
use crate::evaluation::evaluate::Evaluation;
use crate::evaluation::evaluation_plan::EvaluatedMethod;
use crate::methods::SHUFFLED;
use crate::metrics::statistics::bootstrap::Bootstrap;
use crate::scores::equal_lpips::{self, EqualLpips};
use crate::scores::failures::Flag;
use crate::scores::rows::{Row, Summariser};
use crate::scores::Case;

/// A headline row with what belongs to it.
#[derive(Clone, Debug)]
pub struct Headline {
    /// The row.
    pub row: Row,
    /// Over the sources that are already labelled with the target.
    pub showing: Row,
    /// Over the others.
    pub not_showing: Row,
    /// At the LPIPS of the reference method, if that was asked for.
    pub at_equal_lpips: Option<EqualLpips>,
    /// The ways in which most of its edits fail: with any of them, a high Emo-A says little.
    pub flags: Vec<Flag>,
}

/// One emotion, or the mean over several.
#[derive(Clone, Debug)]
pub struct Section {
    /// Controls first.
    pub headlines: Vec<Headline>,
    /// Methods at all their strengths, without the controls.
    pub curves: Vec<Vec<Row>>,
}

impl Section {
    /// Summarises `emotions`, with means over them if there are several.
    pub fn new(plan: &Plan, evaluation: &Evaluation, emotions: &[Emotion]) -> Self {
        let summariser = Summariser {
            scores: &evaluation.scores,
            sets: &evaluation.sets,
            bootstrap: Bootstrap { samples: plan.config.bootstrap.samples, seed: plan.config.bootstrap.seed },
            sources: evaluation.sources.len(),
            exclude_target: plan.config.sources.exclude_target,
            limits: plan.config.failures,
            emotions: emotions.to_vec(),
        };
        let evaluated_methods = methods_of(evaluation, emotions);
        let mut headlines: Vec<Headline> = evaluated_methods.iter().map(|e| headline(&summariser, e)).collect();
        let swept = evaluated_methods.iter().filter(|e| !e.about.control);
        let curves: Vec<Vec<Row>> = swept.map(|e| summariser.curve(e)).collect();
        if let Some(reference) = &plan.config.headline.equal_lpips {
            let rows: Vec<&Row> = headlines.iter().map(|h| &h.row).collect();
            let mut compared = equal_lpips::compare(&summariser, &rows, &curves, reference);
            headlines.iter_mut().for_each(|h| h.at_equal_lpips = compared.remove(h.row.about.key));
        }
        Self { headlines, curves }
    }

    /// The row of a method.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.headlines.iter().map(|h| &h.row).find(|r| r.about.key == key)
    }
}

/// The methods that took part for all of `emotions`, in order.
fn methods_of(evaluation: &Evaluation, emotions: &[Emotion]) -> Vec<EvaluatedMethod> {
    let methods_by_emotion: Vec<_> =
        evaluation.evaluated_methods.iter().filter(|(e, _)| emotions.contains(e)).collect();
    let everywhere = |evaluated_method: &&EvaluatedMethod| {
        methods_by_emotion.iter().all(|(_, others)| others.iter().any(|o| o.about.key == evaluated_method.about.key))
    };
    methods_by_emotion.first().map(|(_, first)| first.iter().filter(everywhere).cloned().collect()).unwrap_or_default()
}

fn headline(summariser: &Summariser<'_>, evaluated_method: &EvaluatedMethod) -> Headline {
    let row =
        |include: &dyn Fn(&Case) -> bool| summariser.row(evaluated_method.about, evaluated_method.headline, include);
    let mut counted = row(&|case| summariser.counts(case));
    for (key, measure) in summariser.measures_of_sets(evaluated_method.about.key) {
        counted.measures.insert(key, measure);
    }
    Headline {
        row: counted,
        showing: row(&|case| case.shows_target),
        not_showing: row(&|case| !case.shows_target),
        at_equal_lpips: None,
        flags: flags(summariser, evaluated_method),
    }
}

fn flags(summariser: &Summariser<'_>, evaluated_method: &EvaluatedMethod) -> Vec<Flag> {
    if evaluated_method.about.key == SHUFFLED {
        return Vec::new(); // the featured method's edits, which have their flags
    }
    summariser.failures(evaluated_method.about.key, evaluated_method.headline).flags()
}
