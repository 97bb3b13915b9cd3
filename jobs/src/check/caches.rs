//! The caches.

use std::collections::HashMap;

use super::Checker;
use crate::bounds::CACHE_KEY_BYTES_MAX;
use crate::cache::{self, CacheMode, CachePlan};
use crate::codes::Code;
use crate::expression::Template;
use crate::file::{At, CacheField};
use crate::render::quote;
use crate::source::Span;

impl Checker<'_> {
    pub(super) fn caches(&mut self, fields: Vec<CacheField>) -> Vec<CachePlan> {
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut caches = Vec::with_capacity(fields.len());
        for field in fields {
            let span = field.path.span.clone();
            let Some(cache) = self.cache(field) else { continue };
            if let Some(first) = seen.get(&cache.path) {
                let text = format!("two caches have the path {}", quote(&cache.path));
                self.problems.add(Code::DuplicateCache, span, text).refer_to(first);
                continue;
            }
            seen.insert(cache.path.clone(), span);
            caches.push(cache);
        }
        caches
    }

    fn cache(&mut self, field: CacheField) -> Option<CachePlan> {
        let place = " in the cache";
        let path = match cache::normal(&field.path.value) {
            Ok(path) => Some(path),
            Err(fault) => {
                let text = format!("{} cannot be kept: {fault}", quote(&field.path.value));
                let hint = "a path of the workspace, `target`; of the image, `/var/cache/apt`; of the home, `~/.cargo`";
                self.problems.add(Code::CachePath, &field.path.span, text).hint(hint);
                None
            }
        };
        let before = self.problems.len();
        let modes = [("rw", CacheMode::Rw), ("ro", CacheMode::Ro), ("push-only", CacheMode::PushOnly)];
        let mode = field.mode.and_then(|word| self.choice(&word, "mode", place, &modes));
        let whens = [("success", false), ("always", true)];
        let always = field.when.and_then(|word| self.choice(&word, "when", place, &whens));
        let bytes_max = self.size(field.max_size.as_ref(), "max-size", 1);
        let keys: Vec<&At<Template>> = field.key.iter().chain(&field.restore_keys).collect();
        for key in keys {
            // One that is settled while the job runs is measured then.
            let Some(text) = key.value.as_literal() else { continue };
            if text.is_empty() || text.len() > CACHE_KEY_BYTES_MAX || text.chars().any(char::is_control) {
                let text = format!("a key{place} must be text of 1 to {CACHE_KEY_BYTES_MAX} bytes");
                self.problems.add(Code::CacheKey, &key.span, text);
            }
        }
        let good = self.problems.len() == before;
        let key = field.key.map(|key| key.value);
        let restore_keys = field.restore_keys.into_iter().map(|key| key.value).collect();
        let (mode, always) = (mode.unwrap_or(CacheMode::Rw), always.unwrap_or(false));
        let path = path.filter(|_| good)?;
        Some(CachePlan { path, key, restore_keys, mode, always, bytes_max })
    }
}
