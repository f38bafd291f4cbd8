//! Columns as Go's text/tabwriter aligns them, which is what kubectl prints with.

/// How wide columns are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tabs {
    /// At least.
    pub(super) min: usize,
    /// Beyond the widest cell.
    pub(super) padding: usize,
}

/// As `kubectl get`.
pub(super) const TABLE: Tabs = Tabs { min: 6, padding: 3 };
/// As `kubectl describe`.
pub(super) const DETAILS: Tabs = Tabs { min: 0, padding: 2 };

impl Tabs {
    /// The lines, each with a line end. A cell is as wide as the widest of those right above and below
    /// it; the last one of a line has no width.
    pub(super) fn align(self, lines: &[Vec<String>]) -> String {
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            let last = line.len().saturating_sub(1);
            for (column, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if column < last {
                    let width = self.width(lines, index, column);
                    text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            text.push('\n');
        }
        text
    }

    fn width(self, lines: &[Vec<String>], index: usize, column: usize) -> usize {
        let has = |line: &&Vec<String>| line.len() > column + 1;
        let (above, below) = lines.split_at(index);
        let block = above.iter().rev().take_while(has).chain(below.iter().take_while(has));
        let widest = block.filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        self.min.max(widest.unwrap_or(0) + self.padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(tabs: Tabs, text: &str) -> String {
        let lines: Vec<Vec<String>> =
            text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect();
        tabs.align(&lines)
    }

    #[test]
    fn columns_end_where_a_line_has_none() {
        let text =
            "Name:|web\nPort:|<unset>|80/TCP\nTargetPort:|80/TCP\nNodePort:|http|30008/TCP\nEvents:|<none>";
        assert_eq!(
            aligned(DETAILS, text),
            "Name:        web\n\
             Port:        <unset>  80/TCP\n\
             TargetPort:  80/TCP\n\
             NodePort:    http  30008/TCP\n\
             Events:      <none>\n"
        );
    }

    #[test]
    fn narrow_columns_have_a_least_width_and_empty_cells_their_room() {
        assert_eq!(aligned(TABLE, "A|B|C\nd||e"), "A     B     C\nd           e\n");
    }
}
