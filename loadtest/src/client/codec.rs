//! MQTT 3.1.1 packets as bytes, the few that a device needs.

use unicity_device_sim::{Login, SessionEnd, SimError};

/// Largest packet from a server, in bytes.
const PACKET_MAX: usize = 512 * 1024;
/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

fn put_header(out: &mut Vec<u8>, first: u8, mut length: usize) {
    out.push(first);
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

/// A text with its length before it; what is longer than a length can say is cut, which no server takes for valid.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text[..usize::from(length)]);
}

/// CONNECT. An empty user name is none.
pub fn connect(out: &mut Vec<u8>, login: &Login) {
    let user_name = Some(login.user_name.as_bytes()).filter(|name| !name.is_empty());
    let password = login.password.as_deref().map(str::as_bytes);
    let texts = [Some(login.client_id.as_bytes()), user_name, password];
    let length = 10 + texts.iter().flatten().map(|text| 2 + text.len()).sum::<usize>();
    put_header(out, 0x10, length);
    let flags =
        u8::from(user_name.is_some()) << 7 | u8::from(password.is_some()) << 6 | u8::from(login.clean_session) << 1;
    out.extend_from_slice(b"\0\x04MQTT\x04");
    out.push(flags);
    let keep_alive = u16::try_from(login.keep_alive.as_secs()).unwrap_or(u16::MAX);
    out.extend_from_slice(&keep_alive.to_be_bytes());
    for text in texts.into_iter().flatten() {
        put_text(out, text);
    }
}

/// SUBSCRIBE to one filter at QoS 1.
pub fn subscribe(out: &mut Vec<u8>, id: u16, filter: &str) {
    put_header(out, 0x82, 2 + 2 + filter.len() + 1);
    out.extend_from_slice(&id.to_be_bytes());
    put_text(out, filter.as_bytes());
    out.push(1);
}

/// PUBACK.
pub fn puback(out: &mut Vec<u8>, id: u16) {
    out.extend_from_slice(&[0x40, 2]);
    out.extend_from_slice(&id.to_be_bytes());
}

/// A PUBLISH that is sent again and again; only its packet id changes.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    id_at: Option<usize>,
}

impl Template {
    /// At QoS 1.
    #[must_use]
    pub fn acknowledged(topic: &str, body: &[u8]) -> Self {
        Self::new(topic, body, true)
    }

    /// At QoS 0.
    #[must_use]
    pub fn unacknowledged(topic: &str, body: &[u8]) -> Self {
        Self::new(topic, body, false)
    }

    fn new(topic: &str, body: &[u8], acknowledged: bool) -> Self {
        let mut bytes = Vec::with_capacity(topic.len() + body.len() + 9);
        let length = 2 + topic.len() + if acknowledged { 2 } else { 0 } + body.len();
        put_header(&mut bytes, if acknowledged { 0x32 } else { 0x30 }, length);
        put_text(&mut bytes, topic.as_bytes());
        let id_at = acknowledged.then_some(bytes.len());
        if acknowledged {
            bytes.extend_from_slice(&[0, 0]);
        }
        bytes.extend_from_slice(body);
        Self { bytes, id_at }
    }

    /// Appends it with this packet id, which QoS 0 leaves out.
    pub fn append(&self, out: &mut Vec<u8>, id: u16) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.id_at {
            out[start + at..start + at + 2].copy_from_slice(&id.to_be_bytes());
        }
    }

    /// Its length on the wire.
    #[must_use]
    pub fn wire_length(&self) -> usize {
        self.bytes.len()
    }
}

/// A packet from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNACK with its return code.
    ConnAck(u8),
    /// SUBACK: whether all was granted.
    SubAck(bool),
    /// PUBACK of this packet id.
    PubAck(u16),
    /// PUBLISH.
    Publish {
        /// Its topic.
        topic: &'a str,
        /// Its packet id, unless it is QoS 0.
        id: Option<u16>,
        /// Its payload.
        body: &'a [u8],
    },
    /// PINGRESP.
    PingResp,
}

