//! A query over one document.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::ast::{Column, Comparison, Expression, Operator, Path, Query, Select, Step};

/// A value; `None` is undefined.
pub(super) type Datum<'a> = Option<Cow<'a, Value>>;

impl Query {
    /// Whether a document meets the condition.
    #[must_use]
    pub fn takes(&self, document: &Value) -> bool {
        match &self.filter {
            None => true,
            Some(filter) => filter.evaluate(document).as_deref() == Some(&Value::Bool(true)),
        }
    }

    /// What the answer shows of a document. Of a grouped query use [`super::Groups`].
    #[must_use]
    pub fn show(&self, document: Value) -> Value {
        let Select::Items(items) = &self.select else { return document };
        let mut shown = Map::new();
        for item in items {
            if let Column::Value(expression) = &item.what
                && let Some(value) = expression.evaluate(&document)
            {
                shown.insert(item.name.clone(), value.into_owned());
            }
        }
        Value::Object(shown)
    }
}

/// Where a path leads.
pub(super) fn follow<'a>(path: &Path, document: &'a Value) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, step| match step {
        Step::Member(name) => value.get(name),
        Step::Index(index) => value.get(index),
    })
}

pub(super) fn to_number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// A number, whole where it can be; undefined if it is none.
pub(super) fn number<'a>(number: f64) -> Datum<'a> {
    let whole = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    let number = if whole { Some(Number::from(number as i64)) } else { Number::from_f64(number) };
    Some(Cow::Owned(Value::Number(number?)))
}

fn boolean<'a>(value: bool) -> Datum<'a> {
    Some(Cow::Owned(Value::Bool(value)))
}

/// Numbers are equal whatever they are written as.
pub(super) fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => order(one, other) == Some(Ordering::Equal),
        (Value::Array(these), Value::Array(those)) => {
            these.len() == those.len() && these.iter().zip(those).all(|(one, other)| is_equal(one, other))
        }
        (Value::Object(these), Value::Object(those)) => {
            these.len() == those.len()
                && these.iter().all(|(key, one)| those.get(key).is_some_and(|other| is_equal(one, other)))
        }
        _ => one == other,
    }
}

/// Of two numbers, texts or truths; there is no order of anything else.
pub(super) fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

impl Expression {
    pub(super) fn evaluate<'a>(&'a self, document: &'a Value) -> Datum<'a> {
        match self {
            Self::Literal(value) => Some(Cow::Borrowed(value)),
            Self::Path(path) => follow(path, document).map(Cow::Borrowed),
            Self::List(items) => {
                let values: Option<Vec<Value>> =
                    items.iter().map(|item| item.evaluate(document).map(Cow::into_owned)).collect();
                values.map(|values| Cow::Owned(Value::Array(values)))
            }
            Self::Or(all) => junction(all, document, true),
            Self::And(all) => junction(all, document, false),
            Self::Not(inner) => boolean(!inner.evaluate(document)?.as_bool()?),
            Self::Negative(inner) => number(-to_number(&*inner.evaluate(document)?)?),
            Self::Compare(one, comparison, other) => {
                compare(&*one.evaluate(document)?, *comparison, &*other.evaluate(document)?)
            }
            Self::In { value, list, negated } => {
                let value = value.evaluate(document)?;
                let found = list.iter().any(|item| item.evaluate(document).is_some_and(|item| is_equal(&value, &item)));
                boolean(found != *negated)
            }
            Self::Arithmetic(first, rest) => {
                let first = to_number(&*first.evaluate(document)?)?;
                let result = rest.iter().try_fold(first, |left, (operator, right)| {
                    let right = to_number(&*right.evaluate(document)?)?;
                    Some(match operator {
                        Operator::Add => left + right,
                        Operator::Subtract => left - right,
                        Operator::Multiply => left * right,
                        Operator::Divide => left / right,
                        Operator::Remainder => left % right,
                    })
                });
                // A division by zero is undefined.
                number(result?)
            }
            Self::Call(function, args) => {
                let args: Vec<_> = args.iter().map(|arg| arg.evaluate(document)).collect();
                function.apply(&args)
            }
        }
    }
}

/// OR ends at the first that is true, AND at the first that is not; a part that is undefined leaves the whole so unless that comes.
fn junction<'a>(all: &'a [Expression], document: &'a Value, decisive: bool) -> Datum<'a> {
    let mut undefined = false;
    for one in all {
        match one.evaluate(document).and_then(|value| value.as_bool()) {
            Some(value) if value == decisive => return boolean(decisive),
            Some(_) => {}
            None => undefined = true,
        }
    }
    if undefined { None } else { boolean(!decisive) }
}

fn compare<'a>(one: &Value, comparison: Comparison, other: &Value) -> Datum<'a> {
    let is = |test: fn(Ordering) -> bool| order(one, other).and_then(|order| boolean(test(order)));
    match comparison {
        Comparison::Equal => boolean(is_equal(one, other)),
        Comparison::NotEqual => boolean(!is_equal(one, other)),
        Comparison::Less => is(Ordering::is_lt),
        Comparison::LessOrEqual => is(Ordering::is_le),
        Comparison::Greater => is(Ordering::is_gt),
        Comparison::GreaterOrEqual => is(Ordering::is_ge),
    }
}
