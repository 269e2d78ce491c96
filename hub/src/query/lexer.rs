//! A query's text as tokens, each with its column.

use serde_json::{Number, Value};

use super::QueryError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or keyword.
    Word(String),
    /// A name that was `[[quoted]]`: never a keyword.
    Name(String),
    Text(String),
    Number(Number),
    Sign(&'static str),
    End,
}

impl Token {
    /// For errors.
    pub(super) fn shown(&self) -> String {
        let short = |text: &str| text.chars().take(40).collect::<String>();
        match self {
            Self::Word(text) | Self::Name(text) => format!("{:?}", short(text)),
            Self::Text(text) => format!("the text '{}'", short(text)),
            Self::Number(number) => number.to_string(),
            Self::Sign(sign) => format!("{sign:?}"),
            Self::End => "the end".into(),
        }
    }
}

/// The longer ones first.
const SIGNS: [&str; 17] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "+", "-", "*", "/"];

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, QueryError> {
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    let mut tokens: Vec<(usize, Token)> = Vec::new();
    while let Some(&first) = chars.get(at) {
        let column = at + 1;
        let after_dot = matches!(tokens.last(), Some((_, Token::Sign("."))));
        if first.is_whitespace() {
            at += 1;
            continue;
        }
        let token = if after_dot && chars[at..].starts_with(&['[', '[']) {
            let (name, end) = quoted_name(&chars, at)?;
            at = end;
            Token::Name(name)
        } else if first == '\'' || first == '"' {
            let (text, end) = quoted(&chars, at)?;
            at = end;
            Token::Text(text)
        } else if is_name_start(first) || (after_dot && is_name(first)) {
            let length = chars[at..].iter().take_while(|char| is_name(**char)).count();
            at += length;
            Token::Word(chars[at - length..at].iter().collect())
        } else if first.is_ascii_digit() {
            let (number, end) = number(&chars, at)?;
            at = end;
            Token::Number(number)
        } else if first == '%' {
            at += 1;
            Token::Sign("%")
        } else {
            let rest: String = chars[at..].iter().take(2).collect();
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| QueryError::new(column, format!("{first:?} has no meaning here")))?;
            at += sign.len();
            Token::Sign(sign)
        };
        tokens.push((column, token));
    }
    tokens.push((chars.len() + 1, Token::End));
    Ok(tokens)
}

fn is_name_start(char: char) -> bool {
    char.is_alphabetic() || matches!(char, '_' | '$')
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '$')
}

/// `[[` was seen.
fn quoted_name(chars: &[char], start: usize) -> Result<(String, usize), QueryError> {
    let rest = &chars[start + 2..];
    match rest.windows(2).position(|pair| pair == [']', ']']) {
        Some(0) => Err(QueryError::new(start + 3, "a name is expected between [[ and ]]")),
        Some(length) => Ok((rest[..length].iter().collect(), start + 2 + length + 2)),
        None => Err(QueryError::new(start + 1, "the name that begins here does not end: ]] is expected")),
    }
}

/// A quote was seen. Twice the quote, or a backslash before it, is the quote itself.
fn quoted(chars: &[char], start: usize) -> Result<(String, usize), QueryError> {
    let quote = chars[start];
    let mut text = String::new();
    let mut at = start + 1;
    while let Some(&char) = chars.get(at) {
        match (char, chars.get(at + 1)) {
            (char, Some(next)) if char == quote && *next == quote => {
                text.push(quote);
                at += 2;
            }
            (char, _) if char == quote => return Ok((text, at + 1)),
            ('\\', Some(next)) if *next == quote || *next == '\\' => {
                text.push(*next);
                at += 2;
            }
            (char, _) => {
                text.push(char);
                at += 1;
            }
        }
    }
    Err(QueryError::new(start + 1, format!("the text that begins here does not end: {quote} is expected")))
}

/// A digit was seen.
fn number(chars: &[char], start: usize) -> Result<(Number, usize), QueryError> {
    let digits = |from: usize| chars[from.min(chars.len())..].iter().take_while(|char| char.is_ascii_digit()).count();
    let mut end = start + digits(start);
    if chars.get(end) == Some(&'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(chars.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(end + 1), Some('+' | '-')));
        if digits(end + 1 + sign) > 0 {
            end += 1 + sign + digits(end + 1 + sign);
        }
    }
    if let Some(char) = chars.get(end).filter(|char| is_name(**char)) {
        return Err(QueryError::new(end + 1, format!("{char:?} stands where a number ends")));
    }
    let text: String = chars[start..end].iter().collect();
    let trimmed = text.trim_start_matches('0');
    // JSON has no leading zeros.
    let text = if trimmed.starts_with(|char: char| char.is_ascii_digit()) {
        trimmed.to_owned()
    } else {
        format!("0{trimmed}")
    };
    match serde_json::from_str(&text) {
        Ok(Value::Number(number)) => Ok((number, end)),
        _ => Err(QueryError::new(start + 1, "the number is out of range")),
    }
}
