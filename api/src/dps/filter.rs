//! The query language, as much of it as the SDKs and our own commands send (`service-rest.md` 3.7): `SELECT * FROM x`, `SELECT *`, `*`,
//! or nothing at all (the CLI's registrations query has no body), and our extension `WHERE field = 'value' [AND ...]`.

use serde::Deserialize;
use unicity_identity::{EnrollmentGroup, IndividualEnrollment, ProvisioningStatus, Registration};

use super::{members, parse_json};
use crate::failure::Failure;

#[derive(Deserialize)]
struct QueryBody {
    query: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    DeviceId,
    Status,
    AttestationType,
}

/// Conditions that an item must meet, all of them. Values are compared without case but for device ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<(Field, String)>);

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Filter {
    /// Reads a QuerySpecification; `collection` is the name to show in errors.
    pub(super) fn of_body(body: &[u8], collection: &str) -> Result<Self, Failure> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let body = parse_json(body)?;
        let specification: QueryBody = members(&body)?;
        Self::parse(specification.query.as_deref().unwrap_or_default(), collection)
    }

    fn parse(query: &str, collection: &str) -> Result<Self, Failure> {
        let refuse = |why: String| {
            Failure::invalid(
                "query",
                format!("{why}; understood is SELECT * FROM {collection} [WHERE field = 'value' [AND ...]]"),
            )
        };
        let tokens = tokens(query).map_err(refuse)?;
        let mut tokens = tokens.into_iter().peekable();
        let is_word = |token: Option<&Token>, word: &str| matches!(token, Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        if tokens.peek().is_none() {
            return Ok(Self::default());
        }
        if is_word(tokens.peek(), "select") {
            tokens.next();
        }
        match tokens.next() {
            Some(Token::Sign('*')) => {}
            other => return Err(refuse(format!("{} stands where * is expected", shown(other.as_ref())))),
        }
        if is_word(tokens.peek(), "from") {
            tokens.next();
            // The path says what is queried; samples put all kinds of names here (service-rest.md 3.7).
            match tokens.next() {
                Some(Token::Word(_)) => {}
                other => return Err(refuse(format!("{} stands where a name is expected", shown(other.as_ref())))),
            }
        }
        let mut conditions = Vec::new();
        if is_word(tokens.peek(), "where") {
            loop {
                tokens.next();
                let field = match tokens.next() {
                    Some(Token::Word(name)) => field(&name).ok_or_else(|| {
                        refuse(format!(
                            "{name:?} is no field; registrationId, enrollmentGroupId, deviceId, provisioningStatus and \
                             attestation.type are"
                        ))
                    })?,
                    other => return Err(refuse(format!("{} stands where a field is expected", shown(other.as_ref())))),
                };
                match (tokens.next(), tokens.next()) {
                    (Some(Token::Sign('=')), Some(Token::Text(value))) => conditions.push((field, value)),
                    _ => return Err(refuse("a condition is field = 'value'".into())),
                }
                if !is_word(tokens.peek(), "and") {
                    break;
                }
            }
        }
        match tokens.next() {
            None => Ok(Self(conditions)),
            extra => Err(refuse(format!("{} is not understood", shown(extra.as_ref())))),
        }
    }

    /// The id that an item must have, if a condition names one.
    pub(super) fn id(&self) -> Option<&str> {
        self.0.iter().find(|(field, _)| *field == Field::Id).map(|(_, value)| value.as_str())
    }

    fn takes(&self, id: &str, device_id: Option<&str>, status: Option<ProvisioningStatus>, kind: &str) -> bool {
        self.0.iter().all(|(field, value)| match field {
            Field::Id => value.eq_ignore_ascii_case(id),
            Field::DeviceId => device_id == Some(value),
            Field::Status => match status {
                Some(ProvisioningStatus::Enabled) => value.eq_ignore_ascii_case("enabled"),
                Some(ProvisioningStatus::Disabled) => value.eq_ignore_ascii_case("disabled"),
                None => false,
            },
            Field::AttestationType => value.eq_ignore_ascii_case(kind),
        })
    }

    pub(super) fn takes_individual(&self, enrollment: &IndividualEnrollment) -> bool {
        let device_id = enrollment.device_id.as_ref().map(|id| id.as_str());
        let terms = &enrollment.terms;
        self.takes(enrollment.registration_id.as_str(), device_id, Some(terms.status), terms.attestation.kind())
    }

    pub(super) fn takes_group(&self, group: &EnrollmentGroup) -> bool {
        self.takes(group.group_id.as_str(), None, Some(group.terms.status), group.terms.attestation.kind())
    }

    pub(super) fn takes_registration(&self, registration: &Registration) -> bool {
        let device_id = Some(registration.device_id.as_str());
        self.takes(registration.registration_id.as_str(), device_id, None, registration.kind.as_str())
    }
}

