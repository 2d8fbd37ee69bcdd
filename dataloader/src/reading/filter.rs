//! Filters of a data set's rows: a section of the trainer's and the evaluator's recipes.

use std::collections::BTreeMap;

use emotions::Emotion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::row::Entry;

/// Conditions that a row must all meet; an empty filter passes every row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// The split's name, such as `train`.
    pub split: Option<String>,
    /// The row's emotion, or one of its attribute `emotions`, must be one of these.
    pub emotions: Vec<Emotion>,
    /// Neither the row's emotion nor any of its attribute `emotions` may be this one.
    pub without_emotion: Option<Emotion>,
    /// The state that the row's subject must be in, where the data set has pairs: `neutral`, an emotion, or another word.
    pub state: Option<String>,
    /// Only labels of this kind: `evoked` in viewers or `expressed` by people in the picture.
    pub namespace: Option<String>,
    /// The highest ambiguity that annotators may have given, 0 to 6; rows without a value pass.
    pub max_ambiguity: Option<f32>,
    /// Only rows whose valence has the sign of their emotion; rows without a valence pass.
    pub valence_agrees: bool,
    /// Exact values in the row's attributes, such as `style: openPeeps`.
    pub attributes: BTreeMap<String, String>,
}

impl Filter {
    /// Whether a row passes.
    pub fn passes(&self, entry: &Entry) -> bool {
        self.split.as_ref().is_none_or(|split| *split == entry.split)
            && (self.emotions.is_empty() || self.emotions.iter().any(|&e| entry.shows(e)))
            && self.without_emotion.is_none_or(|e| !entry.shows(e))
            && self.state.as_ref().is_none_or(|state| entry.state.as_ref() == Some(state))
            && self.namespace.as_ref().is_none_or(|namespace| entry.namespace.as_ref() == Some(namespace))
            && self.max_ambiguity.is_none_or(|most| entry.ambiguity.is_none_or(|a| a <= most))
            && (!self.valence_agrees || agrees(entry.emotion, entry.valence))
            && self.attributes.iter().all(|(key, value)| equals(entry.attributes.get(key), value))
    }

    /// The filter on one line, for messages.
    pub fn describe(&self) -> String {
        serde_json::to_string(self).expect("a filter is plain data")
    }
}

/// Whether there is an emotion, and no valence that contradicts it.
pub(crate) fn agrees(emotion: Option<Emotion>, valence: Option<f32>) -> bool {
    emotion.is_some_and(|emotion| valence.is_none_or(|valence| emotion.agrees_with(valence)))
}

fn equals(found: Option<&Value>, wanted: &str) -> bool {
    match found {
        Some(Value::String(text)) => text == wanted,
        Some(other) => serde_json::to_string(other).is_ok_and(|text| text == wanted),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::row::tests::entry;

    #[test]
    fn every_condition_must_hold() {
        let mut row = entry("a");
        row.split = "train".into();
        row.emotion = Some(Emotion::Fear);
        row.emotions = vec![Emotion::Fear, Emotion::Awe];
        row.state = Some("fear".into());
        row.attributes = serde_json::json!({"kind": "face", "size": 3});
        let passes = |yaml: &str| serde_yaml::from_str::<Filter>(yaml).expect("valid").passes(&row);
        assert!(passes("{}"));
        assert!(passes("{split: train, emotions: [awe], attributes: {kind: face, size: \"3\"}}"));
        assert!(!passes("{split: test}"));
        assert!(passes("{state: fear}"));
        assert!(!passes("{state: neutral}"));
        assert!(!passes("{emotions: [anger]}"));
        assert!(!passes("{without_emotion: awe}"));
        assert!(passes("{without_emotion: anger}"));
        assert!(!passes("{attributes: {kind: animal}}"));
        assert!(!passes("{attributes: {colour: red}}"));
        assert!(serde_yaml::from_str::<Filter>("{emotion: awe}").is_err());
    }
}