/// The packet at the beginning of `bytes` and its length; `None` if it is not all there yet.
///
/// # Errors
/// [`SimError::Ended`] if what is there is no packet that a server may send.
pub fn read(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, SimError> {
    // What comes most.
    if let [0x40, 2, high, low, ..] = *bytes {
        return Ok(Some((Packet::PubAck(u16::from_be_bytes([high, low])), 4)));
    }
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    let mut header = 1;
    loop {
        let Some(&byte) = rest.get(header - 1) else {
            return if header > 4 { Err(broken("a length of more than four bytes")) } else { Ok(None) };
        };
        if header > 4 {
            return Err(broken("a length of more than four bytes"));
        }
        length |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > PACKET_MAX {
        return Err(broken("a packet of more than 512 KiB"));
    }
    let Some(body) = bytes.get(header..header + length) else { return Ok(None) };
    let packet = match (first >> 4, body) {
        (2, &[_, code]) => Packet::ConnAck(code),
        (9, &[_, _, ref codes @ ..]) if !codes.is_empty() => Packet::SubAck(codes.iter().all(|code| *code < 0x80)),
        (4, &[high, low]) => Packet::PubAck(u16::from_be_bytes([high, low])),
        (3, body) => publish(first, body)?,
        (13, []) => Packet::PingResp,
        _ => return Err(broken("a packet that no server sends")),
    };
    Ok(Some((packet, header + length)))
}

fn publish(first: u8, body: &[u8]) -> Result<Packet<'_>, SimError> {
    let short = || broken("a PUBLISH that is too short");
    let (length, rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(short)?;
    let topic = std::str::from_utf8(topic).map_err(|_| broken("a topic that is not UTF-8"))?;
    if first & 0x06 == 0 {
        return Ok(Packet::Publish { topic, id: None, body: rest });
    }
    let (id, body) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    Ok(Packet::Publish { topic, id: Some(u16::from_be_bytes(*id)), body })
}

fn broken(what: &str) -> SimError {
    SimError::Ended(SessionEnd::Broken(format!("the server sent {what}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_connect_says_who_and_how() {
        let login = Login {
            client_id: "d".to_owned(),
            user_name: "u".to_owned(),
            password: Some("pw".to_owned()),
            keep_alive: Duration::from_secs(60),
            clean_session: true,
        };
        let mut out = Vec::new();
        connect(&mut out, &login);
        assert_eq!(out, b"\x10\x14\0\x04MQTT\x04\xc2\0\x3c\0\x01d\0\x01u\0\x02pw");
        out.clear();
        connect(&mut out, &Login { user_name: String::new(), password: None, ..login });
        assert_eq!(out, b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01d");
    }

    #[test]
    fn a_template_differs_only_in_its_packet_id() {
        let template = Template::acknowledged("t/1", &[7; 200]);
        let mut out = Vec::new();
        template.append(&mut out, 0x0102);
        template.append(&mut out, 0x0304);
        let (one, two) = out.split_at(template.wire_length());
        assert_eq!(&one[..10], b"\x32\xcf\x01\0\x03t/1\x01\x02");
        assert_eq!(&two[8..10], b"\x03\x04");
        assert_eq!(one[10..], two[10..]);
        assert_eq!(read(one).unwrap().unwrap().0, Packet::Publish { topic: "t/1", id: Some(0x0102), body: &[7; 200] });
        let mut out = Vec::new();
        Template::unacknowledged("t", b"x").append(&mut out, 9);
        assert_eq!(out, b"\x30\x04\0\x01tx");
    }

    #[test]
    fn packets_are_read_when_they_are_whole() {
        for (bytes, packet) in [
            (&b"\x20\x02\0\x05"[..], Packet::ConnAck(5)),
            (b"\x90\x03\0\x01\x01", Packet::SubAck(true)),
            (b"\x90\x03\0\x01\x80", Packet::SubAck(false)),
            (b"\x40\x02\x01\x00", Packet::PubAck(256)),
            (b"\xd0\x00", Packet::PingResp),
            (b"\x30\x04\0\x01tx", Packet::Publish { topic: "t", id: None, body: b"x" }),
        ] {
            assert_eq!(read(bytes).unwrap(), Some((packet, bytes.len())));
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]).unwrap(), None, "{packet:?} cut at {end}");
            }
        }
    }

    #[test]
    fn what_no_server_sends_ends_the_session() {
        for bytes in [
            &b"\x10\x00"[..],
            b"\x30\x01\0",
            b"\x32\x03\0\x01t",
            b"\x30\xff\xff\xff\xff\x01",
            b"\x90\x02\0\x01",
            b"\0\0",
        ] {
            assert!(matches!(read(bytes), Err(SimError::Ended(SessionEnd::Broken(_)))), "{bytes:?}");
        }
    }
}
