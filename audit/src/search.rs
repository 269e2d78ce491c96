//! Looking for entries, the newest first, within a bound: what asks for an entry by what it says, not by its index.

use memchr::memmem::Finder;

use crate::reader::{ReadError, Reader};
use crate::source::Source;

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Only entries below this index; `None`: all.
    pub before: Option<u64>,
    /// Entries to find at most.
    pub limit: usize,
    /// Entries to look at most.
    pub scan_max: u64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// What was taken, the newest first.
    pub items: Vec<T>,
    /// Nothing below this index was looked at: go on from here. `None`: the log's begin was reached.
    pub next: Option<u64>,
    /// Entries that were looked at.
    pub scanned: u64,
}

impl<S: Source> Reader<S> {
    /// Goes through the entries from the newest back and keeps what `take` makes of them. Entries that do not contain all of
    /// `needles` are not shown to it: comparing bytes costs a small part of parsing JSON.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn search<T>(
        &self,
        bounds: Bounds,
        needles: &[&str],
        mut take: impl FnMut(u64, &[u8]) -> Option<T>,
    ) -> Result<Found<T>, ReadError> {
        let finders: Vec<Finder<'_>> = needles.iter().map(|needle| Finder::new(needle.as_bytes())).collect();
        let end = bounds.before.unwrap_or(u64::MAX).min(self.size());
        let lowest = end.saturating_sub(bounds.scan_max);
        let mut found = Found { items: Vec::new(), next: None, scanned: 0 };
        let mut reached = end;
        for read in self.entries(lowest..end).rev() {
            if found.items.len() >= bounds.limit {
                break;
            }
            let (index, entry) = read?;
            (reached, found.scanned) = (index, found.scanned + 1);
            if finders.iter().all(|finder| finder.find(&entry).is_some())
                && let Some(item) = take(index, &entry)
            {
                found.items.push(item);
            }
        }
        found.next = Some(reached).filter(|reached| *reached > 0);
        Ok(found)
    }
}
