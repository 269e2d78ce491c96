//! The arguments of a benchmark.

use std::str::FromStr;

use crate::fail::Fail;

/// Options with values, and flags; anything else is refused.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    values: Vec<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Takes `args` apart.
    ///
    /// # Errors
    /// [`Fail::Usage`] for what is in neither list, and for a missing value.
    pub(crate) fn parse(args: &'a [String], with_value: &[&str], flags: &[&str]) -> Result<Self, Fail> {
        let mut options = Self { values: Vec::new(), flags: Vec::new() };
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            if flags.contains(&arg) {
                options.flags.push(arg);
            } else if with_value.contains(&arg) {
                let value = args.next().ok_or_else(|| Fail::Usage(format!("`{arg}` needs a value.")))?;
                options.values.push((arg, value));
            } else {
                return Err(Fail::Usage(format!("`{arg}` is not an argument of this benchmark.")));
            }
        }
        Ok(options)
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.values.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| *value)
    }

    /// A number from 1 on.
    ///
    /// # Errors
    /// [`Fail::Usage`] for anything else.
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, Fail> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = u64::from_str(text).ok().filter(|number| *number > 0);
        number.ok_or_else(|| Fail::Usage(format!("`{name} {text}`: a number from 1 on is wanted.")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_taken() {
        let args = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let given = args("--rounds 3 --quick");
        let options = Options::parse(&given, &["--rounds"], &["--quick"]).unwrap();
        assert_eq!((options.number("--rounds", 1).unwrap(), options.number("--seconds", 5).unwrap()), (3, 5));
        assert!(options.has("--quick"));
        for line in ["--rounds", "--else", "x"] {
            let given = args(line);
            assert!(matches!(Options::parse(&given, &["--rounds"], &["--quick"]), Err(Fail::Usage(_))), "{line}");
        }
        let given = args("--rounds 0");
        assert!(Options::parse(&given, &["--rounds"], &[]).unwrap().number("--rounds", 1).is_err());
    }
}
