//! `include`, and the files whose steps others use.

use std::rc::Rc;

use super::{INCLUDE_KEYS, Place, Reader, STEP_FILE_KEYS};
use crate::bounds::INCLUDES_MAX;
use crate::diagnostic::Problems;
use crate::file::{IncludeField, StepFile};
use crate::source::Source;
use crate::yaml::{Entry, Node, Value};

/// Reads the list of files that one is merged with.
pub(crate) fn includes(entry: &Entry, source: &Source, problems: &mut Problems) -> Vec<IncludeField> {
    let mut reader = Reader { source, problems };
    let Some(list) = reader.list(&entry.value, "include", "files", "") else { return Vec::new() };
    reader.at_most(list.len(), INCLUDES_MAX, "files in `include`", &entry.key_span);
    list.iter().take(INCLUDES_MAX).filter_map(|node| reader.include(node)).collect()
}

/// Reads a file of steps. `None`: it has none; reported.
pub(crate) fn step_file(root: &Node, source: &Source, problems: &mut Problems) -> Option<StepFile> {
    let mut reader = Reader { source, problems };
    let map = reader.map(root, "a file of steps", "")?;
    let place = Place { within: " in a file of steps", ignored_prefix: Some("x-") };
    let meant = reader.known_keys(map, STEP_FILE_KEYS, place);
    let (mut params, mut steps, mut outputs) = (Vec::new(), None, None);
    for Entry { key, value, .. } in map {
        match key.as_str() {
            "params" => params = reader.params(value),
            "outputs" => outputs = Some(Rc::clone(value)),
            "steps" => steps = reader.list(value, "steps", "steps", "").map(<[_]>::to_vec),
            _ => {}
        }
    }
    let at = root.span.start..root.span.start;
    reader.require(map, "steps", &meant, &at, "");
    Some(StepFile { params, steps: steps?, outputs })
}

impl Reader<'_> {
    fn include(&mut self, node: &Node) -> Option<IncludeField> {
        let Value::Map(map) = &node.value else {
            let path = self.text_as(node, "an entry of `include`", "a path or a map with `path`", "")?;
            return Some(IncludeField { path, sha256: None });
        };
        let place = " in `include`";
        let meant = self.known_keys(map, INCLUDE_KEYS, Place { within: place, ignored_prefix: None });
        let (mut path, mut sha256) = (None, None);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "path" => path = self.text(value, "path", place),
                "sha256" => sha256 = self.text(value, "sha256", place),
                _ => {}
            }
        }
        self.require(map, "path", &meant, &node.span, place);
        Some(IncludeField { path: path?, sha256 })
    }
}
