//! `If-Match` and `If-None-Match` as a condition on a record's version (`service-rest.md` 2.4).

use http::{HeaderMap, header};
use unicity_provisioning::Precondition;

use crate::failure::Failure;

/// The condition of a write. Without `If-Match`: what `otherwise` says, which differs between PUT and DELETE.
///
/// # Errors
/// 400 if the header is not text, and if `If-None-Match` says anything but that there be none (`*`).
pub(crate) fn precondition(headers: &HeaderMap, otherwise: Precondition) -> Result<Precondition, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return match headers.get(header::IF_NONE_MATCH) {
            None => Ok(otherwise),
            Some(none) if none.as_bytes().trim_ascii() == b"*" => Ok(Precondition::Absent),
            Some(_) => Err(Failure::invalid("If-None-Match", "only * is understood: write if there is none".into())),
        };
    };
    let text = value.to_str().map_err(|_| Failure::invalid("If-Match", "it is not ASCII text".into()))?;
    Ok(from_text(text))
}

/// The condition that an etag of a bulk item stands for: `*` comes bare and, from several SDKs, in quotes.
pub(crate) fn from_text(text: &str) -> Precondition {
    match text.trim().trim_matches('"') {
        "*" => Precondition::Any,
        _ => Precondition::Matches(text.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_may_be_quoted() {
        for (sent, expected) in [
            (None, Precondition::Absent),
            (Some("*"), Precondition::Any),
            (Some("\"*\""), Precondition::Any),
            (Some("\"abc\""), Precondition::Matches("\"abc\"".into())),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                headers.insert(header::IF_MATCH, sent.parse().unwrap());
            }
            assert_eq!(precondition(&headers, Precondition::Absent).unwrap(), expected, "{sent:?}");
        }
    }

    #[test]
    fn what_must_not_be_there_may_be_said() {
        let headers = |name, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        let none = headers(header::IF_NONE_MATCH, "*");
        assert_eq!(precondition(&none, Precondition::None).unwrap(), Precondition::Absent);
        assert!(precondition(&headers(header::IF_NONE_MATCH, "\"abc\""), Precondition::None).is_err());
        let mut both = headers(header::IF_MATCH, "\"abc\"");
        both.extend(none);
        assert_eq!(precondition(&both, Precondition::None).unwrap(), Precondition::Matches("\"abc\"".into()));
    }
}
