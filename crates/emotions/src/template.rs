//! Prompt templates: `{emotion}` becomes the noun, `{adjective}` the adjective with its article ("a sad"),
//! `{token}` the emotion's placeholder.

use crate::Emotion;

/// The adjective of each emotion, with its article.
pub fn adjective(emotion: Emotion) -> &'static str {
    match emotion {
        Emotion::Amusement => "an amused",
        Emotion::Anger => "an angry",
        Emotion::Awe => "an amazed",
        Emotion::Contentment => "a content",
        Emotion::Disgust => "a disgusted",
        Emotion::Excitement => "an excited",
        Emotion::Fear => "a scared",
        Emotion::Sadness => "a sad",
    }
}

/// Fills `{emotion}`, `{adjective}` and, where given, `{token}`; any other word in braces is an error that names it.
pub fn fill(template: &str, emotion: Emotion, token: Option<&str>) -> Result<String, String> {
    let mut text = template.replace("{emotion}", emotion.name()).replace("{adjective}", adjective(emotion));
    if let Some(token) = token {
        text = text.replace("{token}", token);
    }
    match text.find('{') {
        None => Ok(text),
        Some(at) => {
            let unknown: String = text[at..].chars().take_while(|c| *c != '}').collect();
            Err(format!("\"{template}\": {unknown}}} cannot be filled; {{emotion}}, {{adjective}} and {{token}} can"))
        }
    }
}

/// Refuses a template that names no emotion or cannot be filled.
pub fn check_target(template: &str) -> Result<(), String> {
    if !["{emotion}", "{adjective}"].iter().any(|word| template.contains(word)) {
        return Err("has neither {emotion} nor {adjective} in it".into());
    }
    fill(template, Emotion::Amusement, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_an_emotion() {
        assert!(check_target("{adjective} person").is_ok() && check_target("a person showing {emotion}").is_ok());
        assert!(check_target("a person").is_err_and(|e| e.contains("{adjective}")));
        assert!(check_target("{emotion} and {token}").is_err_and(|e| e.contains("{token}")));
    }

    #[test]
    fn templates_are_filled() {
        let filled = fill("{adjective} face evoking {token}, {emotion}", Emotion::Sadness, Some("<sadness>"));
        assert_eq!(filled.as_deref(), Ok("a sad face evoking <sadness>, sadness"));
    }

    #[test]
    fn unknown_braces_are_named() {
        assert!(fill("a {mood} face", Emotion::Awe, None).expect_err("unknown").contains("{mood}"));
        assert!(fill("a {token}", Emotion::Awe, None).expect_err("no token here").contains("{token}"));
    }
}
