//! `retry`.

use super::{Place, RETRY_KEYS, Reader};
use crate::file::{At, RetryField};
use crate::yaml::{Entry, Node, Value};

impl Reader<'_> {
    /// Reads `retry: N` or `retry: {max, on, delay, backoff}`.
    pub(super) fn retry(&mut self, node: &Node, place: &str) -> Option<At<RetryField>> {
        let span = node.span.clone();
        let Value::Map(map) = &node.value else {
            if matches!(node.value, Value::List(_)) {
                self.wrong_type(node, "retry", "a whole number or a map with `max`", place);
                return None;
            }
            let max = self.integer(node, "retry", place)?;
            return Some(At { value: RetryField { max, on: None, delay: None, backoff: None }, span });
        };
        let place = format!(" in `retry`{place}");
        let place = place.as_str();
        let meant = self.known_keys(map, RETRY_KEYS, Place { within: place, ignored_prefix: None });
        let (mut max, mut on, mut delay, mut backoff) = (None, None, None, None);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "max" => max = self.integer(value, "max", place),
                "on" => on = self.texts(value, "on", "ends", place),
                "delay" => delay = self.duration(value, "delay", place),
                "backoff" => backoff = self.number(value, "backoff", place),
                _ => {}
            }
        }
        self.require(map, "max", &meant, &node.span, place);
        Some(At { value: RetryField { max: max?, on, delay, backoff }, span })
    }
}
