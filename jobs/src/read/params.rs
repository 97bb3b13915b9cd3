//! The params.

use super::{PARAM_KEYS, Place, Reader};
use crate::bounds::PARAMS_MAX;
use crate::file::{At, ParamField};
use crate::yaml::{Entry, Kind, Node, Value};

impl Reader<'_> {
    pub(super) fn params(&mut self, node: &Node) -> Vec<ParamField> {
        let Some(map) = self.map(node, "params", "") else { return Vec::new() };
        self.at_most(map.len(), PARAMS_MAX, "params", &node.span);
        map.iter().take(PARAMS_MAX).filter_map(|entry| self.param(entry)).collect()
    }

    fn param(&mut self, Entry { key, key_span, value }: &Entry) -> Option<ParamField> {
        let name = At { value: key.clone(), span: key_span.clone() };
        let mut field = ParamField { name, kind: None, default: None, options: None, required: None };
        let map = match &value.value {
            Value::Map(map) => map,
            // `NAME:` with nothing behind it is a param without a default.
            Value::Scalar(scalar) if scalar.kind == Kind::Null => return Some(field),
            Value::Scalar(_) | Value::List(_) | Value::Unreadable => {
                field.default = Some(self.text_as(value, "a param", "its default or a map", "")?);
                return Some(field);
            }
        };
        let place = format!(" in the param `{key}`");
        let place = place.as_str();
        self.known_keys(map, PARAM_KEYS, Place { within: place, ignored_prefix: None });
        let mut whole = true;
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "type" => field.kind = self.text(value, "type", place),
                "default" => {
                    field.default = self.text(value, "default", place);
                    whole &= field.default.is_some();
                }
                "options" => field.options = self.texts(value, "options", "values", place),
                "required" => field.required = self.boolean(value, "required", place),
                "description" => drop(self.text(value, "description", place)),
                _ => {}
            }
        }
        whole.then_some(field)
    }
}
