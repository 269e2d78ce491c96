//! Searches: order, bounds, and where to go on.

use std::collections::BTreeMap;

use crate::{Bounds, Edge, Reader, TileFile};

fn reader(entries: u64) -> Reader<impl crate::Source> {
    let (mut edge, mut files) = (Edge::new(), Vec::new());
    for number in 0..entries {
        let kind = if number % 3 == 0 { "fizz" } else { "other" };
        edge.push(format!("{{\"n\":{number},\"kind\":\"{kind}\"}}").as_bytes(), &mut files).unwrap();
    }
    files.extend(edge.partials());
    let files: BTreeMap<String, Vec<u8>> =
        files.into_iter().map(|TileFile { tile, bytes }| (tile.to_string(), bytes)).collect();
    Reader::new(move |path: &str| Ok(files.get(path).cloned()), entries)
}

#[test]
fn the_newest_come_first_and_a_search_goes_on_where_it_stopped() {
    let reader = reader(700);
    let mut bounds = Bounds { before: None, limit: 100, scan_max: 200 };
    let (mut all, mut looked_at) = (Vec::new(), 0);
    loop {
        let mut shown = 0;
        let found = reader
            .search(bounds, &["\"fizz\"", "kind"], |index, entry| {
                shown += 1;
                assert!(entry.starts_with(format!("{{\"n\":{index},").as_bytes()));
                (index % 2 == 0).then_some(index)
            })
            .unwrap();
        assert!(found.scanned <= 200 && shown < found.scanned);
        looked_at += found.scanned;
        all.extend(found.items);
        bounds.before = found.next;
        if found.next.is_none() {
            break;
        }
    }
    assert_eq!(looked_at, 700);
    let expected: Vec<u64> = (0..700).rev().filter(|n| n % 6 == 0).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_search_ends_with_its_last_find_and_an_empty_log_has_none() {
    let bounds = Bounds { before: Some(10), limit: 1, scan_max: u64::MAX };
    let found = reader(300).search(bounds, &["fizz"], |index, _| Some(index)).unwrap();
    assert_eq!((found.items, found.next, found.scanned), (vec![9], Some(9), 1));
    let found = reader(0).search(bounds, &[], |index, _| Some(index)).unwrap();
    assert_eq!((found.items.len(), found.next), (0, None));
}
