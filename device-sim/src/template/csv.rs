//! Comma-separated values, as RFC 4180 has them, with a header line.

use std::collections::HashSet;

/// A table with named columns; every row has a cell for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns, all different.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads a table. Cells may be quoted; a quote in a quoted cell is doubled. Empty lines count for nothing.
    ///
    /// # Errors
    /// With the line, if a quote is not closed, a row has another number of cells, or a column is there twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut records = records(text)?.into_iter();
        let (_, columns) = records.next().ok_or("it has no header line")?;
        let mut seen = HashSet::new();
        if let Some(twice) = columns.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(format!("line 1: two columns are called {twice:?}"));
        }
        let mut rows = Vec::new();
        for (line, row) in records {
            if row.len() != columns.len() {
                return Err(format!("line {line}: {} cells, where the header has {}", row.len(), columns.len()));
            }
            rows.push(row);
        }
        Ok(Self { columns, rows })
    }

    /// The position of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Each record with the line on which it begins.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut began, mut quoted, mut was_quoted) = (1, 1, false, false);
    let mut chars = text.chars().peekable();
    while let Some(next) = chars.next() {
        line += usize::from(next == '\n');
        match next {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            _ if quoted => cell.push(next),
            ',' => {
                record.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                if !record.is_empty() || !cell.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut cell));
                    records.push((began, std::mem::take(&mut record)));
                }
                (began, was_quoted) = (line, false);
            }
            other => cell.push(other),
        }
    }
    if quoted {
        return Err(format!("line {began}: a quote is not closed"));
    }
    if !record.is_empty() || !cell.is_empty() {
        record.push(cell);
        records.push((began, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_or_refused_with_their_line() {
        let table = Table::parse("at,speed,note\r\n1,50,\"a, \"\"b\"\"\"\n\n2,60,\n").unwrap();
        assert_eq!(table.columns, ["at", "speed", "note"]);
        assert_eq!(table.rows, [["1", "50", "a, \"b\""], ["2", "60", ""]]);
        assert_eq!((table.column("speed"), table.column("x")), (Some(1), None));
        assert_eq!(Table::parse("a\n1").unwrap().rows, [["1"]]);
        assert_eq!(Table::parse("a\n\"one\ntwo\"\n3").unwrap().rows, [["one\ntwo"], ["3"]]);
        for (text, words) in [
            ("", "no header"),
            ("a,a\n", "two columns"),
            ("a,b\n1,2\n3\n", "line 3: 1 cells"),
            ("a\n\"x", "line 2: a quote"),
        ] {
            let error = Table::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
