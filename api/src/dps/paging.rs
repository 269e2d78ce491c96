//! Pages of a query's answer (`service-rest.md` 3.7).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use unicity_provisioning::{Fault, Page};

use crate::body::{ApiBody, json};
use crate::failure::Failure;

/// Items a page where the client names no number, and the most it may name.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

/// Records that one request looks at. A filter that hardly anything passes then gives short pages instead of long waits.
const SCAN_MAX: usize = 10_000;

pub(crate) const CONTINUATION: &str = "x-ms-continuation";

/// Which page a client wants.
pub(crate) struct Paging {
    /// At most so many items.
    pub(crate) limit: usize,
    after: Option<String>,
}

impl Paging {
    /// Reads `x-ms-max-item-count` and `x-ms-continuation`. A count of 0 or below is none (.NET, CLI).
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let text = |name: &str| match headers.get(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Ok(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
                Err(_) => Err(Failure::invalid(name, "it is not ASCII text".into())),
            },
        };
        let limit = match text("x-ms-max-item-count")? {
            None => PAGE_DEFAULT,
            Some(count) => match count.parse::<i64>() {
                Ok(count) if count <= 0 => PAGE_DEFAULT,
                Ok(count) => usize::try_from(count).unwrap_or(PAGE_MAX).min(PAGE_MAX),
                Err(_) => return Err(Failure::invalid("x-ms-max-item-count", "it is not a number".into())),
            },
        };
        let after = match text(CONTINUATION)? {
            None => None,
            Some(token) => {
                let id = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(id.ok_or_else(|| Failure::invalid(CONTINUATION, "it is not a token of this service".into()))?)
            }
        };
        Ok(Self { limit, after })
    }

    /// What the token of the page before holds.
    pub(crate) fn after_text(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The last id of the page before.
    pub(super) fn after<K: std::str::FromStr>(&self) -> Result<Option<K>, Failure> {
        let parse = |id: &String| {
            id.parse().map_err(|_| Failure::invalid(CONTINUATION, "it is not a token of this query".into()))
        };
        self.after.as_ref().map(parse).transpose()
    }
}

/// One page as an answer. On the last page the header must be *absent*: Node and .NET loop on an empty one. `item_type` is
/// mandatory for Java and .NET.
pub(super) fn paged(items: Vec<Value>, next: Option<&str>, item_type: &'static str) -> Response<ApiBody> {
    let count = items.len();
    let mut answer = json(StatusCode::OK, &Value::Array(items));
    let headers = answer.headers_mut();
    headers.insert("x-ms-item-type", HeaderValue::from_static(item_type));
    headers.insert("x-ms-max-item-count", HeaderValue::from(count));
    if let Some(token) = next.and_then(|id| HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(id)).ok()) {
        headers.insert(CONTINUATION, token);
    }
    answer
}

/// Up to `limit` items that `keep` takes, after the key `after`; and the key to go on from, if more may follow.
pub(super) fn scan<T, K>(
    list: impl Fn(Option<&K>, usize) -> Result<Page<T>, Fault>,
    key: impl Fn(&T) -> K,
    keep: impl Fn(&T) -> bool,
    mut after: Option<K>,
    limit: usize,
) -> Result<(Vec<T>, Option<K>), Fault> {
    let mut found = Vec::new();
    let mut seen = 0;
    loop {
        let Page { items, more } = list(after.as_ref(), limit.clamp(1, PAGE_MAX))?;
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return Ok((found, None));
        }
        while let Some(item) = items.next() {
            seen += 1;
            let place = key(&item);
            if keep(&item) {
                found.push(item);
            }
            let follow = more || items.peek().is_some();
            if found.len() >= limit {
                return Ok((found, follow.then_some(place)));
            }
            after = Some(place);
        }
        if !more {
            return Ok((found, None));
        }
        if seen >= SCAN_MAX {
            return Ok((found, after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(total: usize) -> impl Fn(Option<&usize>, usize) -> Result<Page<usize>, Fault> {
        move |after, limit| {
            let start = after.map_or(0, |after| after + 1);
            let end = total.min(start + limit);
            Ok(Page { items: (start..end).collect(), more: end < total })
        }
    }

    #[test]
    fn pages_meet_without_gap_or_overlap_and_the_last_says_so() {
        for (total, limit) in [(0, 3), (1, 1), (3, 1), (3, 3), (7, 3), (6, 3)] {
            let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let (found, next) = scan(numbers(total), |n| *n, |_| true, after, limit).unwrap();
                assert!(found.len() <= limit);
                all.extend(found);
                pages += 1;
                after = next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, (0..total).collect::<Vec<_>>());
            assert_eq!(pages, total.div_ceil(limit).max(1), "{total} by {limit}");
        }
    }

    #[test]
    fn a_filter_that_takes_nothing_gives_up_early_and_can_go_on() {
        let (found, next) = scan(numbers(25_000), |n| *n, |n| *n == 24_999, None, 100).unwrap();
        assert!(found.is_empty());
        let (found, next) = scan(numbers(25_000), |n| *n, |n| *n == 24_999, next, 100).unwrap();
        assert!(found.is_empty());
        let (found, next) = scan(numbers(25_000), |n| *n, |n| *n == 24_999, next, 100).unwrap();
        assert_eq!((found, next), (vec![24_999], None));
    }
}
