//! Tables in plain text, for summaries.

use std::fmt;

/// The longest cell, in characters. Peers write some of them, and all are as wide as the widest.
const CELL: usize = 128;

/// Rows under headings. The first column is aligned left, the others, which are figures, right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).to_vec()],
        }
    }

    /// Adds a row below. What is too long for a cell is cut.
    pub(crate) fn row<const N: usize>(&mut self, mut cells: [String; N]) {
        for cell in &mut cells {
            if let Some((end, _)) = cell.char_indices().nth(CELL) {
                cell.truncate(end);
                cell.push('…');
            }
        }
        self.rows.push(cells.to_vec());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|c| c.chars().count())
                    .max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                line += &if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_is_no_wider_than_a_cell() {
        let mut table = Table::new(["client", "state"]);
        table.row(["a".into(), "ü".repeat(70_000)]);
        let widest = table
            .to_string()
            .lines()
            .map(|line| line.chars().count())
            .max();
        assert_eq!(widest, Some("client  ".len() + CELL + 1));
    }

    #[test]
    fn figures_stand_under_each_other() {
        let mut table = Table::new(["", "up", "down"]);
        table.row(["packets".into(), "1".into(), "20,000".into()]);
        table.row(["lost".into(), "700".into(), "3".into()]);
        assert_eq!(
            table.to_string(),
            "          up    down\n\
             packets    1  20,000\n\
             lost     700       3"
        );
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
