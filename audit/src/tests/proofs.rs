//! Proofs of any size, any index and any older size; and that no bit of them can be flipped.

use proptest::prelude::*;

use super::log::{Log, entry, key};
use crate::*;

/// RFC 6962's definition, for comparison.
fn tree_hash(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty(),
        [one] => *one,
        more => {
            let mut middle = 1;
            while 2 * middle < more.len() {
                middle *= 2;
            }
            Hash::node(&tree_hash(&more[..middle]), &tree_hash(&more[middle..]))
        }
    }
}

fn root(size: u64) -> Hash {
    tree_hash(&(0..size).map(|n| Hash::leaf(&entry(n))).collect::<Vec<_>>())
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn flip_one(hashes: &[Hash], bit: usize) -> Vec<Hash> {
    let mut bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
    flip(&mut bytes, bit);
    bytes.chunks_exact(32).map(|hash| Hash(hash.try_into().unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_entry_is_proven_and_no_flipped_bit_is(size in 1u64..1500, at in any::<u64>(), bit in any::<usize>()) {
        let mut log = Log::of((0..size).map(entry));
        let note = log.publish();
        prop_assert_eq!(log.edge.root(), root(size));
        let index = at % size;
        let proof = Reader::new(log.source(), size).prove(index, &note).unwrap();
        let text = proof.to_string();
        let read: InclusionProof = text.parse().unwrap();
        prop_assert_eq!(&read, &proof);
        let head = read.verify(key().verifier()).unwrap();
        prop_assert_eq!((head.size, head.root), (size, root(size)));
        let leaf = Hash::leaf(&entry(index));
        if !proof.hashes.is_empty() {
            let flipped = flip_one(&proof.hashes, bit);
            prop_assert!(verify_inclusion(&leaf, index, size, &flipped, &head.root).is_err());
            prop_assert!(verify_inclusion(&leaf, index, size, &proof.hashes[1..], &head.root).is_err());
        }
        let longer = [&proof.hashes[..], &[leaf]].concat();
        prop_assert!(verify_inclusion(&leaf, index, size, &longer, &head.root).is_err());
        prop_assert!(verify_inclusion(&leaf, size, size, &proof.hashes, &head.root).is_err());
        let elsewhere = (index + 1) % size;
        if elsewhere != index {
            prop_assert!(verify_inclusion(&leaf, elsewhere, size, &proof.hashes, &head.root).is_err());
        }
        // A bit anywhere in the text: no proof, or none of this.
        let mut bytes = text.into_bytes();
        flip(&mut bytes, bit);
        if let Some(read) = String::from_utf8(bytes).ok().and_then(|text| text.parse::<InclusionProof>().ok()) {
            prop_assert!(read.verify(key().verifier()).is_err());
        }
    }

    #[test]
    fn every_older_tree_is_proven_and_no_flipped_bit_is(size in 1u64..1500, at in any::<u64>(), bit in any::<usize>()) {
        let log = Log::of((0..size).map(entry));
        let old = at % (size + 1);
        let reader = Reader::new(log.source(), size);
        let (old_root, root) = (root(old), root(size));
        prop_assert_eq!(reader.root_at(old).unwrap(), old_root);
        let proof = reader.prove_consistency(old).unwrap();
        prop_assert_eq!(verify_consistency(old, size, &proof, &old_root, &root), Ok(()));
        if !proof.is_empty() {
            prop_assert!(verify_consistency(old, size, &flip_one(&proof, bit), &old_root, &root).is_err());
            prop_assert!(verify_consistency(old, size, &proof[1..], &old_root, &root).is_err());
        }
        for (which, wrong) in [bit % 256, 256 + bit % 256].map(|bit| flip_one(&[old_root, root], bit)).iter().enumerate() {
            if old == 0 && which == 1 {
                continue; // any tree begins with none
            }
            prop_assert!(verify_consistency(old, size, &proof, &wrong[0], &wrong[1]).is_err());
        }
        prop_assert_eq!(verify_consistency(size + 1, size, &proof, &root, &root), Err(ProofError::OutOfRange));
    }

    #[test]
    fn an_edge_that_is_taken_up_again_goes_on_as_if_it_had_not_been(size in 0u64..1000, more in 0u64..600) {
        let mut log = Log::of((0..size).map(entry));
        let bundle = Tile::at(TileKind::Entries, size / 256, size).filter(|tile| !tile.is_full());
        let read = |tile: Tile| log.files.borrow().get(&tile.to_string()).cloned();
        let bytes = bundle.map(|tile| read(tile).unwrap()).unwrap_or_default();
        let resumed = Edge::resume(size, &bytes, read).unwrap();
        prop_assert_eq!(&resumed, &log.edge);
        log.edge = resumed;
        (size..size + more).for_each(|n| log.push(&entry(n)));
        log.publish();
        prop_assert_eq!(log.edge.root(), root(size + more));
        prop_assert_eq!(log.verify(None).unwrap().checkpoint.size, size + more);
    }
}

#[test]
fn entries_are_read_by_index_in_order_and_from_the_newest_back() {
    let size = 700;
    let log = Log::of((0..size).map(entry));
    let (reader, note) = Reader::at_checkpoint(log.source()).unwrap();
    assert_eq!((reader.size(), note), (size, log.verify(None).unwrap().note));
    for index in [0, 255, 256, 699] {
        assert_eq!(reader.entry(index).unwrap(), entry(index));
    }
    assert!(matches!(reader.entry(700), Err(ReadError::OutOfRange { index: 700, size: 700 })));
    let read = |entries: Vec<Result<(u64, Vec<u8>), ReadError>>| -> Vec<u64> {
        entries
            .into_iter()
            .map(Result::unwrap)
            .map(|(n, found)| (n, found == entry(n)))
            .map(|(n, same)| {
                assert!(same);
                n
            })
            .collect()
    };
    assert_eq!(read(reader.entries(250..u64::MAX).collect()), (250..700).collect::<Vec<_>>());
    assert_eq!(read(reader.entries(0..300).rev().collect()), (0..300).rev().collect::<Vec<_>>());
    let mut both = reader.entries(300..303);
    assert_eq!(both.next().unwrap().unwrap().0, 300);
    assert_eq!(both.next_back().unwrap().unwrap().0, 302);
    assert_eq!(both.next().unwrap().unwrap(), (301, entry(301)));
    assert!(both.next().is_none() && both.next_back().is_none());
    log.files.borrow_mut().remove("tile/entries/001");
    let found: Vec<_> = reader.entries(0..700).collect();
    assert_eq!(found.len(), 257, "nothing comes after an error");
    assert!(matches!(&found[256], Err(ReadError::Missing { path }) if path == "tile/entries/001"));
}

#[test]
fn an_entry_that_is_too_long_changes_nothing() {
    let mut log = Log::of((0..3).map(entry));
    let before = log.edge.clone();
    let error = log.edge.push(&vec![b'x'; 65_536], &mut Vec::new()).unwrap_err();
    assert_eq!(error.length, 65_536);
    assert_eq!(log.edge, before);
    log.edge.push(&vec![b'x'; 65_535], &mut Vec::new()).unwrap();
}

#[test]
fn texts_that_are_no_proofs_are_refused() {
    let mut log = Log::of((0..5).map(entry));
    let note = log.publish();
    let text = Reader::new(log.source(), 5).prove(2, &note).unwrap().to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra eyJ2IjoxLCJuIjoyfQ==\nindex 2\n"), "{text}");
    for bad in [
        text.replace("@v1", "@v2"),
        text.replace("index 2", "index 02"),
        text.replace("index 2", "index +2"),
        text.replace("index 2\n", ""),
        text.replace("extra ", "extra !"),
        text.replace("index 2\n", "index 2\nx\n"),
        text.replace("index 2\n", &format!("index 2\n{}", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64))),
        text.split("\n\n").next().unwrap().to_owned(),
    ] {
        assert!(matches!(bad.parse::<InclusionProof>(), Err(ProofTextError::Malformed(_))), "{bad}");
    }
    let bare: InclusionProof = text.replace("extra eyJ2IjoxLCJuIjoyfQ==\n", "").parse().unwrap();
    assert_eq!(bare.verify(key().verifier()), Err(ProofTextError::NoEntry));
    assert!(bare.verify_entry(&entry(2), key().verifier()).is_ok());
    assert!(bare.verify_entry(&entry(3), key().verifier()).is_err());
}
