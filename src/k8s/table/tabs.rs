//! Columns as Go's text/tabwriter aligns them, which is what kubectl prints with.

/// How wide columns are.
#[derive(Clone, Copy, Debug)]
pub struct Tabs {
    /// At least.
    min: usize,
    /// Beyond the widest cell.
    padding: usize,
}

impl Tabs {
    /// As `kubectl get`.
    pub const TABLE: Self = Self { min: 6, padding: 3 };
    /// As `kubectl describe`.
    pub const DETAILS: Self = Self { min: 0, padding: 2 };

    /// The lines, each with a line end. A cell is as wide as the widest of those right above and below
    /// it; the last one of a line has no width. Nothing in them is obeyed by a terminal.
    pub fn align(self, lines: &[Vec<String>]) -> String {
        self.align_as_before(lines, &mut Vec::new())
    }

    /// The same for lines that go on from others: columns are at least as wide as they were there.
    pub fn align_as_before(self, lines: &[Vec<String>], widths: &mut Vec<usize>) -> String {
        let mut text = String::new();
        let before = widths.clone();
        // The width of each column of the line, and the line before which its block ends.
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let cells = line.len().saturating_sub(1);
            for (column, cell) in line.iter().take(cells).enumerate() {
                let known = blocks.get(column).filter(|(_, end)| index < *end);
                let width = known.map(|(width, _)| *width).unwrap_or_else(|| {
                    let (width, count) = self.block(lines.get(index..).unwrap_or_default(), column);
                    let width = width.max(before.get(column).copied().unwrap_or(0));
                    set(&mut blocks, column, (width, index + count));
                    set(widths, column, width);
                    width
                });
                text.push_str(&harmless(cell));
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
            line.last().into_iter().for_each(|last| text.push_str(&harmless(last)));
            text.push('\n');
        }
        text
    }

    /// How wide a column is, and over how many of these lines it goes.
    fn block(self, lines: &[Vec<String>], column: usize) -> (usize, usize) {
        let cells =
            lines.iter().take_while(|line| line.len() > column + 1).filter_map(|line| line.get(column));
        let (widest, count) =
            cells.fold((0, 0), |(widest, count), cell| (cell.chars().count().max(widest), count + 1));
        (self.min.max(widest + self.padding), count)
    }
}

/// Makes the list as long as it has to be.
fn set<T: Clone + Default>(list: &mut Vec<T>, index: usize, value: T) {
    list.resize(list.len().max(index + 1), T::default());
    list.iter_mut().skip(index).take(1).for_each(|old| *old = value.clone());
}

fn harmless(cell: &str) -> String {
    cell.replace('\u{1b}', "^[")
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
            aligned(Tabs::DETAILS, text),
            "Name:        web\n\
             Port:        <unset>  80/TCP\n\
             TargetPort:  80/TCP\n\
             NodePort:    http  30008/TCP\n\
             Events:      <none>\n"
        );
    }

    #[test]
    fn narrow_columns_have_a_least_width_and_empty_cells_their_room() {
        assert_eq!(aligned(Tabs::TABLE, "A|B|C\nd||e"), "A     B     C\nd           e\n");
    }

    #[test]
    fn columns_never_shrink_in_what_goes_on() {
        let lines = |text: &str| vec![text.split('|').map(str::to_owned).collect::<Vec<_>>()];
        let mut widths = Vec::new();
        assert_eq!(Tabs::TABLE.align_as_before(&lines("longer|b"), &mut widths), "longer   b\n");
        assert_eq!(Tabs::TABLE.align_as_before(&lines("a|b"), &mut widths), "a        b\n");
        assert_eq!(Tabs::TABLE.align_as_before(&lines("the longest|b"), &mut widths), "the longest   b\n");
    }

    #[test]
    fn terminals_obey_nothing() {
        assert_eq!(Tabs::TABLE.align(&[vec!["\u{1b}[2J".to_owned()]]), "^[[2J\n");
    }
}
