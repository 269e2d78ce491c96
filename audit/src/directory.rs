//! A log in a directory of the file system: the only module here that does input and output.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use crate::source::Source;

/// More than any file of a log has: 256 entries of the greatest length.
const FILE_BYTES_MAX: u64 = 256 * (2 + 65_535);

/// The log in a directory.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Source for Directory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.0.join(path)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => other?,
        };
        let mut bytes = Vec::new();
        // One byte more than may be there: a file that is too long must not look as if it ended in time.
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}
