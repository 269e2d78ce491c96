//! Columns of text.

/// Rows under each other, two spaces between columns; the first column to the left, the others to the right. A row may be
/// shorter than the others. No space at a line's end.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            if column == 0 {
                line = format!("{cell}{padding}");
            } else {
                line.push_str(&format!("  {padding}{cell}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text from outside on one line of a terminal: control characters, which could move the cursor or hide text, become spaces.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = aligned(&[row(&["a", "1"]), row(&["µs", "1,000", "x"]), row(&["alone"])]);
        assert_eq!(text, "a          1\nµs     1,000  x\nalone\n");
        assert_eq!(aligned(&[]), "");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(harmless("a\x1b[2Jb\r\nc\u{9b}d"), "a [2Jb  c d");
    }
}
