//! The little of a file system that durable state needs, as two traits, so that a test can take the power away.
//!
//! Only what a crash can tell apart is here: positioned reads and writes, lengths, syncs of a file and of a directory.
//! [`OsVfs`] passes everything on to the kernel; [`SimVfs`] keeps what was written and what was synced apart.

use std::io;
use std::path::Path;
use std::sync::Arc;

mod fail_point;
mod os;
mod sim;

pub use fail_point::{fail_point, is_fail_point_armed};
pub use os::OsVfs;
pub use sim::{Fault, FaultEffect, OpKind, SimVfs};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file has to exist.
    Read,
    /// For reading and writing; the file has to exist.
    ReadWrite,
    /// For reading and writing; the file must not exist yet.
    CreateNew,
    /// For reading and writing; made when missing, emptied when not.
    Truncate,
}

/// Directory operations. A change of a directory (create, remove, rename) is durable only after [`Vfs::sync_dir`].
pub trait Vfs: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// What the file system says; `NotFound` and `AlreadyExists` as [`OpenMode`] implies.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;

    /// The names of the files in `dir`, sorted. Names that are no UTF-8, and directories, are left out.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Removes a file. A handle that is open stays readable.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Renames a file within its directory, replacing `to` in one step.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of `dir` durable.
    ///
    /// # Errors
    /// What the file system says. What had not been durable may then be lost for good: do not retry.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a directory (mode 0700) and those above it, durably; no error when it is there.
    ///
    /// # Errors
    /// What the file system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Removes a directory that is empty by now. It is for tidiness: that it stays is no error, nor that it is not empty.
    fn remove_dir(&self, dir: &Path) {
        let _ = dir;
    }

    /// Bytes that an unprivileged process may still write on the file system of `dir`.
    ///
    /// # Errors
    /// What the file system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file; positions are absolute, so that readers share a handle with the writer.
pub trait VfsFile: Send + Sync + 'static {
    /// Fills `buffer` from byte `position` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else what the file system says.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// Writes all of `bytes` at byte `position`, with one system call unless the kernel takes less.
    ///
    /// # Errors
    /// What the file system says; any part of `bytes` may have been written.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros, to `length` bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes content and length durable (`fdatasync`).
    ///
    /// # Errors
    /// What the file system says. The kernel may then count the unwritten pages as clean: a second call that succeeds
    /// proves nothing, only writing the bytes anew does.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn size(&self) -> io::Result<u64>;
}
