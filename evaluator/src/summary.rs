//! From cases to rows: means, intervals, curves, splits and equal-LPIPS comparisons.

use dataloader::Emotion;

use crate::config::RunMethod;
use crate::evaluate::{Entrant, Evaluation};
use crate::methods::About;
use crate::metrics::bootstrap::{mean, Bootstrap};
use crate::metrics::confusion::Confusion;
use crate::plan::Plan;
use crate::scores::{Board, Case, Series};

/// A mean and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// The mean; infinite where a value is; none where nothing was measured.
    pub value: Option<f64>,
    /// The bootstrap interval; none where the mean has none.
    pub interval: Option<[f64; 2]>,
}

/// A method at one strength, over one emotion or several.
#[derive(Clone, Debug)]
pub struct Row {
    /// The method.
    pub about: About,
    /// The strength; none for methods without one.
    pub strength: Option<f64>,
    /// Number of edits counted.
    pub n: usize,
    /// One measure a metric, in the board's order.
    pub measures: Vec<Measure>,
    /// Asked against found.
    pub confusion: Confusion,
    /// Over all eight classes; only where several emotions were asked for.
    pub macro_f1: Option<f64>,
}

/// A headline row with what belongs to it.
#[derive(Clone, Debug)]
pub struct Headline {
    /// The row.
    pub row: Row,
    /// The sources that are labelled with the target already.
    pub showing: Row,
    /// The others.
    pub not_showing: Row,
    /// The row at the largest strength whose LPIPS is at most the reference method's, where that was asked for.
    pub at_equal_lpips: Option<EqualLpips>,
}

/// The outcome of an equal-LPIPS comparison.
#[derive(Clone, Debug)]
pub struct EqualLpips {
    /// The reference method's key.
    pub reference: &'static str,
    /// The row; none if even the smallest strength lies above the reference's LPIPS.
    pub row: Option<Row>,
    /// Whether it is the largest strength that was run: a larger one might still lie below.
    pub at_the_end: bool,
}

/// One emotion, or the mean over several.
#[derive(Clone, Debug)]
pub struct Section {
    /// Controls first.
    pub headlines: Vec<Headline>,
    /// Trained methods at all their strengths.
    pub curves: Vec<Vec<Row>>,
}

/// Makes rows.
struct Summariser<'a> {
    board: &'a Board,
    bootstrap: Bootstrap,
    sources: usize,
    exclude_target: bool,
    emotions: Vec<Emotion>,
}

impl Section {
    /// Summarises `emotions`, means over them where there are several.
    pub fn new(plan: &Plan, evaluation: &Evaluation, emotions: &[Emotion]) -> Self {
        let summariser = Summariser {
            board: &evaluation.board,
            bootstrap: Bootstrap { samples: plan.config.bootstrap.samples, seed: plan.config.bootstrap.seed },
            sources: evaluation.sources.len(),
            exclude_target: plan.config.sources.exclude_target,
            emotions: emotions.to_vec(),
        };
        let entrants = entrants_of(evaluation, emotions);
        let mut headlines: Vec<Headline> = entrants.iter().map(|e| summariser.headline(e)).collect();
        let trained = entrants.iter().filter(|e| !e.about.control);
        let curves: Vec<Vec<Row>> = trained.map(|e| summariser.curve(e)).collect();
        if let Some(reference) = plan.config.headline.equal_lpips {
            let lpips = evaluation.board.place("lpips");
            compare_at_equal_lpips(&mut headlines, &curves, reference, lpips);
        }
        Self { headlines, curves }
    }

    /// The row of a method.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.headlines.iter().map(|h| &h.row).find(|r| r.about.key == key)
    }
}

/// The methods that took part for all of `emotions`, in order.
fn entrants_of(evaluation: &Evaluation, emotions: &[Emotion]) -> Vec<Entrant> {
    let lineups: Vec<_> = evaluation.entrants.iter().filter(|(e, _)| emotions.contains(e)).collect();
    let everywhere =
        |entrant: &&Entrant| lineups.iter().all(|(_, others)| others.iter().any(|o| o.about.key == entrant.about.key));
    lineups.first().map(|(_, first)| first.iter().filter(everywhere).cloned().collect()).unwrap_or_default()
}

impl Summariser<'_> {
    fn headline(&self, entrant: &Entrant) -> Headline {
        let row = |include: &dyn Fn(&Case) -> bool| self.row(entrant.about, entrant.headline, include);
        Headline {
            row: row(&|case| self.counts(case)),
            showing: row(&|case| case.shows_target),
            not_showing: row(&|case| !case.shows_target),
            at_equal_lpips: None,
        }
    }

    fn curve(&self, entrant: &Entrant) -> Vec<Row> {
        let at = |&strength: &f64| self.row(entrant.about, Some(strength), &|case| self.counts(case));
        entrant.strengths.iter().map(at).collect()
    }

    fn counts(&self, case: &Case) -> bool {
        !(self.exclude_target && case.shows_target)
    }

    fn row(&self, about: About, strength: Option<f64>, include: &dyn Fn(&Case) -> bool) -> Row {
        let series: Vec<&Series> =
            self.emotions.iter().filter_map(|&e| self.board.find(about.key, e, strength)).collect();
        let cases = || series.iter().flat_map(|s| &s.cases).filter(|case| include(case));
        let confusion = Confusion::of(cases().map(|case| (case.target, case.predicted)));
        Row {
            about,
            strength,
            n: cases().count(),
            measures: (0..self.board.metrics.len()).map(|m| self.measure(&series, m, include)).collect(),
            macro_f1: (self.emotions.len() > 1).then(|| confusion.macro_f1()),
            confusion,
        }
    }

    fn measure(&self, series: &[&Series], metric: usize, include: &dyn Fn(&Case) -> bool) -> Measure {
        let stratum = |series: &&Series| {
            let mut values = vec![f64::NAN; self.sources];
            for case in series.cases.iter().filter(|case| include(case)) {
                values[case.source] = case.values[metric];
            }
            values
        };
        let strata: Vec<Vec<f64>> = series.iter().map(stratum).collect();
        Measure { value: mean(&strata), interval: self.bootstrap.interval(&strata) }
    }
}

/// Gives every other trained method its row at the largest strength whose LPIPS is at most the reference's.
fn compare_at_equal_lpips(headlines: &mut [Headline], curves: &[Vec<Row>], reference: RunMethod, lpips: usize) {
    let value = |row: &Row| row.measures[lpips].value;
    let reference = reference.key();
    let Some(bound) = headlines.iter().find(|h| h.row.about.key == reference).and_then(|h| value(&h.row)) else {
        return;
    };
    for curve in curves.iter().filter(|c| c.first().is_some_and(|r| r.about.key != reference)) {
        let row = curve.iter().rev().find(|row| value(row).is_some_and(|v| v <= bound)).cloned();
        let at_the_end = row.is_some() && row.as_ref().map(|r| r.strength) == curve.last().map(|r| r.strength);
        let key = curve[0].about.key;
        if let Some(headline) = headlines.iter_mut().find(|h| h.row.about.key == key) {
            headline.at_equal_lpips = Some(EqualLpips { reference, row, at_the_end });
        }
    }
}
