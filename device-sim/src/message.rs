//! What devices say.

use std::sync::Arc;

use bytes::Bytes;

use crate::Device;

/// One telemetry message.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The payload.
    pub body: Bytes,
    /// Properties in order; a key that begins with `$.` is a system property (`$.ct` is the content type).
    pub properties: Vec<(String, String)>,
}

/// Makes the `number`th message of a device, counted from 0.
pub type MessageSource = Arc<dyn Fn(&Device, u64) -> Message + Send + Sync>;

/// A small reading in JSON; the same device and number give the same one.
pub(crate) fn weather_station() -> MessageSource {
    Arc::new(|device, number| {
        let id = device.registration_id.as_str();
        let place = id.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let tenths = 150 + place % 100 + (number * 7) % 23;
        let body = format!(
            r#"{{"device":"{id}","sequence":{number},"temperature":{}.{},"humidity":{}}}"#,
            tenths / 10,
            tenths % 10,
            30 + (place / 7 + number) % 50
        );
        Message {
            body: Bytes::from(body),
            properties: vec![
                ("$.ct".to_owned(), "application/json".to_owned()),
                ("$.ce".to_owned(), "utf-8".to_owned()),
                ("sequence".to_owned(), number.to_string()),
            ],
        }
    })
}
