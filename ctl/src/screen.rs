//! What people see: lines on standard output, complaints on standard error, rows one column per line.
//!
//! A closed pipe is not an error here: who stopped reading does not want the rest.

use std::io::{IsTerminal, Write};

/// One line on standard output.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// One line on standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether standard output is a terminal whose user did not say that colours are unwanted (`NO_COLOR`).
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A word in a colour of ECMA-48, where colours are wanted.
pub(crate) fn coloured(word: &str, colour: &str, wanted: bool) -> String {
    if wanted { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
}

/// A table with a header; columns as wide as their widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format_row = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(format_row(&head)).chain(rows.iter().map(|row| format_row(row))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns() {
        let rows = vec![vec!["fe-1".to_owned(), "x".to_owned()], vec!["broker-1".to_owned(), String::new()]];
        assert_eq!(table(&["name", "y"], &rows), "name      y\nfe-1      x\nbroker-1");
    }
}
