//! Passwords and signatures never leave a program: not in its recipe as it was understood, nor in a message.
//!
//! A URL may carry user-info (`https://user:password@host`) or a signature in its query (`?X-Amz-Signature=…`). Both
//! are used as they are, and shown as `***`.

use std::borrow::Cow;

use serde_yaml::Value;

/// What stands for something secret.
const MASK: &str = "***";

/// Words in the name of a query's parameter by which a URL counts as signed.
const SIGNS: [&str; 8] = ["sig", "signature", "token", "key", "secret", "password", "credential", "accesskeyid"];

/// Words in the name of a setting whose value must not be shown.
const SECRETS: [&str; 7] = ["key", "secret", "token", "sas", "password", "bearer", "passphrase"];

/// Ends of names that hold no secret themselves: they say where it lies, or whether there is one.
const PLACES: [&str; 6] = ["file", "path", "url", "uri", "endpoint", "enabled"];

/// Whether a setting of this name holds a secret, as `aws_secret_access_key` does; `aws_web_identity_token_file` does
/// not.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(['_', '-']).collect();
    let place = words.last().is_some_and(|last| PLACES.contains(last));
    // The id of a key in a key store opens nothing.
    !place && !words.contains(&"kms") && words.iter().any(|word| SECRETS.contains(word))
}

/// Whether `text` is a URL with user-info or a signature.
pub fn has_secret(text: &str) -> bool {
    masked(text) != text
}

/// `text`, with the user-info and the signed queries of the URLs in it as `***`.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + 3);
        let scheme_name = scheme[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '+').next();
        let (url, left) = after.split_at(end_of_url(after));
        done.push_str(scheme);
        done.push_str(&masked_url(scheme_name.unwrap_or_default(), url));
        rest = left;
    }
    match done.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(done + rest),
    }
}

/// Where a URL ends in running text.
fn end_of_url(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || "\"'`<>(){}|\\^,".contains(c)).unwrap_or(text.len())
}

/// What follows the scheme of a URL, masked.
fn masked_url(scheme: &str, url: &str) -> String {
    let end = url.find(['/', '?', '#']).unwrap_or(url.len());
    let (authority, path) = url.split_at(end);
    let host_and_path = match authority.rsplit_once('@') {
        // Azure's abfs://container@account has its container there.
        Some((user, _)) if scheme.starts_with("abfs") && !user.contains(':') => url.to_string(),
        Some((_, host)) => format!("{MASK}@{host}{path}"),
        None => without_split_password(authority, url),
    };
    match host_and_path.split_once('?') {
        Some((before, query)) if is_signed(query) => format!("{before}?{MASK}"),
        _ => host_and_path,
    }
}

/// A password with a slash in it ends the authority too early: then the port is no number, and an `@` comes later.
fn without_split_password(authority: &str, url: &str) -> String {
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) || port.ends_with(']');
    match (port, url.rsplit_once('@')) {
        (Some(port), Some((_, host))) if !is_port(port) => format!("{MASK}@{host}"),
        _ => url.to_string(),
    }
}

fn is_signed(query: &str) -> bool {
    query.split(['&', '#']).filter_map(|pair| pair.split_once('=')).any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.split(['-', '_']).any(|word| SIGNS.iter().any(|sign| word == *sign || word.ends_with(sign)))
    })
}

/// Masks every text of a document.
pub(crate) fn mask(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = masked(text) {
                *text = masked;
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(mask),
        Value::Mapping(map) => map.iter_mut().for_each(|(_, value)| mask(value)),
        Value::Tagged(tagged) => mask(&mut tagged.value),
        _ => {}
    }
}

/// Masks every text of a JSON document.
pub(crate) fn mask_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(masked) = masked(text) {
                *text = masked;
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(mask_json),
        serde_json::Value::Object(map) => map.values_mut().for_each(mask_json),
        _ => {}
    }
}

/// An override as messages may show it.
pub(crate) fn masked_set(set: &str) -> String {
    let (key, value) = set.split_once('=').unwrap_or((set, ""));
    let names = set.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    match key.trim().starts_with("store") && !value.is_empty() && names.into_iter().any(is_secret) {
        true => format!("{key}={MASK}"),
        false => masked(set).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_and_signatures_are_masked_and_nothing_else_is() {
        for (text, shown) in [
            ("https://ada:s3cret@host/data", "https://***@host/data"),
            ("https://ada@host:80/data?id=3", "https://***@host:80/data?id=3"),
            ("cannot read http://a:p@ss@h/x: gone", "cannot read http://***@h/x: gone"),
            ("http://a:pa/ss@host/x", "http://***@host/x"),
            ("s3://b/k?X-Amz-Credential=A&X-Amz-Signature=beef", "s3://b/k?***"),
            ("https://x.blob.core.windows.net/c?sv=2024&sig=a%2Fb%3D", "https://x.blob.core.windows.net/c?***"),
            ("(https://h/p?access_token=1) and https://h/q?page=2", "(https://h/p?***) and https://h/q?page=2"),
            ("https://h/o?GoogleAccessId=a&Expires=1&Signature=x", "https://h/o?***"),
            ("https://h/o?AWSAccessKeyId=a", "https://h/o?***"),
            ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
            ("runs/a@b?key=1", "runs/a@b?key=1"),
            ("http://[::1]:9/@x", "http://[::1]:9/@x"),
            ("https://h/monkey?page=1&size=2", "https://h/monkey?page=1&size=2"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(has_secret(text), text != shown);
            assert_eq!(masked(&masked(text)), shown, "masking twice changes nothing");
        }
    }

    #[test]
    fn names_of_secrets_are_told_from_those_of_places() {
        for name in
            ["aws_secret_access_key", "AWS_ACCESS_KEY_ID", "azure_storage_sas_key", "google_bearer_token", "token"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in
            ["aws_region", "aws_web_identity_token_file", "aws_sse_kms_key_id", "google_service_account_path", "monkey"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn overrides_are_shown_without_their_secrets() {
        for (set, shown) in [
            ("store.settings.aws_secret_access_key=x", "store.settings.aws_secret_access_key=***"),
            ("store={settings: {aws_session_token: x}}", "store=***"),
            ("tokens.num_vectors=4", "tokens.num_vectors=4"),
            ("data.sources.shards=http://a:b@h/x", "data.sources.shards=http://***@h/x"),
        ] {
            assert_eq!(masked_set(set), shown);
        }
    }
}
