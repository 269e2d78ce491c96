// Inputs for the property tests that call the fuzz targets' functions. Each crate with such functions has this file as a module of
// its tests, by path: a crate of its own would have to be depended on by all of them for the sake of two functions.

use proptest::prelude::*;

/// The seeds of a target with their names, in the names' order.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} is empty");
    paths.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

/// No structure at all.
pub(crate) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

/// A seed with a few bytes changed, and perhaps cut short or with another seed's end.
pub(crate) fn damaged(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds: Vec<Vec<u8>> = seeds(target).into_iter().map(|(_, seed)| seed).collect();
    let (first, second) = (proptest::sample::select(seeds.clone()), proptest::sample::select(seeds));
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    let cut = proptest::option::weighted(0.3, any::<proptest::sample::Index>());
    (first, second, changes, cut, any::<bool>()).prop_map(|(mut bytes, other, changes, cut, joined)| {
        if let Some(cut) = cut.filter(|_| !bytes.is_empty()) {
            bytes.truncate(cut.index(bytes.len()));
            if joined {
                bytes.extend_from_slice(&other[other.len() / 2..]);
            }
        }
        if bytes.is_empty() {
            return bytes;
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes
    })
}
