//! Arguments as the shell would have passed them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// `arguments` with `~/` replaced by the folder `home` where a shell leaves it: bash expands it only at the beginning
/// of a word, so not in `--output=~/x`, and never inside quotes. Names need not be UTF-8.
pub fn expanded(arguments: impl Iterator<Item = OsString>, home: Option<&OsStr>) -> Vec<OsString> {
    let Some(home) = home.filter(|home| !home.is_empty()) else { return arguments.collect() };
    arguments.map(|argument| expand(&argument, home)).collect()
}

fn expand(argument: &OsStr, home: &OsStr) -> OsString {
    let bytes = argument.as_bytes();
    let value = match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) if bytes.starts_with(b"--") => at + 1,
        _ => 0,
    };
    match bytes[value..].strip_prefix(b"~") {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => {
            OsString::from_vec([&bytes[..value], home.as_bytes(), rest].concat())
        }
        _ => argument.to_os_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_put_where_a_path_begins() {
        let of = |text: &str| expand(OsStr::new(text), OsStr::new("/home/a")).into_string().expect("UTF-8");
        assert_eq!(of("~/x"), "/home/a/x");
        assert_eq!(of("--output=~/x=y"), "--output=/home/a/x=y");
        assert_eq!(of("~"), "/home/a");
        for left in ["a~/x", "~b/x", "output_dir=~/x", "--a=b~", "x"] {
            assert_eq!(of(left), left);
        }
        let latin = OsStr::from_bytes(b"~/\xe9");
        assert_eq!(expand(latin, OsStr::new("/h")).as_bytes(), b"/h/\xe9");
        assert_eq!(expanded([OsString::from("~/x")].into_iter(), None), [OsString::from("~/x")]);
    }
}
