//! Text files of people and other programs: UTF-8, with or without the byte-order mark that Windows writes first.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// U+FEFF in UTF-8 (The Unicode Standard, section 23.8).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The same, as UTF-16 begins in either order.
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The text of a file without its byte-order mark. UTF-16 is refused by name.
pub fn read(path: &Path) -> Result<String> {
    decode(std::fs::read(path)?)
}

/// The text of these bytes, as [`read`] returns it.
pub fn decode(mut bytes: Vec<u8>) -> Result<String> {
    if UTF_16.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(Error::new(ErrorKind::InvalidData, "the text is UTF-16; save it as UTF-8"));
    }
    bytes.drain(..bytes.len() - without_mark(&bytes).len());
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Error::new(ErrorKind::InvalidData, format!("line {line} is not UTF-8; save the text as UTF-8"))
    })
}

/// Bytes without a byte-order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_taken_off_and_other_encodings_are_named() {
        assert_eq!(decode(b"\xef\xbb\xbfa\xef\xbb\xbf".to_vec()).expect("UTF-8"), "a\u{feff}");
        assert_eq!(decode(b"a".to_vec()).expect("UTF-8"), "a");
        assert!(decode(b"\xff\xfea\0".to_vec()).expect_err("UTF-16").to_string().contains("UTF-16"));
        assert!(decode(b"a\n\xe9t\xe9".to_vec()).expect_err("Latin-1").to_string().contains("line 2"));
    }
}
