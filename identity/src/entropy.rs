//! Randomness as an argument: a command carries one seed, and whatever its decision needs comes from it in order. A
//! replayed decision is then the same decision.

use ring::digest;

/// A source of unpredictable values that was seeded from outside.
#[derive(Clone)]
pub struct Entropy {
    seed: [u8; 32],
    drawn: u64,
}

impl Entropy {
    /// Starts from a seed that must come from the system's random generator.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next 32 bytes.
    pub fn draw(&mut self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"unicity entropy 1");
        context.update(&self.seed);
        context.update(&self.drawn.to_be_bytes());
        self.drawn += 1;
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    /// The next value as an etag.
    pub fn etag(&mut self) -> crate::ETag {
        let bytes = self.draw();
        let mut out = [0; 16];
        out.copy_from_slice(&bytes[..16]);
        crate::ETag(out)
    }

    /// The next value as a generation id of at most 18 decimal digits.
    pub fn generation(&mut self) -> crate::GenerationId {
        let bytes = self.draw();
        let mut out = [0; 8];
        out.copy_from_slice(&bytes[..8]);
        // 18 digits are what the real service shows; the leading one is never 0, so that text and number sort alike.
        crate::GenerationId(u64::from_be_bytes(out) % 900_000_000_000_000_000 + 100_000_000_000_000_000)
    }

    /// The next value in the form of an operation id, `5.` and 16, then a UUID's shape of hexadecimal digits.
    pub fn operation_id(&mut self) -> crate::OperationId {
        let bytes = self.draw();
        let hex: String = bytes[..24].iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "5.{}.{}-{}-{}-{}-{}",
            &hex[..16],
            &hex[16..24],
            &hex[24..28],
            &hex[28..32],
            &hex[32..36],
            &hex[36..48]
        );
        text.parse().expect("hexadecimal digits, dots and dashes are what an operation id allows")
    }

    /// The next value as a tracking id in a UUID's shape.
    pub fn tracking_id(&mut self) -> crate::TrackingId {
        self.etag().to_string().parse().expect("hexadecimal digits and dashes are what a tracking id allows")
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}
