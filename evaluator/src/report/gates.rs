//! Gates: conditions on report.json that decide the exit code.

use serde::Serialize;
use serde_json::Value;

use crate::config::GateEntry;
use crate::error::{Error, Result};

/// Where the path of a number may begin.
const ROOTS: [&str; 4] = ["methods.", "emotions.", "comparisons.", PREVIOUS];
/// The last comparable night's headline, such as history.previous.methods.joint.values.emo_a.
const PREVIOUS: &str = "history.previous.";

/// A gate whose form was checked.
#[derive(Clone, Debug)]
pub struct Gate {
    metric: String,
    minus: Option<String>,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The result of a gate.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The number's path in report.json.
    pub metric: String,
    /// What was subtracted.
    pub minus: Option<String>,
    /// The condition.
    pub bound: String,
    /// The number; none if the report has no number there.
    pub value: Option<f64>,
    /// Whether the condition holds.
    pub passed: bool,
    /// Whether it holds because there is no earlier night to compare with.
    pub first_night: bool,
}

impl Gate {
    /// Checks the entry; `place` is its index in the recipe.
    pub fn parse(place: usize, entry: &GateEntry) -> Result<Self> {
        for path in std::iter::once(&entry.metric).chain(&entry.minus) {
            if !ROOTS.iter().any(|root| path.starts_with(root)) {
                let roots = ROOTS.join(", ");
                let message = format!("{path}: paths begin with one of {roots}, such as methods.joint.emo_a");
                return Err(Error::config(format!("gates.{place}"), message));
            }
        }
        let bound = Bound::parse(&entry.bound).ok_or_else(|| {
            let message = format!("{:?}: write >= or <= and a number, such as \"<= 0.2\"", entry.bound);
            Error::config(format!("gates.{place}.bound"), message)
        })?;
        Ok(Self { metric: entry.metric.clone(), minus: entry.minus.clone(), bound })
    }

    /// Looks the numbers up in a finished report. A missing number fails the gate, except an earlier night's if there
    /// is none under the same conditions.
    pub fn check(&self, report: &Value) -> Outcome {
        let first_night = report.pointer("/history/previous").is_none_or(Value::is_null)
            && std::iter::once(&self.metric).chain(&self.minus).any(|path| path.starts_with(PREVIOUS));
        let value = number(report, &self.metric);
        let value = match &self.minus {
            None => value,
            Some(minus) => value.zip(number(report, minus)).map(|(value, minus)| value - minus),
        };
        Outcome {
            metric: self.metric.clone(),
            minus: self.minus.clone(),
            bound: self.bound.to_string(),
            value,
            passed: first_night || value.is_some_and(|v| self.bound.holds(v)),
            first_night,
        }
    }
}

impl Bound {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let number = |rest: &str| rest.trim().parse::<f64>().ok().filter(|v| v.is_finite());
        if let Some(rest) = text.strip_prefix(">=") {
            return number(rest).map(Bound::AtLeast);
        }
        text.strip_prefix("<=").and_then(number).map(Bound::AtMost)
    }

    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::AtLeast(bound) => write!(f, ">= {bound}"),
            Bound::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

fn number(report: &Value, path: &str) -> Option<f64> {
    path.split('.').try_fold(report, |value, key| value.get(key))?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(metric: &str, minus: Option<&str>, bound: &str) -> Result<Gate> {
        Gate::parse(0, &GateEntry { metric: metric.into(), minus: minus.map(Into::into), bound: bound.into() })
    }

    #[test]
    fn gates_compare_numbers_and_differences() {
        let report = serde_json::json!({"methods": {"joint": {"emo_a": 0.7, "psnr": null}, "no_edit": {"emo_a": 0.1}}});
        let passes = |metric, minus, bound| gate(metric, minus, bound).expect("valid").check(&report).passed;
        assert!(passes("methods.joint.emo_a", Some("methods.no_edit.emo_a"), ">= 0.5"));
        assert!(!passes("methods.joint.emo_a", None, ">=0.8"));
        assert!(passes("methods.joint.emo_a", None, "<= 0.7"));
        assert!(!passes("methods.joint.psnr", None, "<= 0.7"), "a missing number fails");
        assert!(!passes("methods.asyrp.emo_a", None, ">= 0"));
        let report = serde_json::json!({"comparisons": {"no_edit": {"emo_a": {"overall": {"difference": 0.3}}}}});
        let paired = gate("comparisons.no_edit.emo_a.overall.difference", None, ">= 0.2").expect("valid");
        assert!(paired.check(&report).passed);
    }

    #[test]
    fn a_night_is_held_against_the_one_before_if_there_was_one() {
        let minus = Some("history.previous.methods.joint.values.emo_a");
        let gate = gate("methods.joint.emo_a", minus, ">= -0.05").expect("valid");
        let night = |then: Value| {
            let history = serde_json::json!({"previous": then});
            gate.check(&serde_json::json!({"methods": {"joint": {"emo_a": 0.6}}, "history": history}))
        };
        let then = |emo_a: f64| serde_json::json!({"methods": {"joint": {"values": {"emo_a": emo_a}}}});
        assert!(night(then(0.62)).passed && !night(then(0.7)).passed);
        assert!(night(Value::Null).passed && night(Value::Null).first_night);
        assert!(!night(serde_json::json!({"methods": {}})).passed, "a method that is gone fails");
    }

    #[test]
    fn malformed_gates_are_refused() {
        assert!(gate("joint.emo_a", None, ">= 0.5").is_err());
        assert!(gate("methods.joint.emo_a", Some("no_edit"), ">= 0.5").is_err());
        for bound in ["0.5", "> 0.5", ">= x", "<= inf", ""] {
            assert!(gate("methods.joint.emo_a", None, bound).is_err(), "{bound}");
        }
    }
}
