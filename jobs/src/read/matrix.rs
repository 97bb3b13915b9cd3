//! The matrix, its values as expressions will see them.

use super::Reader;
use crate::bounds::CELLS_MAX;
use crate::codes::Code;
use crate::expression::Value;
use crate::file::{At, MatrixField, Members};
use crate::render::quote;
use crate::yaml::{Entry, Kind, Node, Scalar, Value as Yaml};

impl Reader<'_> {
    /// Reads the matrix. `None`: something in it could not be read.
    pub(super) fn matrix(&mut self, node: &Node, place: &str) -> Option<MatrixField> {
        let map = self.map(node, "matrix", place)?;
        let within = format!(" in `matrix`{place}");
        let (mut axes, mut include, mut exclude) = (Vec::new(), Vec::new(), Vec::new());
        let mut whole = true;
        for Entry { key, key_span, value } in map {
            match key.as_str() {
                "include" => whole &= self.cells(value, key, &within, &mut include),
                "exclude" => whole &= self.cells(value, key, &within, &mut exclude),
                _ => match self.list(value, key, "values", &within) {
                    Some(list) => {
                        let count = list.len();
                        if count > CELLS_MAX {
                            let text = format!(
                                "the axis {} has {count} values{within}; at most {CELLS_MAX} \
                                cells are accepted",
                                quote(key)
                            );
                            self.problems.add(Code::MatrixTooBig, key_span, text);
                            whole = false;
                            continue;
                        }
                        let values: Vec<_> = list.iter().map(|node| self.matrix_value(node)).collect();
                        let values: Option<Vec<Value>> = values.into_iter().collect();
                        whole &= values.is_some();
                        let name = At { value: key.clone(), span: key_span.clone() };
                        let values = At { value: values.unwrap_or_default(), span: value.span.clone() };
                        axes.push((name, values));
                    }
                    None => whole = false,
                },
            }
        }
        whole.then(|| MatrixField { span: node.span.clone(), axes, include, exclude })
    }

    /// Reads `include` or `exclude`: a list of maps.
    fn cells(&mut self, node: &Node, key: &str, place: &str, cells: &mut Vec<At<Members>>) -> bool {
        let Some(list) = self.list(node, key, "maps", place) else { return false };
        self.at_most(list.len(), CELLS_MAX, &format!("entries of `{key}`"), &node.span);
        let mut whole = true;
        for node in list.iter().take(CELLS_MAX) {
            let Some(map) = self.map(node, &format!("an entry of `{key}`"), place) else {
                whole = false;
                continue;
            };
            let members: Vec<_> =
                map.iter().map(|e| Some((e.key.clone(), self.matrix_value(&e.value)?))).collect();
            match members.into_iter().collect::<Option<Members>>() {
                Some(value) => cells.push(At { value, span: node.span.clone() }),
                None => whole = false,
            }
        }
        whole
    }

    /// Makes a value of a node. A number that would not be written the same again stays text: `3.10` is a version.
    fn matrix_value(&mut self, node: &Node) -> Option<Value> {
        match &node.value {
            Yaml::Scalar(_) => match self.scalar(node) {
                Ok(scalar) => Some(scalar_value(scalar)),
                Err(_) => None,
            },
            Yaml::List(list) => {
                let values: Vec<_> = list.iter().map(|node| self.matrix_value(node)).collect();
                values.into_iter().collect::<Option<Vec<_>>>().map(Value::list)
            }
            Yaml::Map(entries) => {
                let members: Vec<_> = entries
                    .iter()
                    .map(|entry| Some((entry.key.clone(), self.matrix_value(&entry.value)?)))
                    .collect();
                members.into_iter().collect::<Option<Vec<_>>>().map(Value::map)
            }
            Yaml::Unreadable => None,
        }
    }
}

fn scalar_value(scalar: &Scalar) -> Value {
    let text = Value::text(&scalar.text);
    match scalar.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value) => Value::Bool(value),
        Kind::Text => text,
        Kind::Int | Kind::Float => {
            let number = scalar.text.parse().ok().map(Value::Number);
            number.filter(|number| number.to_text().as_deref() == Some(&scalar.text)).unwrap_or(text)
        }
    }
}
