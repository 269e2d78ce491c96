//! Pages of records in key order, merged from the layers and the index.

use std::iter::Peekable;
use std::ops::Bound;

use serde::de::DeserializeOwned;
use unicity_provisioning::{Fault, Page};

use super::tables::{Table, decode};
use super::view::View;

/// Records of one page at most, whatever was asked for: the overlay is locked against the writer meanwhile.
pub(super) const PAGE_MAX: usize = 1_000;

type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// All records of a table.
pub(super) fn all<T: DeserializeOwned>(view: &View<'_>, table: Table) -> Result<Vec<T>, Fault> {
    all_from(view, table, &[])
}

/// All records of a table from a key on.
pub(super) fn all_from<T: DeserializeOwned>(view: &View<'_>, table: Table, first: &[u8]) -> Result<Vec<T>, Fault> {
    let mut all = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let start = after.as_deref().map_or(Bound::Included(first), Bound::Excluded);
        let raw = whole_page(view, table, (start, Bound::Unbounded), PAGE_MAX)?;
        for (_, value) in &raw.items {
            all.push(decode(table, value)?);
        }
        match raw.items.into_iter().next_back() {
            Some((key, _)) if raw.more => after = Some(key),
            _ => return Ok(all),
        }
    }
}

/// The records within `bounds`, `limit` or [`PAGE_MAX`] at most.
pub(super) fn page<T: DeserializeOwned>(
    view: &View<'_>,
    table: Table,
    bounds: KeyBounds<'_>,
    limit: usize,
) -> Result<Page<T>, Fault> {
    let raw = whole_page(view, table, bounds, limit.min(PAGE_MAX))?;
    let items = raw.items.iter().map(|(_, value)| decode(table, value)).collect::<Result<_, _>>()?;
    Ok(Page { items, more: raw.more })
}

/// Key and value.
type Raw = (Vec<u8>, Vec<u8>);
/// The same in the index; no value: a row that nobody sees.
type Stored = (Vec<u8>, Option<Vec<u8>>);

/// Rows of imports that nobody sees, and that are passed over before the overlay is let go for a moment.
const HIDDEN_MAX: usize = 5_000;

/// A page. Where many rows of a pending import lie in between it is put together from several looks.
fn whole_page(view: &View<'_>, table: Table, bounds: KeyBounds<'_>, limit: usize) -> Result<Page<Raw>, Fault> {
    let mut items = Vec::new();
    let mut start = bounds.0.map(<[u8]>::to_vec);
    loop {
        let from = start.as_ref().map(Vec::as_slice);
        let mut stopped = None;
        let page = raw_page(view, table, (from, bounds.1), limit - items.len(), &mut stopped)?;
        items.extend(page.items);
        match stopped {
            None => return Ok(Page { items, more: page.more }),
            Some(last) => start = Bound::Excluded(last),
        }
    }
}

/// The records within `bounds`, `limit` at most. `stopped`: the last key looked at, if hidden rows ended the look.
fn raw_page(
    view: &View<'_>,
    table: Table,
    bounds: KeyBounds<'_>,
    limit: usize,
    stopped: &mut Option<Vec<u8>>,
) -> Result<Page<Raw>, Fault> {
    if let (Bound::Excluded(start), Bound::Excluded(end)) = bounds
        && start >= end
    {
        return Ok(Page { items: Vec::new(), more: false });
    }
    // Locked until the page is complete: one state, not several.
    let layers = view.overlay.layers.read();
    let decided = view.writer.map(|writer| &writer.decided);
    let newest_first = [decided, Some(&layers.active), layers.frozen.as_deref()];
    let sorted: Vec<_> = newest_first.into_iter().flatten().map(|layer| layer.listed(table)).collect();
    let sources: Vec<_> = sorted.iter().map(|layer| layer.range(bounds).peekable()).collect();
    view.index
        .read(|snapshot| {
            let stored = snapshot.table(table).range::<&[u8]>(bounds)?;
            // A hidden row may be covered by a newer record of a layer, so it goes through the merge.
            let stored = stored.map(|record| {
                record.map(|(key, value)| (key.value().to_vec(), view.seen(table, value.value()).map(<[u8]>::to_vec)))
            });
            merge(sources.clone(), stored.peekable(), limit)
        })
        .map(|(page, last)| {
            *stopped = last;
            page
        })
}

/// Of records with the same key the first source's counts; those of the index come last.
fn merge<'a, L, I>(
    mut layers: Vec<Peekable<L>>,
    mut stored: Peekable<I>,
    limit: usize,
) -> Result<(Page<Raw>, Option<Vec<u8>>), redb::Error>
where
    L: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    I: Iterator<Item = Result<Stored, redb::StorageError>>,
{
    let (mut items, mut hidden) = (Vec::new(), 0);
    loop {
        let in_layers = layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| *key)).min();
        let in_index = match stored.peek() {
            Some(Ok((key, _))) => Some(key.as_slice()),
            Some(Err(_)) => match stored.next() {
                Some(Err(error)) => return Err(error.into()),
                _ => unreachable!("the same item was just seen to be an error"),
            },
            None => None,
        };
        let (key, from_index) = match (in_layers, in_index) {
            (None, None) => return Ok((Page { items, more: false }, None)),
            (Some(layered), Some(indexed)) if layered <= indexed => (layered.to_vec(), layered == indexed),
            (Some(layered), None) => (layered.to_vec(), false),
            (_, Some(indexed)) => (indexed.to_vec(), true),
        };
        // Every source moves past the key; the first that has it decides.
        let mut value: Option<Option<Vec<u8>>> = None;
        for layer in &mut layers {
            if let Some((_, found)) = layer.next_if(|(found, _)| *found == key) {
                value.get_or_insert_with(|| found.map(<[u8]>::to_vec));
            }
        }
        if from_index && let Some(record) = stored.next() {
            let (_, found) = record?;
            hidden += usize::from(found.is_none());
            value.get_or_insert(found);
        }
        if let Some(Some(value)) = value {
            if items.len() == limit {
                return Ok((Page { items, more: true }, None));
            }
            items.push((key, value));
        } else if hidden >= HIDDEN_MAX {
            return Ok((Page { items, more: true }, Some(key)));
        }
    }
}
