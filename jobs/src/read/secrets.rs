//! `secrets`: names, never values.

use super::{Place, Reader, SECRET_KEYS, STEP_SECRET_KEYS};
use crate::bounds::SECRETS_MAX;
use crate::codes::Code;
use crate::file::{At, SecretField};
use crate::source::Span;
use crate::yaml::{Entry, Kind, Node, Value};

impl Reader<'_> {
    /// Reads `secrets: [NAME]` or `secrets: {NAME: {...}}`. `of_step`: a step's, which says less.
    pub(super) fn secrets(&mut self, node: &Node, place: &str, of_step: bool) -> Vec<SecretField> {
        let fields: Vec<SecretField> = match &node.value {
            Value::Map(map) => map.iter().filter_map(|entry| self.secret(entry, place, of_step)).collect(),
            Value::List(_) => {
                let names = self.texts(node, "secrets", "names", place).map(|names| names.value);
                names.unwrap_or_default().into_iter().map(SecretField::of).collect()
            }
            Value::Scalar(_) => {
                self.wrong_type(node, "secrets", "a list of names or a map", place);
                Vec::new()
            }
            Value::Unreadable => Vec::new(),
        };
        self.at_most(fields.len(), SECRETS_MAX, "secrets", &node.span);
        fields
    }

    fn secret(&mut self, entry: &Entry, place: &str, of_step: bool) -> Option<SecretField> {
        let Entry { key, key_span, value } = entry;
        let mut field = SecretField::of(At { value: key.clone(), span: key_span.clone() });
        let place = format!(" in `secrets`{place}");
        let place = place.as_str();
        match &value.value {
            Value::Map(map) => {
                let keys = if of_step { STEP_SECRET_KEYS } else { SECRET_KEYS };
                self.known_keys(map, keys, Place { within: place, ignored_prefix: None });
                for Entry { key, value, .. } in map {
                    match key.as_str() {
                        "env" => field.env = self.text(value, "env", place),
                        "required" if !of_step => field.required = self.boolean(value, "required", place),
                        "description" if !of_step => {
                            let _for_people = self.text(value, "description", place);
                        }
                        _ => {}
                    }
                }
            }
            Value::Scalar(scalar) if scalar.kind == Kind::Null => {}
            Value::Scalar(_) => {
                self.value_in_file(&value.span);
                return None;
            }
            Value::List(_) => {
                self.wrong_type(value, key, "nothing or a map", place);
                return None;
            }
            Value::Unreadable => return None,
        }
        Some(field)
    }

    /// The value itself is not repeated.
    fn value_in_file(&mut self, at: &Span) {
        let text = "a secret is written into the file, where everybody reads it";
        let hint = "leave the value out, change the secret, and give it by `runner exec --secret NAME`";
        self.problems.add(Code::SecretValue, at.start..at.start, text).hint(hint);
    }
}
