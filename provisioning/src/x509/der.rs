//! Distinguished Encoding Rules, strictly: one value has one encoding (X.690 10 and 11).
//!
//! Certificate parsers are lenient, for good reasons of theirs. Here the bytes are names: a thumbprint or a key's
//! fingerprint must not have a second spelling that another parser takes for the same certificate. So every element is
//! walked before any parser sees it: definite and shortest lengths, shortest integers, no stray bits, no trailing
//! bytes.
//!
//! Not here: what the elements mean. Contents of OCTET STRINGs (extension values) are walked by those who know them.

/// Nesting that is followed; real certificates stay under 12.
const DEPTH_MAX: usize = 24;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// Bytes are not canonical DER.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct NotDer {
    /// Where, from the first byte given.
    pub offset: usize,
    /// The rule that is broken.
    pub what: &'static str,
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// Without tag and length.
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
    offset: usize,
    content_offset: usize,
}

impl<'a> Element<'a> {
    pub(super) fn reader(&self) -> Reader<'a> {
        Reader { rest: self.content, offset: self.content_offset }
    }
}

/// Reads element after element.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn wrong(&self, what: &'static str) -> NotDer {
        NotDer { offset: self.offset, what }
    }

    pub(super) fn next(&mut self) -> Result<Element<'a>, NotDer> {
        let bytes = self.rest;
        let (&tag, after_tag) = bytes.split_first().ok_or(self.wrong("the data ends where an element should begin"))?;
        if tag & 0x1f == 0x1f {
            return Err(self.wrong("a tag number above 30, which no certificate has,"));
        }
        let (&first, mut after) = after_tag.split_first().ok_or(self.wrong("the data ends within a length"))?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 {
                return Err(self.wrong("an indefinite length (BER, not DER)"));
            }
            if count > 4 {
                return Err(self.wrong("a length of more than four bytes"));
            }
            let (digits, rest) = after.split_at_checked(count).ok_or(self.wrong("the data ends within a length"))?;
            after = rest;
            let value = digits.iter().fold(0_usize, |value, digit| value << 8 | usize::from(*digit));
            if value < 0x80 || digits.first() == Some(&0) {
                return Err(self.wrong("a length longer than needed (BER, not DER)"));
            }
            value
        };
        let (content, rest) = after.split_at_checked(length).ok_or(self.wrong("an element longer than the data"))?;
        let header = bytes.len() - after.len();
        let whole = &bytes[..header + length];
        let element = Element { tag, content, whole, offset: self.offset, content_offset: self.offset + header };
        self.offset += whole.len();
        self.rest = rest;
        Ok(element)
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, NotDer> {
        let at = self.wrong(what);
        let element = self.next()?;
        if element.tag == tag { Ok(element) } else { Err(at) }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), NotDer> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("bytes after the end of an element")) }
    }
}

/// Walks exactly one element with all that it contains.
pub(super) fn check(bytes: &[u8]) -> Result<(), NotDer> {
    let mut reader = Reader::new(bytes);
    let element = reader.next()?;
    reader.end()?;
    check_element(element, 0)
}

fn check_element(element: Element<'_>, depth: usize) -> Result<(), NotDer> {
    let wrong = |what| Err(NotDer { offset: element.offset, what });
    if depth > DEPTH_MAX {
        return wrong("nesting deeper than any certificate's");
    }
    if element.tag & 0x20 != 0 {
        if element.tag < 0x40 && element.tag != SEQUENCE && element.tag != 0x31 {
            return wrong("a string in pieces (BER, not DER)");
        }
        let mut inside = element.reader();
        while !inside.is_empty() {
            check_element(inside.next()?, depth + 1)?;
        }
        return Ok(());
    }
    let content = element.content;
    match element.tag {
        0x01 if !matches!(content, [0x00 | 0xff]) => wrong("a BOOLEAN other than 00 and FF"),
        INTEGER | 0x0a => match content {
            [] => wrong("an INTEGER without content"),
            [0x00, next, ..] if next & 0x80 == 0 => wrong("an INTEGER longer than needed"),
            [0xff, next, ..] if next & 0x80 != 0 => wrong("an INTEGER longer than needed"),
            _ => Ok(()),
        },
        BIT_STRING => match content {
            [] => wrong("a BIT STRING without content"),
            [unused, ..] if *unused > 7 => wrong("a BIT STRING with more than seven unused bits"),
            [unused] if *unused != 0 => wrong("an empty BIT STRING with unused bits"),
            [unused, .., last] if last & ((1 << unused) - 1) != 0 => wrong("unused bits of a BIT STRING that are set"),
            _ => Ok(()),
        },
        NULL if !content.is_empty() => wrong("a NULL with content"),
        OID => {
            let mut start = true;
            for byte in content {
                if start && *byte == 0x80 {
                    return wrong("an OBJECT IDENTIFIER longer than needed");
                }
                start = byte & 0x80 == 0;
            }
            if content.is_empty() || !start { wrong("an OBJECT IDENTIFIER that ends too soon") } else { Ok(()) }
        }
        0x17 if !is_time(content, 12) => wrong("a UTCTime other than YYMMDDHHMMSSZ (RFC 5280 4.1.2.5.1)"),
        0x18 if !is_time(content, 14) => wrong("a GeneralizedTime other than YYYYMMDDHHMMSSZ (RFC 5280 4.1.2.5.2)"),
        0x10 | 0x11 => wrong("a SEQUENCE or SET without its constructed bit"),
        _ => Ok(()),
    }
}

