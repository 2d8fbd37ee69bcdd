//! serde_yaml's messages in words for the reader of a recipe.

/// serde_yaml appends ` at line 3 column 5`; the line is reported beside the file instead.
pub fn without_place(error: &serde_yaml::Error) -> String {
    let message = error.to_string().replace('\n', " ");
    match message.rfind(" at line ") {
        Some(at) if error.location().is_some() => message[..at].to_string(),
        _ => message,
    }
}

pub fn unknown_key(message: &str) -> Option<&str> {
    quoted(message, "unknown field `").or_else(|| quoted(message, "unknown variant `"))
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    let rest = &message[message.find(before)? + before.len()..];
    rest.split('`').next()
}

/// The message with the most similar of the keys that it lists as expected.
pub fn with_hint(message: &str) -> String {
    let Some(key) = unknown_key(message) else {
        return message.to_string();
    };
    let Some((_, expected)) = message.split_once("expected") else {
        return message.to_string();
    };
    let known = expected.split('`').skip(1).step_by(2);
    let nearest = known.map(|k| (strsim::damerau_levenshtein(k, key), k)).min();
    match nearest {
        Some((distance, name)) if distance <= (key.len() / 2).max(2) => format!("{message}; did you mean `{name}`?"),
        _ => message.to_string(),
    }
}
