//! What others published: the note of Go's `sumdb/note`, the reference tree of Certificate Transparency, the layout's and the
//! proof format's examples.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::*;

const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_PRIVATE: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNED: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn neumann() -> VerifierKey {
    NEUMANN.parse().unwrap()
}

#[test]
fn the_note_of_the_go_implementation_opens_and_is_made_the_same() {
    let note = format!("{TEXT}\n{SIGNED}");
    assert_eq!(neumann().open(&note), Ok(TEXT));
    assert_eq!(neumann().to_string(), NEUMANN);
    let private = STANDARD.decode(NEUMANN_PRIVATE).unwrap();
    let key = SigningKey::from_seed("PeterNeumann", private[1..].try_into().unwrap()).unwrap();
    assert_eq!(key.verifier(), &neumann());
    assert_eq!(key.sign(TEXT), note);
    assert!(!format!("{key:?}").contains("YEKFALV"));
}

#[test]
fn the_key_of_the_go_checksum_database_is_read() {
    let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    let key: VerifierKey = text.parse().unwrap();
    assert_eq!((key.name(), key.to_string().as_str()), ("sum.golang.org", text));
    for bad in [
        "sum.golang.org+033de0af+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.com+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum golang+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org+033de0ae+As4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org+033de0ae+Ac4z",
        "sum.golang.org+033de0ae",
        "",
    ] {
        assert!(matches!(bad.parse::<VerifierKey>(), Err(NoteError::Key(_))), "{bad}");
    }
}

#[test]
fn signatures_of_others_are_ignored_and_a_wrong_one_of_the_key_is_not() {
    let other = SigningKey::from_seed("witness.example", &[1; 32]).unwrap();
    let name_sake = SigningKey::from_seed("PeterNeumann", &[2; 32]).unwrap();
    let line = |key: &SigningKey| key.sign(TEXT).split_once("\n\n").unwrap().1.to_owned();
    let several = format!("{TEXT}\n{}{}{SIGNED}{SIGNED}", line(&other), line(&name_sake));
    assert_eq!(neumann().open(&several), Ok(TEXT));
    let theirs = format!("{TEXT}\n{}{}", line(&other), line(&name_sake));
    assert!(matches!(neumann().open(&theirs), Err(NoteError::NotSigned(_))));
    let forged = SIGNED.replace("ZJku", "ZJkv");
    for note in [format!("{TEXT}\n{forged}"), format!("{TEXT}\n{SIGNED}{forged}"), format!("x{TEXT}\n{SIGNED}")] {
        assert!(matches!(neumann().open(&note), Err(NoteError::BadSignature(_))), "{note}");
    }
}

#[test]
fn texts_that_are_no_notes_are_refused() {
    let key = neumann();
    let signed = SIGNED.trim_end();
    for bad in [
        TEXT.to_owned(),
        format!("{TEXT}{SIGNED}"),
        format!("{TEXT}\n"),
        format!("{TEXT}\n{signed}"),
        format!("{TEXT}\r\n\n{SIGNED}"),
        format!("{TEXT}\n- PeterNeumann x08go\n"),
        format!("{TEXT}\n\u{2014} PeterNeumann x08go/Z\n"),
        format!("{TEXT}\n\u{2014} PeterNeumann AAA=\n"),
        format!("{TEXT}\n\u{2014} Peter+Neumann x08go/ZJ\n"),
        format!("{TEXT}\n{}", SIGNED.repeat(101)),
        format!("{}\n\n{SIGNED}", "x".repeat(1_000_000)),
    ] {
        assert!(matches!(key.open(&bad), Err(NoteError::Malformed(_))), "{}", &bad[..bad.len().min(300)]);
    }
    // The last empty line parts text and signatures.
    let two = format!("a\n\n{TEXT}\n{SIGNED}");
    assert_eq!(note_text(&two).unwrap(), format!("a\n\n{TEXT}"));
}

/// The entries of Certificate Transparency's reference tests.
fn reference_entries() -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = (0x40..0x70).collect();
    let part = |from: usize, step: usize, count: usize| {
        (0..count).map(|at| bytes[from + at / step * 16 + at % step]).collect::<Vec<u8>>()
    };
    vec![
        vec![],
        vec![0x00],
        vec![0x10],
        vec![0x20, 0x21],
        vec![0x30, 0x31],
        part(0, 4, 4),
        part(16, 8, 8),
        part(32, 16, 16),
    ]
}

