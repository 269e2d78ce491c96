//! Functions of the query language.

use std::borrow::Cow;

use serde_json::Value;

use super::evaluate::{Datum, number, to_number};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    IsDefined,
    IsNull,
    IsString,
    IsNumber,
    IsBool,
    IsObject,
    IsArray,
    IsPrimitive,
    StartsWith,
    EndsWith,
    Contains,
    IndexOf,
    Length,
    Lower,
    Upper,
    Substring,
    Concat,
    Abs,
    Exp,
    Power,
    Square,
    Sqrt,
    Ceiling,
    Floor,
    Sign,
}

use Function::{
    Abs, Ceiling, Concat, Contains, EndsWith, Exp, Floor, IndexOf, IsArray, IsBool, IsDefined, IsNull, IsNumber,
    IsObject, IsPrimitive, IsString, Length, Lower, Power, Sign, Sqrt, Square, StartsWith, Substring, Upper,
};

/// Name, function, the least and the most arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 25] = [
    ("is_defined", IsDefined, 1, 1),
    ("is_null", IsNull, 1, 1),
    ("is_string", IsString, 1, 1),
    ("is_number", IsNumber, 1, 1),
    ("is_bool", IsBool, 1, 1),
    ("is_object", IsObject, 1, 1),
    ("is_array", IsArray, 1, 1),
    ("is_primitive", IsPrimitive, 1, 1),
    ("starts_with", StartsWith, 2, 2),
    ("ends_with", EndsWith, 2, 2),
    ("contains", Contains, 2, 2),
    ("index_of", IndexOf, 2, 2),
    ("length", Length, 1, 1),
    ("lower", Lower, 1, 1),
    ("upper", Upper, 1, 1),
    ("substring", Substring, 2, 3),
    ("concat", Concat, 1, 16),
    ("abs", Abs, 1, 1),
    ("exp", Exp, 1, 1),
    ("power", Power, 2, 2),
    ("square", Square, 1, 1),
    ("sqrt", Sqrt, 1, 1),
    ("ceiling", Ceiling, 1, 1),
    ("floor", Floor, 1, 1),
    ("sign", Sign, 1, 1),
];

/// Bytes of a text that a function makes.
const TEXT_MAX: usize = 64 * 1024;

impl Function {
    /// By name, in any case, with or without its underscores; with the least and the most arguments.
    pub(super) fn named(name: &str) -> Option<(Self, usize, usize)> {
        let bare = |text: &str| text.replace('_', "").to_ascii_lowercase();
        let wanted = bare(name);
        let found = FUNCTIONS.iter().find(|(known, ..)| bare(known) == wanted)?;
        Some((found.1, found.2, found.3))
    }

    /// All names, for errors.
    pub(super) fn names() -> String {
        FUNCTIONS.map(|(name, ..)| name).join(", ")
    }

    /// The value for these arguments, as many as it takes; `None` is undefined.
    pub(super) fn apply<'a>(self, args: &[Datum<'a>]) -> Datum<'a> {
        let arg = |n: usize| args.get(n).and_then(Option::as_deref);
        let text = |n: usize| arg(n).and_then(Value::as_str);
        let num = |n: usize| arg(n).and_then(to_number);
        let is = |test: fn(&Value) -> bool| owned(Value::Bool(arg(0).is_some_and(test)));
        match self {
            IsDefined => owned(Value::Bool(arg(0).is_some())),
            IsNull => is(Value::is_null),
            IsString => is(Value::is_string),
            IsNumber => is(Value::is_number),
            IsBool => is(Value::is_boolean),
            IsObject => is(Value::is_object),
            IsArray => is(Value::is_array),
            IsPrimitive => is(|value| !value.is_object() && !value.is_array()),
            StartsWith => owned(Value::Bool(text(0)?.starts_with(text(1)?))),
            EndsWith => owned(Value::Bool(text(0)?.ends_with(text(1)?))),
            Contains => owned(Value::Bool(match arg(0)? {
                Value::Array(items) => items.iter().any(|item| Some(item) == arg(1)),
                _ => text(0)?.contains(text(1)?),
            })),
            IndexOf => {
                let (all, part) = (text(0)?, text(1)?);
                number(all.find(part).map_or(-1.0, |at| all[..at].chars().count() as f64))
            }
            Length => number(match arg(0)? {
                Value::Array(items) => items.len() as f64,
                _ => text(0)?.chars().count() as f64,
            }),
            Lower => made(text(0)?.to_lowercase()),
            Upper => made(text(0)?.to_uppercase()),
            Substring => {
                let start = index(num(1)?)?;
                let length = if args.len() > 2 { index(num(2)?)? } else { usize::MAX };
                made(text(0)?.chars().skip(start).take(length).collect())
            }
            Concat => {
                let mut out = String::new();
                for n in 0..args.len() {
                    out.push_str(text(n)?);
                }
                made(out)
            }
            Abs => number(num(0)?.abs()),
            Exp => number(num(0)?.exp()),
            Power => number(num(0)?.powf(num(1)?)),
            Square => number(num(0)? * num(0)?),
            Sqrt => number(num(0)?.sqrt()),
            Ceiling => number(num(0)?.ceil()),
            Floor => number(num(0)?.floor()),
            Sign => number(match num(0)? {
                n if n > 0.0 => 1.0,
                n if n < 0.0 => -1.0,
                _ => 0.0,
            }),
        }
    }
}

fn owned<'a>(value: Value) -> Datum<'a> {
    Some(Cow::Owned(value))
}

fn made<'a>(text: String) -> Datum<'a> {
    (text.len() <= TEXT_MAX).then_some(Cow::Owned(Value::String(text)))
}

fn index(number: f64) -> Option<usize> {
    (number >= 0.0 && number <= f64::from(u32::MAX)).then_some(number as usize)
}
