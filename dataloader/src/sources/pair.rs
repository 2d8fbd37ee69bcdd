//! Pairs: pictures of one *subject* (a person, a photo) in several *states* (an emotion, or none). If a data set has
//! them, an edit of one picture can be compared with the true other one.

use emotions::{Emotion, UnknownEmotion};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Item;
use crate::format::row::NEUTRAL;

/// The keys of an image's metadata that name its subject and state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairKeys {
    /// Names the subject.
    pub subject: String,
    /// Names the state; if it is missing, the image's emotion or label is the state.
    pub state: String,
}

impl Default for PairKeys {
    fn default() -> Self {
        Self { subject: "subject".into(), state: "state".into() }
    }
}

impl PairKeys {
    /// Takes subject and state out of an image's metadata.
    pub(super) fn take(&self, metadata: &mut Map<String, Value>) -> Result<(Option<String>, Option<String>), String> {
        Ok((text(metadata, &self.subject)?, text(metadata, &self.state)?))
    }
}

/// A word, or a number used as one.
fn text(metadata: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match metadata.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("{key}: {other} is no name; give a text or a number")),
    }
}

/// The category that a source's `emotion` names; `neutral` and an empty value name none.
pub(super) fn emotion_of(word: &str) -> Result<Option<Emotion>, UnknownEmotion> {
    match word.trim() {
        "" => Ok(None),
        word if word.eq_ignore_ascii_case(NEUTRAL) => Ok(None),
        word => word.parse().map(Some),
    }
}

impl Item {
    /// The item with subject and state completed. Empty names become none. Names of emotions get their usual
    /// spelling. A subject without a state has its emotion or label as state. A picture whose state is one of the
    /// eight emotions has that emotion, unless it has another.
    pub(super) fn with_pair(mut self) -> Self {
        let word = |text: Option<String>| text.map(|t| t.trim().to_string()).filter(|t| !t.is_empty());
        self.subject = word(self.subject.take());
        let said = || self.emotion.map(|e| e.name().to_string()).or_else(|| word(self.label.clone()));
        let state = word(self.state.take()).or_else(|| self.subject.as_ref().and_then(|_| said()));
        let named: Option<Emotion> = state.as_ref().and_then(|state| state.parse().ok());
        self.state = match (named, state) {
            (Some(emotion), _) => Some(emotion.name().to_string()),
            (None, Some(state)) if state.eq_ignore_ascii_case(NEUTRAL) => Some(NEUTRAL.to_string()),
            (None, state) => state,
        };
        self.emotion = self.emotion.or(named);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Content;

    fn item(subject: &str, state: Option<&str>, emotion: Option<Emotion>, label: Option<&str>) -> Item {
        let item = Item {
            path: "a".into(),
            content: Content::Bytes(bytes::Bytes::new()),
            split: None,
            emotion,
            namespace: None,
            label: label.map(str::to_string),
            subject: Some(subject.into()),
            state: state.map(str::to_string),
            valence: None,
            arousal: None,
            ambiguity: None,
            attributes: Value::Null,
        };
        item.with_pair()
    }

    #[test]
    fn a_state_is_what_is_said_or_the_emotion_or_the_label() {
        let said = |item: Item| (item.subject, item.state, item.emotion);
        let some = |text: &str| Some(text.to_string());
        assert_eq!(said(item(" Ada ", Some("AWE"), None, None)), (some("Ada"), some("awe"), Some(Emotion::Awe)));
        assert_eq!(
            said(item("Ada", None, Some(Emotion::Fear), None)),
            (some("Ada"), some("fear"), Some(Emotion::Fear))
        );
        assert_eq!(said(item("Ada", None, None, Some("Neutral"))), (some("Ada"), some("neutral"), None));
        assert_eq!(said(item("Ada", Some("before"), None, Some("x"))), (some("Ada"), some("before"), None));
        assert_eq!(said(item(" ", None, Some(Emotion::Fear), None)), (None, None, Some(Emotion::Fear)));
        assert_eq!(said(item("Ada", Some(" "), None, None)), (some("Ada"), None, None));
    }

    #[test]
    fn neutral_is_no_emotion_and_another_word_is_refused() {
        assert_eq!(emotion_of("Neutral").expect("known"), None);
        assert_eq!(emotion_of("").expect("known"), None);
        assert_eq!(emotion_of("awe").expect("known"), Some(Emotion::Awe));
        assert!(emotion_of("joy").is_err());
    }

    #[test]
    fn names_are_taken_out_of_the_metadata() {
        let keys = PairKeys { subject: "person".into(), ..PairKeys::default() };
        let metadata = |value| match value {
            Value::Object(map) => map,
            _ => unreachable!("an object"),
        };
        let mut some = metadata(serde_json::json!({"person": 7, "state": "neutral", "scene": "cave"}));
        assert_eq!(keys.take(&mut some), Ok((Some("7".into()), Some("neutral".into()))));
        assert_eq!(Value::Object(some), serde_json::json!({"scene": "cave"}));
        let error = keys.take(&mut metadata(serde_json::json!({"person": ["a"]}))).expect_err("a list");
        assert!(error.contains("person"), "{error}");
    }
}
