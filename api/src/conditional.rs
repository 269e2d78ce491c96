//! `If-Match` as a condition on a record's version (`service-rest.md` 2.4).

use http::{HeaderMap, header};
use unicity_provisioning::Precondition;

use crate::failure::Failure;

/// The condition of a write. Without `If-Match`: what `otherwise` says, which differs between PUT and DELETE.
///
/// # Errors
/// 400 if the header is not text.
pub(crate) fn precondition(headers: &HeaderMap, otherwise: Precondition) -> Result<Precondition, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(otherwise) };
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
}
