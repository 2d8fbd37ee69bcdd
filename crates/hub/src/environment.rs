//! The hub's settings from the environment, read as Python's huggingface_hub reads them (`constants.py`,
//! `utils/_auth.py`).

use std::path::{Path, PathBuf};

use crate::Hub;

/// Where models are fetched from unless HF_ENDPOINT says otherwise.
pub(crate) const ENDPOINT: &str = "https://huggingface.co";
/// The values that switch a variable on, in any case: huggingface_hub's ENV_VARS_TRUE_VALUES.
const TRUE: [&str; 4] = ["1", "ON", "YES", "TRUE"];

impl Hub {
    /// The hub's settings from an environment; `variable` returns one variable by name.
    ///
    /// HF_HUB_CACHE (else HUGGINGFACE_HUB_CACHE, else `hub` in HF_HOME, which is `huggingface` in XDG_CACHE_HOME or in
    /// ~/.cache); HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE; HF_ENDPOINT; HF_TOKEN, or the file HF_TOKEN_PATH (else `token` in
    /// HF_HOME), unless HF_HUB_DISABLE_IMPLICIT_TOKEN.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let user = path("HOME");
        let expand = |path: PathBuf| in_home(&path, user.as_deref());
        let text = |name: &str| variable(name).filter(|v| !v.trim().is_empty());
        let is_on = |name: &str| text(name).map(|value| TRUE.contains(&value.to_uppercase().as_str()));
        let caches = path("XDG_CACHE_HOME").or_else(|| user.as_ref().map(|home| home.join(".cache")));
        let home = path("HF_HOME").map(expand).or_else(|| caches.map(|caches| caches.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).map(expand);
        let token_file = path("HF_TOKEN_PATH").map(expand).or_else(|| home.as_ref().map(|home| home.join("token")));
        let implicit = !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN").unwrap_or(false);
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| token_file.and_then(|file| std::fs::read_to_string(file).ok()));
        Self {
            cache: cache.or_else(|| home.map(|home| home.join("hub"))),
            offline: is_on("HF_HUB_OFFLINE").or_else(|| is_on("TRANSFORMERS_OFFLINE")).unwrap_or(false),
            endpoint: text("HF_ENDPOINT").map_or(ENDPOINT.into(), |url| url.trim_end_matches('/').to_string()),
            token: token.map(|token| clean(&token)).filter(|token| implicit && !token.is_empty()),
        }
    }
}

/// `~` and `~/…` in a user's home, as Python's `expanduser`.
fn in_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// A token without the line break that editors and `echo` add.
fn clean(token: &str) -> String {
    token.replace(['\r', '\n'], "").trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        Hub::from_env(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()))
    }

    /// Each row: variables, and `HF_HUB_CACHE` as `python3 -c 'from huggingface_hub.constants import *; print(HF_HUB_CACHE)'`
    /// prints it under them (huggingface_hub 2.4.0, HOME=/home/a).
    #[test]
    fn the_cache_is_where_python_has_it() {
        for (variables, cache) in [
            (vec![], "/home/a/.cache/huggingface/hub"),
            (vec![("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub"),
            (vec![("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/xdg")], "/hf/hub"),
            (vec![("HF_HOME", "~/hf")], "/home/a/hf/hub"),
            (vec![("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (vec![("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/hf")], "/new"),
        ] {
            let found = hub(&[variables.clone(), vec![("HOME", "/home/a")]].concat());
            assert_eq!(found.cache.as_deref(), Some(Path::new(cache)), "{variables:?}");
        }
        assert_eq!(hub(&[]).cache, None);
    }

    #[test]
    fn a_switch_is_on_for_pythons_four_words() {
        for (value, offline) in [
            ("1", true),
            ("on", true),
            ("Yes", true),
            ("TRUE", true),
            ("0", false),
            ("false", false),
            ("", false),
            ("no", false),
        ] {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(hub(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!hub(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
    }

    #[test]
    fn the_token_is_the_variables_before_the_files() {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("token"), "hf_file\n").expect("a file to write");
        let home = home.path().to_str().expect("a name");
        assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable\n")]).token.as_deref(), Some("hf_variable"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert_eq!(hub(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }
}
