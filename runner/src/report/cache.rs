//! What is said of caches.

use serde::Serialize;

use super::format::{count, duration, size};
use super::plain::show_name;
use super::sink::Sink;
use crate::event::What;
use crate::run::caches::{CacheLimits, KeptCache, PrunedCaches};

/// The line of an event of a cache. `job`: which, where there are several.
pub(super) fn line(what: &What, job: Option<&str>) -> Option<String> {
    let label = |path: &str| match job {
        Some(job) => format!("cache {job}: {}", show_name(path)),
        None => format!("cache {}", show_name(path)),
    };
    Some(match what {
        What::CacheRestore { cache } => {
            let label = label(&cache.path);
            match &cache.restored_from {
                None => format!("{label}: nothing under {}", show_name(&cache.key)),
                Some(key) => {
                    let like = match *key == cache.key {
                        true => String::new(),
                        false => format!(", in place of {}", show_name(&cache.key)),
                    };
                    format!("{label} restored from {} ({}){like}", show_name(key), size(cache.restored_bytes))
                }
            }
        }
        What::CacheSave { cache } => {
            let bytes = cache.saved_bytes.map(size).unwrap_or_default();
            format!("{} kept as {} ({bytes})", label(&cache.path), show_name(&cache.key))
        }
        _ => return None,
    })
}

/// Prints caches as a table, or an array.
pub fn list(sink: &mut Sink, caches: &[KeptCache], as_json: bool) {
    if as_json {
        return print(sink, &caches);
    }
    for cache in caches {
        let (path, key) = (show_name(&cache.path), show_name(&cache.key));
        sink.line(&format!("{:>8}  used {:>10}  {path}  {key}", size(cache.bytes), age(cache)));
    }
    sink.flush();
}

/// Says which caches went.
pub fn removed(sink: &mut Sink, caches: &[KeptCache]) {
    for cache in caches {
        sink.line(&gone("removed", cache));
    }
    sink.flush();
}

fn gone(verb: &str, cache: &KeptCache) -> String {
    let (path, key) = (show_name(&cache.path), show_name(&cache.key));
    format!("{verb} {path} {key}: {}, used {}", size(cache.bytes), age(cache))
}

/// When it was used last.
fn age(cache: &KeptCache) -> String {
    match cache.age_s {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", duration(seconds as f64)),
    }
}

/// Prints which caches went, or would go, and what is left.
pub fn pruned(sink: &mut Sink, pruned: &PrunedCaches, limits: CacheLimits, as_json: bool) {
    if as_json {
        return print(sink, pruned);
    }
    let verb = if limits.dry_run { "would remove" } else { "removed" };
    for cache in &pruned.removed {
        sink.line(&gone(verb, cache));
    }
    sink.line(&format!("left: {}, {}", count(pruned.kept, "cache"), size(pruned.kept_bytes)));
    sink.flush();
}

fn print(sink: &mut Sink, value: &impl Serialize) {
    // Strings and numbers only: serialising cannot fail.
    if let Ok(text) = serde_json::to_string_pretty(value) {
        sink.line(&text);
    }
    sink.flush();
}
