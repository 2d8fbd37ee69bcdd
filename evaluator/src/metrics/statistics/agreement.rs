//! How far two judges agree on the same pictures: the share on which they agree, and Cohen's κ, the part of it that
//! is more than chance (Cohen, *A Coefficient of Agreement for Nominal Scales*, 1960).

use emotions::Emotion;
use serde::Serialize;

/// The class that a judge finds; none if it is none of the eight emotions.
type Found = Option<Emotion>;

/// Two judges on the same labelled pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Pictures.
    pub n: usize,
    /// Share on which both find the same class.
    pub agreement: f64,
    /// Cohen's κ: 0 is chance, 1 is always; none if chance alone would always agree.
    pub kappa: Option<f64>,
    /// Share on which each finds the label.
    pub accuracy: [f64; 2],
}

impl Agreement {
    /// From (label, first judge's class, second judge's class), where a class may be none of the eight emotions; none
    /// without pictures.
    pub fn of(found: &[(Emotion, Found, Found)]) -> Option<Self> {
        if found.is_empty() {
            return None;
        }
        let n = found.len() as f64;
        let share = |is: &dyn Fn(&(Emotion, Found, Found)) -> bool| {
            found.iter().filter(|picture| is(picture)).count() as f64 / n
        };
        let agreement = share(&|(_, a, b)| a == b);
        let classes = Emotion::ALL.into_iter().map(Some).chain([None]);
        let chance: f64 = classes.map(|class| share(&|(_, a, _)| *a == class) * share(&|(_, _, b)| *b == class)).sum();
        Some(Self {
            n: found.len(),
            agreement,
            kappa: (chance < 1.0).then(|| (agreement - chance) / (1.0 - chance)),
            accuracy: [share(&|(label, a, _)| *a == Some(*label)), share(&|(label, _, b)| *b == Some(*label))],
        })
    }
}
