//! Inclusion and consistency proofs: RFC 6962, sections 2.1.1 and 2.1.2; checked as RFC 9162, sections 2.1.3.2 and 2.1.4.2.

use crate::hash::Hash;

/// A proof does not prove what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The tree does not reach the entry, or the older tree is larger than the newer.
    #[error("the tree is too small for what is to be proven")]
    OutOfRange,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Mismatch,
}

/// Checks that the entry with hash `leaf` is the one at `index` in the tree of `size` entries under `root`.
///
/// # Errors
/// [`ProofError`]: it is not proven.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for other in proof {
        if last == 0 {
            return Err(ProofError::Mismatch);
        }
        if node & 1 == 1 || node == last {
            hash = Hash::node(other, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = Hash::node(&hash, other);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(ProofError::Mismatch) }
}

/// Checks that the tree of `old_size` entries under `old_root` is the beginning of that of `size` entries under `root`.
///
/// # Errors
/// [`ProofError`]: it is not proven.
pub fn verify_consistency(
    old_size: u64,
    size: u64,
    proof: &[Hash],
    old_root: &Hash,
    root: &Hash,
) -> Result<(), ProofError> {
    if old_size > size {
        return Err(ProofError::OutOfRange);
    }
    if old_size == size || old_size == 0 {
        let is_same = if old_size == size { old_root == root } else { *old_root == Hash::empty() };
        return if proof.is_empty() && is_same { Ok(()) } else { Err(ProofError::Mismatch) };
    }
    let mut path = proof.iter();
    let (mut node, mut last) = (old_size - 1, size - 1);
    let skipped = node.trailing_ones();
    (node, last) = (node >> skipped, last >> skipped);
    let first = if old_size.is_power_of_two() { old_root } else { path.next().ok_or(ProofError::Mismatch)? };
    let (mut old, mut new) = (*first, *first);
    for other in path {
        if last == 0 {
            return Err(ProofError::Mismatch);
        }
        if node & 1 == 1 || node == last {
            (old, new) = (Hash::node(other, &old), Hash::node(other, &new));
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new = Hash::node(&new, other);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last == 0 && old == *old_root && new == *root { Ok(()) } else { Err(ProofError::Mismatch) }
}

/// Gives hashes of full subtrees: over the entries `index << level` up to, and without, `(index + 1) << level`.
pub(crate) trait Subtrees {
    type Error;
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two below `n`, which is 2 or more.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The hash over the entries from `start`, which is where a subtree begins, up to and without `end`.
pub(crate) fn hash_of<S: Subtrees>(trees: &mut S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let count = end - start;
    if count == 0 {
        return Ok(Hash::empty());
    }
    if count.is_power_of_two() {
        return trees.subtree(count.ilog2(), start >> count.ilog2());
    }
    let middle = start + split(count);
    Ok(Hash::node(&hash_of(trees, start, middle)?, &hash_of(trees, middle, end)?))
}

/// The proof that the entry at `index` is in the tree of `size` entries.
pub(crate) fn inclusion<S: Subtrees>(trees: &mut S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut start, mut end, mut proof) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(hash_of(trees, middle, end)?);
            end = middle;
        } else {
            proof.push(hash_of(trees, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `old_size` entries is the beginning of that of `size` entries.
pub(crate) fn consistency<S: Subtrees>(trees: &mut S, old_size: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    if old_size == 0 || old_size == size {
        return Ok(Vec::new());
    }
    let (mut start, mut end, mut proof) = (0, size, Vec::new());
    while end != old_size {
        let middle = start + split(end - start);
        if old_size <= middle {
            proof.push(hash_of(trees, middle, end)?);
            end = middle;
        } else {
            proof.push(hash_of(trees, start, middle)?);
            start = middle;
        }
    }
    // The old tree itself is known to whoever asks.
    if start != 0 {
        proof.push(hash_of(trees, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}
