//! A query after parsing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::function::Function;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Where from.
    pub source: Source,
    /// At most so many rows in all.
    pub top: Option<u64>,
    pub(super) select: Select,
    pub(super) filter: Option<Expression>,
    pub(super) group_by: Vec<Path>,
}

/// What is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The twins of devices.
    Devices,
    /// The twins of modules.
    Modules,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Select {
    All,
    Items(Vec<Item>),
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) what: Column,
    /// Where it begins, for errors that show later.
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    Value(Expression),
    Aggregate(Aggregate, Option<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Member(String),
    Index(usize),
}

pub(super) type Path = Vec<Step>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Chains of the same rank are lists, so that their length costs no depth.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    Path(Path),
    List(Vec<Expression>),
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Compare(Box<Expression>, Comparison, Box<Expression>),
    In { value: Box<Expression>, list: Vec<Expression>, negated: bool },
    Arithmetic(Box<Expression>, Vec<(Operator, Expression)>),
    Call(Function, Vec<Expression>),
}

impl Query {
    /// Whether `SELECT *` gives whole documents.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.select == Select::All
    }

    /// Whether rows of the answer stand for many documents: all of them have to be gone through for the first one.
    #[must_use]
    pub fn is_grouped(&self) -> bool {
        let aggregates = match &self.select {
            Select::All => false,
            Select::Items(items) => items.iter().any(|item| matches!(item.what, Column::Aggregate(..))),
        };
        aggregates || !self.group_by.is_empty()
    }

    /// The device ids that the condition leaves, where it names them: no others need to be looked at.
    #[must_use]
    pub fn device_ids(&self) -> Option<BTreeSet<&str>> {
        named(self.filter.as_ref()?)
    }
}

fn is_device_id(expression: &Expression) -> bool {
    matches!(expression, Expression::Path(path) if matches!(&path[..], [Step::Member(name)] if name == "deviceId"))
}

fn text(expression: &Expression) -> Option<&str> {
    match expression {
        Expression::Literal(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn named(expression: &Expression) -> Option<BTreeSet<&str>> {
    match expression {
        Expression::And(all) => all.iter().find_map(named),
        Expression::Compare(one, Comparison::Equal, other) if is_device_id(one) => Some([text(other)?].into()),
        Expression::Compare(one, Comparison::Equal, other) if is_device_id(other) => Some([text(one)?].into()),
        Expression::In { value, list, negated: false } if is_device_id(value) => list.iter().map(text).collect(),
        _ => None,
    }
}
