//! From cases to rows: means, intervals, curves, splits and equal-LPIPS comparisons.

use dataloader::Emotion;

use crate::config::FailureLimits;
use crate::contest::Entrant;
use crate::equal_lpips::{self, EqualLpips};
use crate::evaluate::Evaluation;
use crate::failures::{Failures, Flag, Symptoms};
use crate::methods::{About, SHUFFLED};
use crate::metrics::bootstrap::{mean, Bootstrap};
use crate::metrics::confusion::Confusion;
use crate::plan::Plan;
use crate::scores::{Board, Case, Series};
use crate::sets::Sets;

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
    /// One measure a metric: the board's, then those of whole sets, which headline rows alone have.
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
    /// Where the method changes photos as much as the reference method, where that was asked for.
    pub at_equal_lpips: Option<EqualLpips>,
    /// The ways in which most of its edits fail: a high Emo-A says little beside one.
    pub flags: Vec<Flag>,
}

/// One emotion, or the mean over several.
#[derive(Clone, Debug)]
pub struct Section {
    /// Controls first.
    pub headlines: Vec<Headline>,
    /// Methods at all their strengths, controls left out.
    pub curves: Vec<Vec<Row>>,
}

/// Makes rows.
pub(crate) struct Summariser<'a> {
    pub(crate) board: &'a Board,
    sets: &'a Sets,
    pub(crate) sources: usize,
    pub(crate) emotions: Vec<Emotion>,
    bootstrap: Bootstrap,
    exclude_target: bool,
    limits: FailureLimits,
}

impl Section {
    /// Summarises `emotions`, means over them where there are several.
    pub fn new(plan: &Plan, evaluation: &Evaluation, emotions: &[Emotion]) -> Self {
        let summariser = Summariser {
            board: &evaluation.board,
            sets: &evaluation.sets,
            bootstrap: Bootstrap { samples: plan.config.bootstrap.samples, seed: plan.config.bootstrap.seed },
            sources: evaluation.sources.len(),
            exclude_target: plan.config.sources.exclude_target,
            limits: plan.config.failures,
            emotions: emotions.to_vec(),
        };
        let entrants = entrants_of(evaluation, emotions);
        let mut headlines: Vec<Headline> = entrants.iter().map(|e| summariser.headline(e)).collect();
        let swept = entrants.iter().filter(|e| !e.about.control);
        let curves: Vec<Vec<Row>> = swept.map(|e| summariser.curve(e)).collect();
        if let Some(reference) = &plan.config.headline.equal_lpips {
            equal_lpips::compare(&summariser, &mut headlines, &curves, reference);
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
        let mut counted = row(&|case| self.counts(case));
        counted.measures.truncate(self.board.metrics.len());
        counted.measures.extend(self.measures_of_sets(entrant.about.key));
        Headline {
            row: counted,
            showing: row(&|case| case.shows_target),
            not_showing: row(&|case| !case.shows_target),
            at_equal_lpips: None,
            flags: self.flags(entrant),
        }
    }

    fn flags(&self, entrant: &Entrant) -> Vec<Flag> {
        if entrant.about.key == SHUFFLED {
            return Vec::new(); // the featured method's edits, which have their flags
        }
        self.failures(entrant.about.key, entrant.headline).flags()
    }

    /// How a method's edits at a strength fail.
    pub(crate) fn failures(&self, key: &str, strength: Option<f64>) -> Failures {
        let series = self.emotions.iter().filter_map(|&e| self.board.find(key, e, strength));
        let cases = series.flat_map(|s| &s.cases).filter(|case| self.counts(case));
        Failures::count(&self.limits, &cases.map(|case| Symptoms::of(case, self.board)).collect::<Vec<_>>())
    }

    fn curve(&self, entrant: &Entrant) -> Vec<Row> {
        let at = |&strength: &f64| self.row(entrant.about, Some(strength), &|case| self.counts(case));
        entrant.strengths.iter().map(at).collect()
    }

    pub(crate) fn counts(&self, case: &Case) -> bool {
        !(self.exclude_target && case.shows_target)
    }

    fn row(&self, about: About, strength: Option<f64>, include: &dyn Fn(&Case) -> bool) -> Row {
        let series: Vec<&Series> =
            self.emotions.iter().filter_map(|&e| self.board.find(about.key, e, strength)).collect();
        let cases = || series.iter().flat_map(|s| &s.cases).filter(|case| include(case));
        let strata = |series: &[&Series], metric: usize| -> Vec<Vec<f64>> {
            series.iter().map(|s| self.values(s, metric, include)).collect()
        };
        let confusion = Confusion::of(cases().map(|case| (case.target, case.predicted)));
        let mut measures: Vec<Measure> =
            (0..self.board.metrics.len()).map(|m| self.measure(&strata(&series, m))).collect();
        measures.extend(self.sets.abouts().map(|_| Measure { value: None, interval: None }));
        Row {
            about,
            strength,
            n: cases().count(),
            measures,
            macro_f1: (self.emotions.len() > 1).then(|| confusion.macro_f1()),
            confusion,
        }
    }

    /// The means over the emotions; sums have no interval.
    fn measures_of_sets(&self, method: &str) -> Vec<Measure> {
        let by_emotion: Vec<Vec<Option<f64>>> = self.emotions.iter().map(|&e| self.sets.values(method, e)).collect();
        let measure = |metric: usize| {
            let strata: Vec<Vec<f64>> = by_emotion.iter().map(|v| v[metric].into_iter().collect()).collect();
            Measure { value: mean(&strata), interval: None }
        };
        (0..self.sets.abouts().count()).map(measure).collect()
    }

    /// One value a source, NaN for none.
    fn values(&self, series: &Series, metric: usize, include: &dyn Fn(&Case) -> bool) -> Vec<f64> {
        let mut values = vec![f64::NAN; self.sources];
        for case in series.cases.iter().filter(|case| include(case)) {
            values[case.source] = case.values[metric];
        }
        values
    }

    /// The mean and its interval over `strata`: one row an emotion, one column a source, NaN for no value.
    pub(crate) fn measure(&self, strata: &[Vec<f64>]) -> Measure {
        Measure { value: mean(strata), interval: self.bootstrap.interval(strata) }
    }
}
