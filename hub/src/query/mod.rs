//! The query language over twins (`service-rest.md` 12.6): parsed once, evaluated over one JSON document after the other. Pure.
//!
//! ```text
//! query      = SELECT [TOP n] ( "*" | item { "," item } ) FROM source [ [AS] alias ]
//!              [ WHERE expression ] [ GROUP BY path { "," path } ]
//! source     = "devices" | "devices.modules"
//! item       = ( expression | aggregate ) [ [AS] name ]
//! aggregate  = ( COUNT | SUM | AVG | MIN | MAX ) "(" [ expression | "*" ] ")"
//! expression = OR, AND, NOT, then one of = != <> < <= > >= [NOT] IN NIN, then + -, then * / %, then unary -
//! operand    = number | text | TRUE | FALSE | NULL | "[" list "]" | "(" expression ")" | function "(" list ")" | path
//! path       = name { "." name | ".[[" any "]]" | "[" n "]" | "['" any "']" }
//! ```
//!
//! Keywords and functions are compared without case, names with it. What is not there is *undefined*: it meets no condition, negated or
//! not, and is left out of an answer. Values of different types are not equal, and in no order.

mod ast;
mod evaluate;
mod function;
mod group;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use ast::{Query, Source};
pub use group::Groups;

/// Bytes of a query.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Groups of one answer: they are all in memory.
pub const GROUPS_MAX: usize = 1000;

/// Why a text is no query, or cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {why}")]
pub struct QueryError {
    /// Where: the first character has 1.
    pub column: usize,
    /// What is wrong there, and what was expected.
    pub why: String,
}

impl QueryError {
    fn new(column: usize, why: impl Into<String>) -> Self {
        Self { column, why: why.into() }
    }
}