const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn from_hex(text: &str) -> Hash {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    Hash(std::array::from_fn(byte))
}

#[test]
fn the_reference_tree_has_the_published_roots() {
    let mut edge = Edge::new();
    assert_eq!(edge.root(), from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    for (entry, root) in reference_entries().iter().zip(ROOTS) {
        edge.push(entry, &mut Vec::new()).unwrap();
        assert_eq!(edge.root(), from_hex(root), "{}", edge.size());
    }
}

#[test]
fn the_published_proofs_are_made_and_accepted() {
    let log = super::log::Log::of(reference_entries());
    let reader = Reader::new(log.source(), 8);
    let note = String::from_utf8(log.files.borrow()[CHECKPOINT_FILE].clone()).unwrap();
    let inclusion: [(u64, &[&str]); 2] = [
        (
            0,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];
    for (index, expected) in inclusion {
        let expected: Vec<_> = expected.iter().map(|text| from_hex(text)).collect();
        assert_eq!(reader.prove(index, &note).unwrap().hashes, expected);
    }
    let consistency: [(u64, &[&str]); 2] = [
        (
            1,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];
    for (old, expected) in consistency {
        let expected: Vec<_> = expected.iter().map(|text| from_hex(text)).collect();
        assert_eq!(reader.prove_consistency(old).unwrap(), expected, "{old}");
        let (old_root, root) = (from_hex(ROOTS[old as usize - 1]), from_hex(ROOTS[7]));
        assert_eq!(verify_consistency(old, 8, &expected, &old_root, &root), Ok(()));
    }
}

#[test]
fn tiles_lie_where_the_specification_puts_them() {
    let tile = |kind, index, width| Tile { kind, index, width };
    for (expected, path) in [
        (tile(TileKind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067"),
        (tile(TileKind::Hashes(63), 0, 1), "tile/63/000.p/1"),
        (tile(TileKind::Entries, 999, 256), "tile/entries/999"),
        (tile(TileKind::Entries, 1000, 255), "tile/entries/x001/000.p/255"),
    ] {
        assert_eq!((expected.to_string().as_str(), Tile::parse(path)), (path, Some(expected)));
    }
    for bad in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/1",
        "tile/0/0001",
        "tile/0/x000/001",
        "tile/00/001",
        "tile/64/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/+1",
        "tile/0/+01",
        "tile/0/x001/x001",
        "tile/entries/../x",
        "tile/entries/001/",
        "/tile/entries/001",
        "tile/entries/001.p/1/2",
        "tile/-1/001",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(Tile::parse(bad), None, "{bad}");
    }
    // The example of the specification: a tree of 70,000.
    let tiles: Vec<_> = tiles_of(70_000).filter(|tile| tile.kind != TileKind::Entries).collect();
    let full = |level| tiles.iter().filter(|tile| tile.kind == TileKind::Hashes(level) && tile.is_full()).count();
    let partial = |level| tiles.iter().find(|tile| tile.kind == TileKind::Hashes(level) && !tile.is_full());
    assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
    assert_eq!([0, 1, 2].map(|level| partial(level).unwrap().width), [112, 17, 1]);
    assert_eq!(tiles.len(), 273 + 1 + 3);
    assert_eq!(
        tiles_of(256).map(|tile| tile.to_string()).collect::<Vec<_>>(),
        ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    );
    assert_eq!(tiles_of(0).count(), 0);
}

#[test]
fn checkpoints_are_read_strictly() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint = Checkpoint::parse(text).unwrap();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.text(), text);
    assert!(Checkpoint::parse(&format!("{text}an extension\n")).is_ok());
    for bad in [
        text.trim_end(),
        &text.replace("208", "0208"),
        &text.replace("208", "+208"),
        &text.replace("example.com/behind-the-sofa", ""),
        &text.replace("I=", "=="),
        &format!("{text}\n"),
        "a\n1\n",
        "",
    ] {
        assert_eq!(Checkpoint::parse(bad), Err(CheckpointError::Malformed), "{bad}");
    }
    let key = super::log::key();
    let of_another = key.sign(text);
    assert!(matches!(Checkpoint::open(&of_another, key.verifier()), Err(CheckpointError::OtherLog { .. })));
}
