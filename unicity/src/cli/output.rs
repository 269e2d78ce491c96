//! How results are shown: a JSON object a line for programs, aligned columns for people.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::error::{Context as _, Outcome};

/// Calls are shown, not what comes of them.
static ONLY_CALLS: AtomicBool = AtomicBool::new(false);
/// And each is an object.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on calls are shown and nothing else (`--curl`).
pub(crate) fn show_only_calls(as_json: bool) {
    AS_JSON.store(as_json, Ordering::Relaxed);
    ONLY_CALLS.store(true, Ordering::Relaxed);
}

/// Shows one call.
pub(crate) fn shown_call(call: &str) -> Outcome {
    if AS_JSON.load(Ordering::Relaxed) { write(&serde_json::json!({"curl": call}).to_string()) } else { write(call) }
}

/// Writes one line to stdout; a closed pipe ends the program quietly.
pub(crate) fn line(text: &str) -> Outcome {
    if ONLY_CALLS.load(Ordering::Relaxed) { Ok(()) } else { write(text) }
}

fn write(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

/// One JSON object on a line.
pub(crate) fn json(value: &Value) -> Outcome {
    line(&value.to_string())
}

/// Columns of a table are not made narrower than this.
const COLUMN_MIN: usize = 8;
/// Between two columns.
const GAP: usize = 2;

/// Makes columns narrower, the widest first, until the table fits into `room`, or none can give more.
fn fit(widths: &mut [usize], room: usize) {
    loop {
        let total: usize = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > COLUMN_MIN) else { return };
        if total <= room {
            return;
        }
        *widest -= 1;
    }
}

/// A cell in `width` characters; one that was cut ends with an ellipsis.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A table with a header, columns as wide as their widest cell; on a terminal no wider than it. What is read by a program is
/// never cut.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> Outcome {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if std::io::stdout().is_terminal()
        && let Some((_, columns)) = console::Term::stdout().size_checked()
    {
        fit(&mut widths, usize::from(columns));
    }
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let cell = cut(cell, *width);
            text.push_str(&cell);
            text.extend(std::iter::repeat_n(' ', (width + GAP).saturating_sub(cell.chars().count())));
        }
        text.trim_end().to_owned()
    };
    line(&render(&mut header.iter().copied()))?;
    for row in rows {
        line(&render(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

/// A field of a JSON object as a table cell: text bare, nothing as a dash.
pub(crate) fn cell(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, name| value.get(name));
    match found {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A record for people: one field a line, nested names joined with dots.
pub(crate) fn record(value: &Value) -> Outcome {
    fn walk(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (name, value) in members {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&name, value, rows);
                }
            }
            Value::String(text) => rows.push((prefix.to_owned(), text.clone())),
            other => rows.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut rows = Vec::new();
    walk("", value, &mut rows);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        line(&format!("{name:width$}  {value}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_where_they_can() {
        for (widths, room, fitted) in [
            (vec![10, 20], 40, vec![10, 20]),
            (vec![10, 40], 32, vec![10, 20]),
            (vec![30, 40], 42, vec![20, 20]),
            (vec![3, 9], 4, vec![3, 8]),
            (vec![], 0, vec![]),
        ] {
            let mut found = widths.clone();
            fit(&mut found, room);
            assert_eq!(found, fitted, "{widths:?} in {room}");
        }
        assert_eq!(cut("Zürich", 6), "Zürich");
        assert_eq!(cut("Zürich", 4), "Zür…");
    }
}
