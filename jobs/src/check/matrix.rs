//! The cells of a matrix: the product of its axes, less what is excluded, and what is included besides.

use super::Checker;
use crate::bounds::{CELL_BYTES_MAX, CELLS_MAX};
use crate::codes::Code;
use crate::expression::Value;
use crate::file::{At, MatrixField, Members};
use crate::job::Cell;
use crate::names;
use crate::render::quote;
use crate::suggest::nearest;

impl Checker<'_> {
    /// Returns the cells; one without a name where there is no matrix, none where something is wrong with it.
    pub(super) fn cells(&mut self, matrix: Option<MatrixField>, unreadable: bool, place: &str) -> Vec<Cell> {
        let Some(matrix) = matrix else {
            let only = Cell { name: None, matrix: Value::Null };
            return if unreadable { Vec::new() } else { vec![only] };
        };
        if !self.axes(&matrix, place) {
            return Vec::new();
        }
        let axes = matrix.axes.iter().map(|(_, values)| values.value.len());
        let count = axes.fold(1_usize, usize::saturating_mul);
        let count = if matrix.axes.is_empty() { 0 } else { count };
        if count.saturating_add(matrix.include.len()) > CELLS_MAX {
            let text = match count {
                usize::MAX => format!("the matrix{place} has more than {CELLS_MAX} cells"),
                count => format!("the matrix{place} has {count} cells; at most {CELLS_MAX} are accepted"),
            };
            self.problems.add(Code::MatrixTooBig, &matrix.span, text).hint("split the job, or exclude cells");
            return Vec::new();
        }
        let cells = included(&matrix.axes, product(&matrix), &matrix.include);
        if cells.is_empty() {
            let text = format!("the matrix{place} has no cells: nothing would run");
            self.problems.add(Code::Matrix, &matrix.span, text);
        }
        named(&matrix.axes, cells)
    }

    /// Tests names and values of the axes, and that `exclude` names no others.
    fn axes(&mut self, matrix: &MatrixField, place: &str) -> bool {
        let before = self.problems.len();
        let axes: Vec<&str> = matrix.axes.iter().map(|(name, _)| name.value.as_str()).collect();
        for (name, values) in &matrix.axes {
            if !names::is_param_name(&name.value) {
                let text = format!("{} cannot be the name of an axis{place}", quote(&name.value));
                let hint = "letters, digits, `_` and `-`, a letter or `_` first, at most 63";
                self.problems.add(Code::Matrix, &name.span, text).hint(hint);
            }
            if values.value.is_empty() {
                let text = format!("the axis {}{place} has no values", quote(&name.value));
                self.problems.add(Code::Matrix, &values.span, text);
            }
        }
        for entry in &matrix.exclude {
            let unknown = entry.value.iter().find(|(name, _)| !axes.contains(&name.as_str()));
            if let Some((name, _)) = unknown {
                let mut text = format!("`exclude`{place} names {}, which is no axis", quote(name));
                if let Some(similar) = nearest(name, &axes) {
                    text.push_str(&format!("; did you mean `{similar}`?"));
                }
                self.problems.add(Code::Matrix, &entry.span, text);
            }
        }
        for entry in &matrix.include {
            if let Some((name, _)) = entry.value.iter().find(|(name, _)| !names::is_param_name(name)) {
                let text = format!("{} in `include`{place} cannot be the name of a value", quote(name));
                self.problems.add(Code::Matrix, &entry.span, text);
            }
        }
        self.problems.len() == before
    }
}

/// Multiplies the axes, the last one fastest, and leaves out what an entry of `exclude` matches in all it names.
fn product(matrix: &MatrixField) -> Vec<Members> {
    let mut cells: Vec<Members> = if matrix.axes.is_empty() { Vec::new() } else { vec![Vec::new()] };
    for (name, values) in &matrix.axes {
        let with = |cell: &Members| {
            let (cell, name) = (cell.clone(), name.value.clone());
            let values = values.value.clone();
            values.into_iter().map(move |value| {
                let mut cell = cell.clone();
                cell.push((name.clone(), value));
                cell
            })
        };
        cells = cells.iter().flat_map(with).collect();
    }
    cells.retain(|cell| {
        let excluded = |entry: &At<Members>| entry.value.iter().all(|(name, value)| has(cell, name, value));
        !matrix.exclude.iter().any(excluded)
    });
    cells
}

/// Adds each entry of `include` to the cells whose axes it does not contradict; an entry that fits none is a cell of its
/// own. GitHub's rule: what an earlier entry added may be overwritten, an axis never.
fn included(
    axes: &[(At<String>, At<Vec<Value>>)],
    mut cells: Vec<Members>,
    include: &[At<Members>],
) -> Vec<Members> {
    let is_axis = |name: &str| axes.iter().any(|(axis, _)| axis.value == name);
    let originals = cells.len();
    for entry in include {
        let mut fitted = false;
        for cell in cells.iter_mut().take(originals) {
            let fits = entry.value.iter().all(|(name, value)| !is_axis(name) || has(cell, name, value));
            if fits {
                fitted = true;
                entry.value.iter().filter(|(name, _)| !is_axis(name)).for_each(|(name, value)| {
                    cell.retain(|(known, _)| known != name);
                    cell.push((name.clone(), value.clone()));
                });
            }
        }
        if !fitted {
            cells.push(entry.value.clone());
        }
    }
    cells
}

/// Returns whether the cell has this value; `3.10` and `"3.10"` are the same.
fn has(cell: &Members, name: &str, value: &Value) -> bool {
    let found = cell.iter().find(|(known, _)| known == name);
    found.is_some_and(|(_, found)| {
        found == value
            || found.to_text().is_some_and(|text| value.to_text().is_some_and(|other| text == other))
    })
}

/// Names each cell by its values: those of the axes, else all it has.
fn named(axes: &[(At<String>, At<Vec<Value>>)], cells: Vec<Members>) -> Vec<Cell> {
    let mut taken: Vec<String> = Vec::with_capacity(cells.len());
    for (at, cell) in cells.iter().enumerate() {
        let of_axes = cell.iter().filter(|(name, _)| axes.iter().any(|(axis, _)| axis.value == *name));
        let mut values: Vec<&Value> = of_axes.map(|(_, value)| value).collect();
        if values.is_empty() {
            values = cell.iter().map(|(_, value)| value).collect();
        }
        let words: Vec<String> = values.iter().filter_map(|value| word(value)).collect();
        let base = match words.join("-") {
            empty if empty.is_empty() => format!("{}", at + 1),
            name => name,
        };
        let base: String = base.chars().take(CELL_BYTES_MAX).collect();
        taken.push(names::free(&base, CELL_BYTES_MAX, |name| taken.iter().any(|known| known == name)));
    }
    let cells = cells.into_iter().zip(taken);
    cells.map(|(cell, name)| Cell { name: Some(name), matrix: Value::map(cell) }).collect()
}

/// Makes a value part of a directory's name; of a map, its first member that can be.
fn word(value: &Value) -> Option<String> {
    if let Value::Map(members) = value {
        return members.iter().find_map(|(_, member)| word(member));
    }
    let text = value.to_text()?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let word: String = text.chars().map(|c| if good(c) { c } else { '-' }).collect();
    let word = word.trim_matches(['-', '.']);
    (!word.is_empty()).then(|| word.to_owned())
}
