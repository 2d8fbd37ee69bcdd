//! Standard output and standard error, whose readers may go before the program does, as `head` does.

use std::io::{ErrorKind, Result, Write};

/// How a program ends whose reader went while there was work left to do only for its sake: 128 + SIGPIPE, which is what
/// a shell reports of programs that the signal ends.
pub const READER_GONE: u8 = 141;

/// Writes `text` to standard output; whether anybody still reads it.
pub fn print(text: &[u8]) -> Result<bool> {
    let mut output = std::io::stdout().lock();
    reaches(output.write_all(text).and_then(|()| output.flush()))
}

/// Whether what was written was wanted.
fn reaches(written: Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a line to standard error in one piece, so that the lines of several processes do not mix. Nothing is left to
/// be done where that fails.
pub fn complain(line: &str) {
    let _ = std::io::stderr().write_all((line.replace('\n', " ") + "\n").as_bytes());
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
