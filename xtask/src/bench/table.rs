//! The table that a benchmark ends with.

use serde_json::{Value, json};

use super::stats::Spread;

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    PerSecond,
    Percent,
    Times,
    Micros,
    Millis,
    KiB,
    Seconds,
    Number,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond if value >= 10_000.0 => format!("{:.1} k/s", value / 1000.0),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Percent => format!("{:.0} %", value * 100.0),
            Self::Times => format!("{value:.2} x"),
            Self::Micros if value < 20.0 => format!("{value:.2} us"),
            Self::Micros => format!("{value:.0} us"),
            Self::Millis => format!("{value:.1} ms"),
            Self::KiB => format!("{:.1} KiB", value / 1024.0),
            Self::Seconds => format!("{value:.2} s"),
            Self::Number => format!("{value:.2}"),
        }
    }
}

/// One line: a figure, with what is asked of it if anything is.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) found: Option<Spread>,
    pub(crate) unit: Unit,
    pub(crate) target: Option<Target>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, found: Option<Spread>, unit: Unit) -> Self {
        Self { what: what.into(), found, unit, target: None }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Whether the median meets the target; none without one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(self.target?.is_met(self.found?.median))
    }

    fn cells(&self) -> [String; 4] {
        let found = self.found.map_or_else(|| "not measured".to_owned(), |found| found.text(|v| self.unit.show(v)));
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(bound)) => format!("at least {}", self.unit.show(bound)),
            Some(Target::AtMost(bound)) => format!("at most {}", self.unit.show(bound)),
        };
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        [self.what.clone(), found, target, verdict.to_owned()]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "median": self.found.map(|found| found.median),
            "least": self.found.map(|found| found.least),
            "most": self.found.map(|found| found.most),
            "text": self.cells()[1],
            "target": self.cells()[2],
            "met": self.is_met(),
        })
    }
}

/// The rows as a Markdown table whose columns line up, so that it is read on a terminal and quoted as it is.
pub(crate) fn text(rows: &[Row]) -> String {
    let head = ["what", "median (range)", "target", ""].map(str::to_owned);
    let cells: Vec<[String; 4]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |row: &[String; 4]| {
        let padded: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let rule = format!("| {} |\n", widths.map(|width| "-".repeat(width)).join(" | "));
    let mut lines = cells.iter().map(line);
    let head = lines.next().unwrap_or_default();
    head + &rule + &lines.collect::<String>()
}

/// The rows as JSON.
pub(crate) fn json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: Option<Target>) -> Row {
        Row { what: "rate".into(), found: Spread::of(&[0.6, 0.7, 0.8]), unit: Unit::Percent, target }
    }

    #[test]
    fn the_median_decides_and_the_bound_itself_is_met() {
        assert_eq!(row(None).is_met(), None);
        assert_eq!(row(Some(Target::AtLeast(0.7))).is_met(), Some(true));
        assert_eq!(row(Some(Target::AtLeast(0.71))).is_met(), Some(false));
        assert_eq!(row(Some(Target::AtMost(0.7))).is_met(), Some(true));
        assert_eq!(Row { found: None, ..row(Some(Target::AtMost(0.7))) }.is_met(), None);
    }

    #[test]
    fn it_is_a_table_that_lines_up() {
        let rows = [row(Some(Target::AtLeast(0.65))), Row { found: None, ..row(None) }];
        let expected = "\
            | what | median (range)      | target        |     |\n\
            | ---- | ------------------- | ------------- | --- |\n\
            | rate | 70 % (60 % to 80 %) | at least 65 % | met |\n\
            | rate | not measured        |               |     |\n";
        assert_eq!(text(&rows), expected);
        assert_eq!(json(&rows)[0]["met"], true);
        assert!(json(&rows)[1]["median"].is_null());
    }

    #[test]
    fn numbers_have_their_units() {
        assert_eq!(Unit::PerSecond.show(123_456.0), "123.5 k/s");
        assert_eq!(Unit::PerSecond.show(2345.4), "2345/s");
        assert_eq!(Unit::KiB.show(16.0 * 1024.0), "16.0 KiB");
        assert_eq!(Unit::Micros.show(3.456), "3.46 us");
        assert_eq!(Unit::Micros.show(345.6), "346 us");
    }
}
