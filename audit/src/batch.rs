//! The root over a batch of entries that are not in a log themselves: a log's entry seals them by it.

use crate::edge::HashEdge;
use crate::hash::Hash;

/// Takes the entries of a batch as they come; memory does not grow with them.
#[derive(Debug, Clone, Default)]
pub struct BatchRoot(HashEdge);

impl BatchRoot {
    /// Adds the next entry.
    pub fn push(&mut self, entry: &[u8]) {
        self.0.push(Hash::leaf(entry), |_, _| {});
    }

    /// Adds the next entry by its hash, [`Hash::leaf`] of it.
    pub fn push_leaf(&mut self, leaf: Hash) {
        self.0.push(leaf, |_, _| {});
    }

    /// Entries so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// The root of their tree, as RFC 6962 has it.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.0.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_root_that_a_log_of_the_same_entries_has() {
        let (mut batch, mut edge) = (BatchRoot::default(), crate::Edge::new());
        assert_eq!(batch.root(), Hash::empty());
        for number in 0..600u64 {
            batch.push(&number.to_be_bytes());
            edge.push(&number.to_be_bytes(), &mut Vec::new()).unwrap();
            assert_eq!((batch.root(), batch.size()), (edge.root(), edge.size()));
        }
    }
}
