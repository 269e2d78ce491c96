//! Numbers as people read them: three digits that count, thousands apart, a unit that fits.

use crate::Unit;

/// Three significant digits, and all digits before the point: `0.0123`, `1.23`, `12.3`, `1,235`.
pub(crate) fn short(value: f64) -> String {
    // What rounds up to one digit more is written as such: 9.996 is 10.0.
    let decimals = |value: f64| match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    let rounded: f64 = format!("{value:.*}", decimals(value)).parse().unwrap_or(value);
    thousands(&format!("{value:.*}", decimals(rounded).min(decimals(value))))
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    thousands(&value.to_string())
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut written = sign.to_owned();
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            written.push(',');
        }
        written.push(digit);
    }
    if let Some(fraction) = fraction {
        written.push('.');
        written.push_str(fraction);
    }
    written
}

/// Microseconds in milliseconds, without the unit and no finer than they were.
#[expect(clippy::cast_precision_loss, reason = "times of a run are far below 2^53 microseconds")]
pub(crate) fn millis(micros: u64) -> String {
    if micros < 100 { format!("{:.3}", micros as f64 / 1000.0) } else { short(micros as f64 / 1000.0) }
}

/// A time with its unit.
pub(crate) fn time(micros: f64) -> String {
    match micros.abs() {
        size if size >= 1e6 => format!("{} s", short(micros / 1e6)),
        size if size >= 1e3 => format!("{} ms", short(micros / 1e3)),
        // Measured times are whole microseconds; means need not be.
        _ if micros.fract() == 0.0 => format!("{micros:.0} µs"),
        _ => format!("{} µs", short(micros)),
    }
}

/// A size with its unit.
pub(crate) fn bytes(bytes: f64) -> String {
    let (unit, name) = byte_unit(bytes);
    format!("{} {name}", short(bytes / unit))
}

/// The binary unit that fits a size.
pub(crate) fn byte_unit(bytes: f64) -> (f64, &'static str) {
    const KIB: f64 = 1024.0;
    match bytes.abs() {
        size if size >= KIB * KIB * KIB => (KIB * KIB * KIB, "GiB"),
        size if size >= KIB * KIB => (KIB * KIB, "MiB"),
        size if size >= KIB => (KIB, "KiB"),
        _ => (1.0, "B"),
    }
}

/// A figure with its unit.
pub(crate) fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => thousands(&format!("{value:.0}")),
        Unit::Number => short(value),
        Unit::Ratio => format!("{} %", short(value * 100.0)),
        Unit::Seconds => format!("{} s", short(value)),
        Unit::Micros => time(value),
        Unit::Bytes => bytes(value),
    }
}

/// `1 core`, `2 cores`.
pub(crate) fn cores(cores: usize) -> String {
    if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        let table = [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.5, "0.500"),
            (0.9996, "1.00"),
            (1.0, "1.00"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (999.6, "1,000"),
            (1_234_567.8, "1,234,568"),
            (-1234.5, "-1,234"),
            (-0.25, "-0.250"),
        ];
        for (value, expected) in table {
            assert_eq!(short(value), expected, "{value}");
        }
        assert_eq!([0, 999, 1000, 1_000_000].map(count), ["0", "999", "1,000", "1,000,000"]);
    }

    #[test]
    fn a_unit_fits() {
        assert_eq!(
            [0.0, 90.0, 90.25, 1500.0, 2_500_000.0].map(time),
            ["0 µs", "90 µs", "90.2 µs", "1.50 ms", "2.50 s"]
        );
        assert_eq!([0, 45, 450, 4500, 1_234_567].map(millis), ["0.000", "0.045", "0.450", "4.50", "1,235"]);
        assert_eq!([-2048.0, 512.0, 16_311.0, 3e9].map(bytes), ["-2.00 KiB", "512 B", "15.9 KiB", "2.79 GiB"]);
        assert_eq!(figure(0.0123, Unit::Ratio), "1.23 %");
        assert_eq!(figure(18_000.0, Unit::Count), "18,000");
    }
}
