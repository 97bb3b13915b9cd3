//! `setup`: what all steps start from, made once.

use std::rc::Rc;

use super::{Place, Reader, SETUP_KEYS};
use crate::bounds::SETUP_MAX;
use crate::file::SetupField;
use crate::source::Span;
use crate::yaml::{Entry, Kind, Node, Value};

/// Keys of an entry that are not those of a step.
const OWN_KEYS: &[&str] = &["reads", "network", "max-age"];

impl Reader<'_> {
    pub(super) fn setup(&mut self, node: &Node, key: &Span) -> Vec<SetupField> {
        if matches!(&node.value, Value::Scalar(scalar) if scalar.kind == Kind::Null) {
            return Vec::new();
        }
        let Some(list) = self.list(node, "setup", "commands", "") else { return Vec::new() };
        self.at_most(list.len(), SETUP_MAX, "entries of `setup`", key);
        list.iter().enumerate().take(SETUP_MAX).map(|(at, entry)| self.setup_entry(entry, at + 1)).collect()
    }

    fn setup_entry(&mut self, node: &Rc<Node>, number: usize) -> SetupField {
        let place = format!(" in setup {number}");
        let mut field = SetupField::default();
        let Value::Map(map) = &node.value else {
            field.step = self.step(node, number, "setup");
            return field;
        };
        self.known_keys(map, SETUP_KEYS, Place { within: &place, ignored_prefix: None });
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "reads" => field.reads = self.texts(value, "reads", "patterns", &place),
                "network" => field.network = self.network(value, &place),
                "max-age" => field.max_age = self.duration(value, "max-age", &place),
                _ => {}
            }
        }
        let of_step = |entry: &&Entry| {
            SETUP_KEYS.contains(&entry.key.as_str()) && !OWN_KEYS.contains(&entry.key.as_str())
        };
        let rest = map.iter().filter(of_step).cloned().collect();
        field.step = self.step(&Node::branch(node.span.clone(), Value::Map(rest)), number, "setup");
        field
    }
}
