//! Standard output and standard error, whose readers may stop before the program does, as `head` does.

use std::io::{ErrorKind, Result, Write};

/// The exit code of a program whose reader has gone while work was left that is only for that reader: 128 + SIGPIPE,
/// which a shell reports for programs that the signal ends.
pub const READER_GONE: u8 = 141;

/// Writes `text` to standard output; returns whether anybody still reads it.
pub fn print(text: &[u8]) -> Result<bool> {
    let mut output = std::io::stdout().lock();
    reaches(output.write_all(text).and_then(|()| output.flush()))
}

/// Whether the written text was read.
fn reaches(written: Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a line to standard error in one piece, so that the lines of several processes do not mix; passwords and
/// signatures in its URLs are masked. If that fails, nothing can be done.
pub fn complain(line: &str) {
    let line = recipe::secrets::masked(line).replace('\n', " ") + "\n";
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_is_no_error_and_a_full_disk_is() {
        assert!(!reaches(Err(ErrorKind::BrokenPipe.into())).expect("no error"));
        assert!(reaches(Err(ErrorKind::StorageFull.into())).is_err());
        assert!(reaches(Ok(())).expect("written"));
    }
}
