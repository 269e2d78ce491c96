//! MQTT 3.1.1 packets: bytes in, [`Packet`]s out, and back. The one place that names `rumqttd`.
//!
//! rumqttd's `V4` reads and writes most packets; what it gets wrong or does not check is done here, on the bytes, before
//! they are handed on (`check`) or instead (PUBLISH and CONNECT are written here: it keeps the fields of the one to
//! itself, and cannot say *empty password* in the other). So an [`Ok`] means the packet obeys the standard, but for the
//! leniencies that real device SDKs need, which are listed at [`Decoder::decode`].
//!
//! Not here: what a packet may do in a session's state (a first packet that is no CONNECT, a client id that is empty).

mod check;
mod decode;
mod encode;
mod error;
mod frame;
mod packet;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Limits};
pub use encode::{EncodeError, encode};
pub use error::DecodeError;
pub use packet::{
    ConnAck, Connect, ConnectCode, InvalidTopic, Packet, PacketId, Password, Publish, QoS, SubscribeCode, Topic, Will,
};