fn is_time(content: &[u8], digits: usize) -> bool {
    content.len() == digits + 1 && content[..digits].iter().all(u8::is_ascii_digit) && content[digits] == b'Z'
}

/// The three parts of everything signed in X.509: certificates and revocation lists (RFC 5280 4.1.1 and 5.1.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    /// What is signed, with tag and length.
    pub(super) to_be_signed: Element<'a>,
    /// Content of the AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    /// The signature's bytes.
    pub(super) signature: &'a [u8],
}

/// Takes a signed structure apart.
pub(super) fn split_signed(bytes: &[u8]) -> Result<Signed<'_>, NotDer> {
    let mut outside = Reader::new(bytes);
    let mut inside = outside.expect(SEQUENCE, "no SEQUENCE around a signed structure")?.reader();
    outside.end()?;
    let to_be_signed = inside.expect(SEQUENCE, "no SEQUENCE of what is signed")?;
    let algorithm = inside.expect(SEQUENCE, "no signature algorithm")?.content;
    let signature = inside.expect(BIT_STRING, "no signature")?;
    inside.end()?;
    match signature.content.split_first() {
        Some((0, signature)) => Ok(Signed { to_be_signed, algorithm, signature }),
        _ => Err(NotDer { offset: signature.offset, what: "a signature that is no whole number of bytes" }),
    }
}

/// An OBJECT IDENTIFIER's content as dotted numbers; `?` where it is malformed.
pub(super) fn oid_text(content: &[u8]) -> String {
    let mut numbers: Vec<u128> = Vec::new();
    let mut value: u128 = 0;
    for byte in content {
        if value >> 120 != 0 {
            return "?".into();
        }
        value = value << 7 | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (value / 40).min(2);
                numbers.extend([first, value - first * 40]);
            } else {
                numbers.push(value);
            }
            value = 0;
        }
    }
    if numbers.is_empty() {
        return "?".into();
    }
    numbers.iter().map(u128::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_encoding() {
        for good in
            [&[0x30, 0x00][..], &[0x02, 0x01, 0x00], &[0x02, 0x02, 0x00, 0x80], &[0x01, 0x01, 0xff], &[0x05, 0x00]]
        {
            assert_eq!(check(good), Ok(()), "{good:02x?}");
        }
        for (bad, what) in [
            (&[0x30, 0x80, 0x00, 0x00][..], "indefinite"),
            (&[0x30, 0x81, 0x00], "longer than needed"),
            (&[0x30, 0x82, 0x00, 0x01, 0x05], "longer than needed"),
            (&[0x02, 0x02, 0x00, 0x01], "longer than needed"),
            (&[0x02, 0x02, 0xff, 0x80], "longer than needed"),
            (&[0x02, 0x00], "without content"),
            (&[0x01, 0x01, 0x01], "BOOLEAN"),
            (&[0x03, 0x02, 0x01, 0x01], "unused bits"),
            (&[0x05, 0x01, 0x00], "NULL"),
            (&[0x06, 0x02, 0x80, 0x01], "OBJECT IDENTIFIER"),
            (&[0x06, 0x01, 0x81], "ends too soon"),
            (&[0x24, 0x03, 0x04, 0x01, 0x00], "in pieces"),
            (&[0x10, 0x00], "constructed bit"),
            (&[0x30, 0x00, 0x00], "after the end"),
            (&[0x30, 0x05, 0x00], "longer than the data"),
            (&[0x1f, 0x81, 0x01, 0x00], "tag number"),
            (&[0x30, 0x85, 0, 0, 0, 0, 1], "four bytes"),
            (&[0x17, 0x01, 0x5a], "UTCTime"),
            (&[], "ends where"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(what), "{bad:02x?}: {error}");
        }
        let mut deep = vec![0x30, 0x00];
        for _ in 0..40 {
            deep = [&[0x30, u8::try_from(deep.len()).unwrap()], &deep[..]].concat();
        }
        assert!(check(&deep).unwrap_err().to_string().contains("nesting"));
    }

    #[test]
    fn object_identifiers_are_dotted() {
        assert_eq!(oid_text(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]), "1.2.840.113549");
        assert_eq!(oid_text(&[0x55, 0x1d, 0x0f]), "2.5.29.15");
        assert_eq!(oid_text(&[0x88, 0x37]), "2.999");
        assert_eq!(oid_text(&[]), "?");
        assert_eq!(oid_text(&[0xff; 64]), "?");
    }
}
