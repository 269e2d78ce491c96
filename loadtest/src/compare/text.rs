//! A comparison on a terminal.

use std::fmt;

use super::{Compared, Comparison, Judgement, Spread};
use crate::view::numbers::{figure, short};
use crate::view::table::{aligned, harmless};
use crate::{Figure, Unit};

/// A table of the figures that can be judged, and those that one side lacks; JSON has all of them.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reports = |count: usize| if count == 1 { "1 report".to_owned() } else { format!("{count} reports") };
        writeln!(
            f,
            "{}: A {}, B {}; changes below {} % are noise, and so are ranges that overlap\n",
            harmless(&self.workload),
            reports(self.a_reports),
            reports(self.b_reports),
            short(self.noise * 100.0)
        )?;
        let mut rows = vec![["figure", "A", "B", "change", ""].map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().filter(|figure| figure.judgement != Judgement::NotJudged).map(row));
        f.write_str(&aligned(&rows))?;
        let count = |wanted: Judgement| self.figures.iter().filter(|figure| figure.judgement == wanted).count();
        writeln!(
            f,
            "\n{} better, {} worse, {} within noise",
            count(Judgement::Better),
            count(Judgement::Worse),
            count(Judgement::WithinNoise)
        )?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {}", harmless(warning)))
    }
}

fn row(compared: &Compared) -> Vec<String> {
    let unit = compared.figure.parse::<Figure>().map_or(Unit::Number, |figure| figure.unit());
    let side = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| value(spread, unit));
    let change = match compared.change {
        Some(change) => format!("{:+.1} %", change * 100.0),
        None => "-".to_owned(),
    };
    let word = match compared.judgement {
        Judgement::Better => "better",
        Judgement::Worse => "WORSE",
        Judgement::WithinNoise => "noise",
        Judgement::NotJudged => "",
        Judgement::TooFewSamples => "too few samples",
        Judgement::OneSided => "one side only",
    };
    vec![compared.figure.clone(), side(compared.a), side(compared.b), change, word.to_owned()]
}

fn value(spread: Spread, unit: Unit) -> String {
    let median = figure(spread.median, unit);
    if spread.min < spread.max {
        format!("{median} ({} to {})", figure(spread.min, unit), figure(spread.max, unit))
    } else {
        median
    }
}

#[cfg(test)]
mod tests {
    use crate::{compare, sample};

    #[test]
    fn a_table_says_what_changed() {
        let (a, mut b, mut c) = (sample::report(), sample::report(), sample::report());
        b.completed_per_second = 1200.0;
        c.completed_per_second = 1300.0;
        c.failed = 0;
        let text = compare::compare(&[a], &[b, c], 0.05).unwrap().to_string();
        assert!(text.starts_with("zero-touch: A 1 report, B 2 reports; changes below 5.00 % are noise"), "{text}");
        let line = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("completed_per_second"), "completed_per_second 900 1,250 (1,200 to 1,300) +38.9 % better");
        assert_eq!(line("failed "), "failed 8 4 (0 to 8) -50.0 % noise");
        assert!(
            line("server.bytes_per_connection")
                .starts_with("server.bytes_per_connection 15.9 KiB 15.9 KiB +0.0 % noise")
        );
        assert!(!text.contains("total.count") && text.contains("\n1 better, 0 worse, "));
        assert!(text.contains("warning: B (2 of 2) warned: too few samples"));
    }
}
