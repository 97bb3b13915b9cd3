//! `caches`.

use super::{CACHE_KEYS, Place, Reader};
use crate::bounds::{CACHES_MAX, RESTORE_KEYS_MAX};
use crate::expression::Template;
use crate::file::{At, CacheField};
use crate::yaml::{Entry, Kind, Node, Origin, Value};

impl Reader<'_> {
    /// Reads a list of paths and maps.
    pub(super) fn caches(&mut self, node: &Node, place: &str) -> Vec<CacheField> {
        let Some(list) = self.list(node, "caches", "paths or maps", place) else { return Vec::new() };
        self.at_most(list.len(), CACHES_MAX, "caches", &node.span);
        list.iter().take(CACHES_MAX).filter_map(|entry| self.cache(entry, place)).collect()
    }

    fn cache(&mut self, node: &Node, place: &str) -> Option<CacheField> {
        let Value::Map(map) = &node.value else {
            let path = self.text_as(node, "a cache", "a path or a map with `path`", place)?;
            return Some(CacheField::of(path));
        };
        let place = " in the cache";
        let meant = self.known_keys(map, CACHE_KEYS, Place { within: place, ignored_prefix: None });
        self.require(map, "path", &meant, &node.span, place);
        let path = map.iter().find(|entry| entry.key == "path")?;
        let mut field = CacheField::of(self.text(&path.value, "path", place)?);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "key" => field.key = self.template(value, "key", place),
                "restore-keys" => {
                    let list = self.list(value, "restore-keys", "beginnings of keys", place);
                    let list = list.unwrap_or_default();
                    self.at_most(list.len(), RESTORE_KEYS_MAX, "restore keys", &value.span);
                    let within = " in `restore-keys` in the cache";
                    field.restore_keys =
                        list.iter().filter_map(|entry| self.template(entry, "an entry", within)).collect();
                }
                "mode" => field.mode = self.text(value, "mode", place),
                "when" => field.when = self.text(value, "when", place),
                "max-size" => field.max_size = self.size(value, "max-size", place),
                _ => {}
            }
        }
        Some(field)
    }

    /// Returns text, or what is to become text while the job runs.
    fn template(&mut self, node: &Node, key: &str, place: &str) -> Option<At<Template>> {
        if let Value::Scalar(scalar) = &node.value
            && scalar.kind != Kind::Null
            && let Origin::Late(template) = &scalar.origin
        {
            return Some(At { value: Template::clone(template), span: node.span.clone() });
        }
        let text = self.text(node, key, place)?;
        Some(At { value: Template::literal(text.value), span: text.span })
    }
}
