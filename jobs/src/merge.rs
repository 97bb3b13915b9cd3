//! Maps of the file laid over others: a job over the file's defaults, a file over those that it includes.
//!
//! Scalars and lists are replaced; the maps whose members stand for themselves are merged member by member.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::yaml::{Entry, Node, Value};

/// Keys whose maps are merged member by member; all others are replaced.
const MERGED_KEYS: &[&str] = &["env", "limits", "params", "services"];

/// Lays the members of a job over others.
pub(crate) fn job(own: &[Entry], under: &[Entry]) -> Vec<Entry> {
    entries(own, under, &|key, own, under| match MERGED_KEYS.contains(&key) {
        true => maps(own, under, &|_, own, _| Rc::clone(own)),
        false => Rc::clone(own),
    })
}

/// Lays the members of a file over those of another; their jobs are joined, and jobs of one name merged.
pub(crate) fn file(own: &[Entry], under: &[Entry]) -> Vec<Entry> {
    entries(own, under, &|key, own, under| match key {
        "jobs" => maps(own, under, &|_, own, under| match (&own.value, &under.value) {
            (Value::Map(entries), Value::Map(others)) => {
                Rc::new(Node::branch(own.span.clone(), Value::Map(job(entries, others))))
            }
            _ => Rc::clone(own),
        }),
        key if MERGED_KEYS.contains(&key) => maps(own, under, &|_, own, _| Rc::clone(own)),
        _ => Rc::clone(own),
    })
}

/// Makes one value of two that have the same key.
type Both<'b> = &'b dyn Fn(&str, &Rc<Node>, &Rc<Node>) -> Rc<Node>;

/// What one lacks comes first: it is what is overridden.
fn entries(own: &[Entry], under: &[Entry], both: Both<'_>) -> Vec<Entry> {
    let others: HashMap<&str, &Entry> = under.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let have: HashSet<&str> = own.iter().map(|entry| entry.key.as_str()).collect();
    let lacking = under.iter().filter(|entry| !have.contains(entry.key.as_str())).cloned();
    let merged = own.iter().map(|entry| match others.get(entry.key.as_str()) {
        Some(other) => Entry { value: both(&entry.key, &entry.value, &other.value), ..entry.clone() },
        None => entry.clone(),
    });
    lacking.chain(merged).collect()
}

/// Merges two maps; anything else stays as it is.
fn maps(own: &Rc<Node>, under: &Rc<Node>, both: Both<'_>) -> Rc<Node> {
    match (&own.value, &under.value) {
        (Value::Map(mine), Value::Map(others)) => {
            Rc::new(Node::branch(own.span.clone(), Value::Map(entries(mine, others, both))))
        }
        _ => Rc::clone(own),
    }
}
