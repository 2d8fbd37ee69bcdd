//! The eight emotion categories of Mikels et al., *Emotional category data on images from the IAPS* (2005).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of Mikels' categories; the order is alphabetical everywhere in this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Emotion {
    /// Positive.
    Amusement,
    /// Negative.
    Anger,
    /// Positive.
    Awe,
    /// Positive.
    Contentment,
    /// Negative.
    Disgust,
    /// Positive.
    Excitement,
    /// Negative.
    Fear,
    /// Negative.
    Sadness,
}

impl Emotion {
    /// All eight, alphabetically: the class order of classifiers and tables.
    pub const ALL: [Emotion; 8] = [
        Emotion::Amusement,
        Emotion::Anger,
        Emotion::Awe,
        Emotion::Contentment,
        Emotion::Disgust,
        Emotion::Excitement,
        Emotion::Fear,
        Emotion::Sadness,
    ];

    /// The lower-case English name.
    pub fn name(self) -> &'static str {
        match self {
            Emotion::Amusement => "amusement",
            Emotion::Anger => "anger",
            Emotion::Awe => "awe",
            Emotion::Contentment => "contentment",
            Emotion::Disgust => "disgust",
            Emotion::Excitement => "excitement",
            Emotion::Fear => "fear",
            Emotion::Sadness => "sadness",
        }
    }

    /// The place in [`Emotion::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether a valence (below 0: unpleasant) has this emotion's sign; 0 agrees with neither.
    pub fn agrees_with(self, valence: f32) -> bool {
        match self.is_positive() {
            true => valence > 0.0,
            false => valence < 0.0,
        }
    }

    /// Whether Mikels et al. count it among the positive categories.
    pub fn is_positive(self) -> bool {
        matches!(self, Emotion::Amusement | Emotion::Awe | Emotion::Contentment | Emotion::Excitement)
    }
}

impl fmt::Display for Emotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is none of the eight.
#[derive(Debug, thiserror::Error)]
#[error("unknown emotion {0:?}; one of amusement, anger, awe, contentment, disgust, excitement, fear, sadness")]
pub struct UnknownEmotion(pub String);

impl FromStr for Emotion {
    type Err = UnknownEmotion;

    fn from_str(name: &str) -> Result<Self, UnknownEmotion> {
        Self::ALL
            .into_iter()
            .find(|e| e.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| UnknownEmotion(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_alphabetical_and_names_parse_back() {
        let names: Vec<&str> = Emotion::ALL.iter().map(|e| e.name()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        for (index, emotion) in Emotion::ALL.into_iter().enumerate() {
            assert_eq!(emotion.index(), index);
            assert_eq!(emotion.name().parse::<Emotion>().ok(), Some(emotion));
        }
        assert!("joy".parse::<Emotion>().is_err());
    }
}
