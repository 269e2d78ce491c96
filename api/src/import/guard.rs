//! A reader of strangers' text files: UTF-8 or nothing, lines of a bounded length, and where it breaks off. What it has passed on
//! is hashed.

use std::fmt;
use std::io::{self, Read};

use ring::digest;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFault {
    /// The stable name.
    pub(crate) code: &'static str,
    /// The line, from 1 on.
    pub(crate) line: u64,
    /// The column in characters, from 1 on, where it is known.
    pub(crate) column: Option<u64>,
    /// What is wrong, and what to do.
    pub(crate) why: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "line {}, column {column}: {}", self.line, self.why),
            None => write!(f, "line {}: {}", self.line, self.why),
        }
    }
}

impl std::error::Error for FileFault {}

impl FileFault {
    /// The fault behind an error of a reader, or the error itself as one.
    pub(crate) fn of(error: &io::Error, line: u64) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        inner.cloned().unwrap_or_else(|| Self {
            code: "Unreadable",
            line,
            column: None,
            why: format!("the file cannot be read: {error}"),
        })
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The reader.
pub(crate) struct Guard<R> {
    inner: R,
    line_bytes_max: usize,
    hash: digest::Context,
    /// The line that is being read, its characters and bytes so far.
    line: u64,
    column: u64,
    line_bytes: usize,
    /// The beginning of a character whose rest has not come yet.
    open: Vec<u8>,
    begun: bool,
    /// The first bytes, where they are no byte order mark.
    first: Vec<u8>,
}

impl<R: Read> Guard<R> {
    pub(crate) fn new(inner: R, line_bytes_max: usize) -> Self {
        Self {
            inner,
            line_bytes_max,
            hash: digest::Context::new(&digest::SHA256),
            line: 1,
            column: 0,
            line_bytes: 0,
            open: Vec::new(),
            begun: false,
            first: Vec::new(),
        }
    }

    /// SHA-256 of all that was read.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.hash.clone().finish().as_ref());
        out
    }

    fn fault(&self, code: &'static str, column: Option<u64>, why: &str) -> io::Error {
        io::Error::other(FileFault { code, line: self.line, column, why: why.to_owned() })
    }

    fn begin(&mut self) -> io::Result<()> {
        self.begun = true;
        let mut first = [0; 3];
        let mut length = 0;
        while length < first.len() {
            match self.inner.read(&mut first[length..])? {
                0 => break,
                read => length += read,
            }
        }
        self.hash.update(&first[..length]);
        match &first[..length] {
            BOM => {}
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(self.fault("Encoding", Some(1), "it is UTF-16; save it as UTF-8"));
            }
            other => self.first = other.to_vec(),
        }
        Ok(())
    }

    /// Looks at what is passed on.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let joined;
        let bytes = if self.open.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.open).as_slice(), bytes].concat();
            &joined
        };
        let (text, bad) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => {
                let (good, rest) = bytes.split_at(error.valid_up_to());
                let is_bad = error.error_len().is_some();
                if !is_bad {
                    self.open = rest.to_vec();
                }
                (std::str::from_utf8(good).unwrap_or_default(), is_bad)
            }
        };
        let mut lines = text.split('\n');
        let mut part = lines.next();
        while let Some(text) = part {
            self.line_bytes += text.len();
            if self.line_bytes > self.line_bytes_max {
                let why = format!("it is longer than {} bytes", self.line_bytes_max);
                return Err(self.fault("LineTooLong", None, &why));
            }
            part = lines.next();
            if part.is_some() {
                (self.line, self.column, self.line_bytes) = (self.line + 1, 0, 0);
            } else if bad || !text.is_ascii() || self.column > 0 || text.len() < bytes.len() {
                // Only the last part of what was read is gone on with.
                self.column += text.chars().count() as u64;
            }
        }
        if bad {
            let why = "this is no UTF-8; is it Latin-1 or Windows-1252? Save it as UTF-8";
            return Err(self.fault("Encoding", Some(self.column + 1), why));
        }
        Ok(())
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begin()?;
        }
        let read = if self.first.is_empty() {
            let read = self.inner.read(buffer)?;
            self.hash.update(&buffer[..read]);
            read
        } else {
            let read = self.first.len().min(buffer.len());
            buffer[..read].copy_from_slice(&self.first[..read]);
            self.first.drain(..read);
            read
        };
        if read == 0 && !buffer.is_empty() && !self.open.is_empty() {
            return Err(self.fault("Encoding", Some(self.column + 1), "the file ends within a character"));
        }
        self.check(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> FileFault {
        let error = Guard::new(bytes, 20).read_to_end(&mut Vec::new()).unwrap_err();
        FileFault::of(&error, 0)
    }

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let place = |bytes: &[u8]| (fault(bytes).line, fault(bytes).column, fault(bytes).code);
        assert_eq!(place(b"a\nb\xe9c"), (2, Some(2), "Encoding"));
        assert_eq!(
            place("a\näö\u{20ac}\n".as_bytes().iter().chain(b"x\xff").copied().collect::<Vec<_>>().as_slice()),
            (3, Some(2), "Encoding")
        );
        assert_eq!(place(b"\xff\xfea\0"), (1, Some(1), "Encoding"));
        assert_eq!(place(b"ab\xc3"), (1, Some(3), "Encoding"));
        assert_eq!(place(b"short\n0123456789012345678901234"), (2, None, "LineTooLong"));
    }

    #[test]
    fn a_byte_order_mark_is_taken_off_and_bytes_may_come_one_by_one() {
        struct One<'a>(&'a [u8]);
        impl Read for One<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let some = self.0.len().min(1).min(buffer.len());
                buffer[..some].copy_from_slice(&self.0[..some]);
                self.0 = &self.0[some..];
                Ok(some)
            }
        }
        let text = "\u{feff}ä\r\n\u{20ac}".as_bytes();
        let mut guard = Guard::new(One(text), 20);
        let mut out = String::new();
        guard.read_to_string(&mut out).unwrap();
        assert_eq!(out, "ä\r\n\u{20ac}");
        let error = Guard::new(One(b"abc\n\xc3\xa4\xe9x"), 20).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!((FileFault::of(&error, 0).line, FileFault::of(&error, 0).column), (2, Some(2)));
    }
}
