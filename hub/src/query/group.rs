//! GROUP BY and aggregates: a bounded number of groups, fed one document after the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ast::{Aggregate, Column, Query, Select};
use super::evaluate::{follow, number, order, to_number};
use super::{GROUPS_MAX, QueryError};

/// The groups of a query so far.
#[derive(Debug)]
pub struct Groups<'q> {
    query: &'q Query,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug)]
struct Group {
    /// What the columns that are no aggregates show.
    shown: Map<String, Value>,
    /// One a column; those of other columns stay as they are.
    running: Vec<Running>,
}

#[derive(Debug, Default, Clone)]
struct Running {
    count: u64,
    /// Numbers among them.
    numbers: u64,
    sum: f64,
    least: Option<Value>,
    most: Option<Value>,
}

impl<'q> Groups<'q> {
    /// None yet.
    #[must_use]
    pub fn new(query: &'q Query) -> Self {
        Self { query, groups: BTreeMap::new() }
    }

    /// Takes in a document, if it meets the condition.
    ///
    /// # Errors
    /// [`QueryError`] if there are more groups than an answer may have.
    pub fn add(&mut self, document: &Value) -> Result<(), QueryError> {
        let Select::Items(items) = &self.query.select else { return Ok(()) };
        if !self.query.takes(document) {
            return Ok(());
        }
        let key = self.query.group_by.iter().map(|path| match follow(path, document) {
            Some(value) => value.to_string(),
            None => String::new(),
        });
        let key = key.collect::<Vec<_>>().join("\u{1f}");
        if !self.groups.contains_key(&key) {
            if self.groups.len() >= GROUPS_MAX {
                return Err(QueryError::new(
                    1,
                    format!("there are more than {GROUPS_MAX} groups: narrow the condition"),
                ));
            }
            let mut shown = Map::new();
            for item in items {
                if let Column::Value(expression) = &item.what
                    && let Some(value) = expression.evaluate(document)
                {
                    shown.insert(item.name.clone(), value.into_owned());
                }
            }
            self.groups.insert(key.clone(), Group { shown, running: vec![Running::default(); items.len()] });
        }
        if let Some(group) = self.groups.get_mut(&key) {
            for (item, running) in items.iter().zip(&mut group.running) {
                match &item.what {
                    Column::Aggregate(_, None) => running.count += 1,
                    Column::Aggregate(_, Some(expression)) => {
                        if let Some(value) = expression.evaluate(document) {
                            running.add(&value);
                        }
                    }
                    Column::Value(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The rows of the answer, in the order of their groups. Without GROUP BY there is one, of no documents too.
    #[must_use]
    pub fn rows(mut self) -> Vec<Value> {
        let Select::Items(items) = &self.query.select else { return Vec::new() };
        if self.query.group_by.is_empty() && self.groups.is_empty() {
            let nothing = Group { shown: Map::new(), running: vec![Running::default(); items.len()] };
            self.groups.insert(String::new(), nothing);
        }
        let rows = self.groups.into_values().map(|Group { mut shown, running }| {
            for (item, running) in items.iter().zip(running) {
                if let Column::Aggregate(aggregate, _) = &item.what
                    && let Some(value) = running.result(*aggregate)
                {
                    shown.insert(item.name.clone(), value);
                }
            }
            Value::Object(shown)
        });
        let top = self.query.top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX));
        rows.take(top).collect()
    }
}

impl Running {
    fn add(&mut self, value: &Value) {
        self.count += 1;
        if let Some(number) = to_number(value) {
            self.numbers += 1;
            self.sum += number;
        }
        let better = |kept: &Option<Value>, wanted: Ordering| match kept {
            None => order(value, value).is_some(),
            Some(kept) => order(value, kept) == Some(wanted),
        };
        if better(&self.least, Ordering::Less) {
            self.least = Some(value.clone());
        }
        if better(&self.most, Ordering::Greater) {
            self.most = Some(value.clone());
        }
    }

    fn result(self, aggregate: Aggregate) -> Option<Value> {
        match aggregate {
            Aggregate::Count => Some(Value::from(self.count)),
            Aggregate::Sum => number(self.sum).map(std::borrow::Cow::into_owned),
            Aggregate::Average if self.numbers == 0 => None,
            Aggregate::Average => number(self.sum / self.numbers as f64).map(std::borrow::Cow::into_owned),
            Aggregate::Minimum => self.least,
            Aggregate::Maximum => self.most,
        }
    }
}
