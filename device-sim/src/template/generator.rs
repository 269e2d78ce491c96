//! Values that change from message to message: pure, and the same for the same seed, device and message.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use super::csv::Table;
use crate::dice::Dice;

/// How a value comes about.
#[derive(Debug, Clone)]
pub enum Generator {
    /// `start`, then `step` more with each message.
    Counter {
        /// The first value.
        start: i64,
        /// What each message adds.
        step: i64,
    },
    /// Each value at most `step` from the one before, and turned back at the bounds.
    RandomWalk {
        /// The first value.
        start: f64,
        /// The longest step.
        step: f64,
        /// The lowest value.
        min: f64,
        /// The highest value.
        max: f64,
        /// Digits after the point.
        decimals: usize,
    },
    /// A sine wave over the device's time, with noise on it.
    Sine {
        /// The middle.
        mean: f64,
        /// From the middle to the top.
        amplitude: f64,
        /// The length of a wave.
        period: Duration,
        /// The most that noise adds or takes away.
        noise: f64,
        /// Digits after the point.
        decimals: usize,
    },
    /// Anything between two bounds.
    Uniform {
        /// The lowest value.
        min: f64,
        /// The highest value.
        max: f64,
        /// Digits after the point.
        decimals: usize,
    },
    /// One of some texts.
    Choice(Vec<String>),
    /// The rows of a table in order: one column's cells, or whole rows as JSON objects.
    Replay {
        /// The table, which has rows.
        table: Arc<Table>,
        /// The position of the column; without one the whole row.
        column: Option<usize>,
        /// Whether it begins again after the last row; otherwise the device has nothing more to say.
        again: bool,
    },
}

/// What a generator made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number, or a JSON object: goes in as it is.
    Plain(String),
    /// A text, of which a JSON body escapes what it must.
    Text(String),
}

/// A generator at work for one device.
#[derive(Debug, Clone)]
pub struct Running {
    dice: Dice,
    walked: Option<f64>,
}

impl Generator {
    /// Begins for the device and value called `name`.
    pub(super) fn start(&self, seed: u64, name: &str) -> Running {
        Running { dice: Dice::new(seed, name), walked: None }
    }

    /// The value of message `sequence`, which is `elapsed` into the device's life; `None` when there is no more. Messages
    /// are asked for in order.
    pub(super) fn next(&self, running: &mut Running, sequence: u64, elapsed: Duration) -> Option<Value> {
        let dice = &mut running.dice;
        let plain = |number: f64, decimals: usize| Value::Plain(format!("{number:.decimals$}"));
        Some(match self {
            Self::Counter { start, step } => {
                let steps = i64::try_from(sequence).unwrap_or(i64::MAX);
                Value::Plain(start.saturating_add(step.saturating_mul(steps)).to_string())
            }
            Self::RandomWalk { start, step, min, max, decimals } => {
                let next = match running.walked {
                    None => *start,
                    Some(last) => (last + (dice.unit() * 2.0 - 1.0) * step).clamp(*min, *max),
                };
                running.walked = Some(next);
                plain(next, *decimals)
            }
            Self::Sine { mean, amplitude, period, noise, decimals } => {
                let turns = elapsed.as_secs_f64() / period.as_secs_f64().max(1e-9);
                plain(mean + amplitude * (turns * TAU).sin() + (dice.unit() * 2.0 - 1.0) * noise, *decimals)
            }
            Self::Uniform { min, max, decimals } => plain(min + dice.unit() * (max - min), *decimals),
            Self::Choice(texts) => {
                let bound = u32::try_from(texts.len()).unwrap_or(u32::MAX).max(1);
                Value::Text(texts.get(usize::try_from(dice.below(bound)).ok()?)?.clone())
            }
            Self::Replay { table, column, again } => {
                let sequence = usize::try_from(sequence).ok()?;
                let at = if *again { sequence.checked_rem(table.rows.len())? } else { sequence };
                let row = table.rows.get(at)?;
                match column {
                    Some(column) => cell(row.get(*column)?),
                    None => Value::Plain(object(&table.columns, row)),
                }
            }
        })
    }
}

/// A cell is a number if JSON would take it for one.
fn cell(text: &str) -> Value {
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(_) => Value::Plain(text.to_owned()),
        Err(_) => Value::Text(text.to_owned()),
    }
}

fn object(columns: &[String], row: &[String]) -> String {
    let member = |(name, text): (&String, &String)| {
        let value = match cell(text) {
            Value::Plain(number) => number,
            Value::Text(text) => serde_json::Value::from(text).to_string(),
        };
        format!("{}:{value}", serde_json::Value::from(name.as_str()))
    };
    let members: Vec<_> = columns.iter().zip(row).map(member).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(generator: &Generator, count: u64) -> Vec<String> {
        let mut running = generator.start(7, "dev-1/x");
        let values = (0..count).map_while(|n| generator.next(&mut running, n, Duration::from_secs(n)));
        let text = |value| match value {
            Value::Plain(text) => text,
            Value::Text(text) => format!("'{text}'"),
        };
        values.map(text).collect()
    }

    #[test]
    fn what_chance_has_no_part_in_is_exact() {
        let table = Arc::new(Table::parse("speed,gear\n50,low\n60.5,\"hi\"\"gh\"\n").unwrap());
        let replay = |column, again| Generator::Replay { table: Arc::clone(&table), column, again };
        let quarter = Duration::from_secs(4);
        for (generator, expected) in [
            (Generator::Counter { start: 5, step: -2 }, vec!["5", "3", "1", "-1", "-3"]),
            (
                Generator::Sine { mean: 10.0, amplitude: 2.0, period: quarter, noise: 0.0, decimals: 1 },
                vec!["10.0", "12.0", "10.0", "8.0", "10.0"],
            ),
            (replay(Some(0), true), vec!["50", "60.5", "50", "60.5", "50"]),
            (replay(Some(1), false), vec!["'low'", "'hi\"gh'"]),
            (replay(None, false), vec![r#"{"speed":50,"gear":"low"}"#, r#"{"speed":60.5,"gear":"hi\"gh"}"#]),
            (Generator::Choice(vec!["on".to_owned()]), vec!["'on'"; 5]),
            (Generator::Uniform { min: 3.0, max: 3.0, decimals: 0 }, vec!["3"; 5]),
        ] {
            assert_eq!(texts(&generator, 5), expected, "{generator:?}");
        }
    }

    #[test]
    fn chance_stays_within_bounds_and_is_the_same_again() {
        let walk = Generator::RandomWalk { start: 20.0, step: 3.0, min: 15.0, max: 25.0, decimals: 3 };
        let uniform = Generator::Uniform { min: 15.0, max: 25.0, decimals: 3 };
        let sine =
            Generator::Sine { mean: 20.0, amplitude: 3.0, period: Duration::from_secs(60), noise: 2.0, decimals: 3 };
        for generator in [walk, uniform, sine] {
            let values = texts(&generator, 500);
            assert_eq!(values, texts(&generator, 500));
            let numbers: Vec<f64> = values.iter().map(|text| text.parse().unwrap()).collect();
            assert!(numbers.iter().all(|number| (15.0..=25.0).contains(number)), "{generator:?}");
            let different = numbers.windows(2).filter(|pair| (pair[0] - pair[1]).abs() > 0.0).count();
            assert!(different > 400, "{generator:?}");
        }
        let walk = Generator::RandomWalk { start: 0.0, step: 1.0, min: -9.0, max: 9.0, decimals: 6 };
        let numbers: Vec<f64> = texts(&walk, 500).iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| (pair[0] - pair[1]).abs() <= 1.000_001));
    }
}