fn field(name: &str) -> Option<Field> {
    [
        ("registrationId", Field::Id),
        ("enrollmentGroupId", Field::Id),
        ("deviceId", Field::DeviceId),
        ("provisioningStatus", Field::Status),
        ("attestation.type", Field::AttestationType),
    ]
    .into_iter()
    .find(|(known, _)| known.eq_ignore_ascii_case(name))
    .map(|(_, field)| field)
}

fn shown(token: Option<&Token>) -> String {
    match token {
        None => "the end".into(),
        Some(Token::Word(word) | Token::Text(word)) => format!("{:?}", word.chars().take(60).collect::<String>()),
        Some(Token::Sign(sign)) => format!("{sign:?}"),
    }
}

fn tokens(query: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            // A quote within a text is written twice.
            let mut text = String::new();
            let mut tail = &rest[1..];
            loop {
                let Some((head, after)) = tail.split_once('\'') else { return Err("a text has no end".into()) };
                text.push_str(head);
                match after.strip_prefix('\'') {
                    Some(more) => {
                        text.push('\'');
                        tail = more;
                    }
                    None => {
                        tail = after;
                        break;
                    }
                }
            }
            tokens.push(Token::Text(text));
            rest = tail;
        } else if first.is_ascii_alphanumeric() {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_')).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Sign(first));
            rest = &rest[first.len_utf8()..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sdks_send_means_everything() {
        for query in ["", "*", "SELECT *", "select * from ENROLLMENTS", " SELECT  *  FROM enrollments "] {
            assert_eq!(Filter::parse(query, "enrollments").unwrap(), Filter::default(), "{query:?}");
        }
    }

    #[test]
    fn conditions() {
        let filter =
            Filter::parse("SELECT * FROM enrollments WHERE registrationId = 'A''b' and DeviceId='x'", "enrollments")
                .unwrap();
        assert_eq!(filter.0, [(Field::Id, "A'b".into()), (Field::DeviceId, "x".into())]);
        let takes = |device_id| filter.takes("a'B", device_id, None, "tpm");
        assert!(takes(Some("x")));
        assert!(!takes(Some("X")));
        assert!(!takes(None));
        let filter = Filter::parse("* WHERE attestation.type = 'X509'", "enrollments").unwrap();
        assert!(filter.takes("a", None, None, "x509") && !filter.takes("a", None, None, "tpm"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(tail in "\\PC{0,60}") {
            let _ = Filter::parse(&tail, "enrollments");
            let _ = Filter::parse(&format!("SELECT * WHERE registrationId = '{tail}"), "enrollments");
        }

        #[test]
        fn any_value_can_be_asked_for(value in "\\PC{0,40}") {
            let query = format!("SELECT * WHERE deviceId = '{}'", value.replace('\'', "''"));
            let filter = Filter::parse(&query, "enrollments").unwrap();
            proptest::prop_assert_eq!(filter.0, vec![(Field::DeviceId, value)]);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for query in [
            "SELECT registrationId FROM enrollments",
            "SELECT * FROM",
            "SELECT * WHERE x = 'y'",
            "SELECT * WHERE registrationId = 'y",
            "SELECT * WHERE registrationId = y",
            "SELECT * WHERE registrationId > 'y'",
            "SELECT * WHERE registrationId = 'y' OR deviceId = 'z'",
            "SELECT * WHERE",
            "* ; DROP",
            "ä",
        ] {
            assert!(Filter::parse(query, "enrollments").is_err(), "{query:?}");
        }
    }
}
