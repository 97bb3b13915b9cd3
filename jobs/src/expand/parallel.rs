//! `parallel`: its members become steps of their own, and it the step that waits for them. Marks that tell whose steps are.

use std::rc::Rc;

use crate::yaml::{Entry, Kind, Node, Origin, Scalar, Value};

/// Marks a member of a `parallel`; its value says how many steps behind it that stands.
pub(crate) const MEMBER_KEY: &str = "parallel member";

/// Returns the steps with all members before what they are members of, and for each step the place from which on it sees
/// nothing above it.
pub(super) fn flat(list: &[Rc<Node>]) -> (Vec<Rc<Node>>, Vec<usize>) {
    let (mut flat, mut firsts) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
    for step in list {
        let members = members(step);
        let (first, end) = (flat.len(), flat.len() + members.len());
        for (at, member) in (first..end).zip(members) {
            flat.push(marked(member, MEMBER_KEY, end - at));
            firsts.push(first);
        }
        flat.push(Rc::clone(step));
        firsts.push(end);
    }
    (flat, firsts)
}

/// The members of a `parallel`; none where something else stands.
fn members(step: &Node) -> &[Rc<Node>] {
    let Value::Map(entries) = &step.value else { return &[] };
    match entries.iter().find(|entry| entry.key == "parallel").map(|entry| &entry.value.value) {
        Some(Value::List(members)) => members,
        Some(Value::Scalar(_) | Value::Map(_) | Value::Unreadable) | None => &[],
    }
}

/// A step with a mark: an entry at its end, at a place where no key of a file can stand. Text is a script; what is neither
/// stays what it is, and is refused.
pub(super) fn marked(step: &Rc<Node>, key: &str, number: usize) -> Rc<Node> {
    let span = step.span.clone();
    let text = number.to_string();
    let bytes = text.len();
    let scalar = Scalar { text, kind: Kind::Int, origin: Origin::Computed };
    let value = Rc::new(Node::leaf(span.clone(), Value::Scalar(scalar), bytes));
    let mark = Entry { key: key.to_owned(), key_span: span.clone(), value };
    let entries = match &step.value {
        Value::Map(entries) => entries.iter().cloned().chain([mark]).collect(),
        Value::Scalar(scalar) if scalar.kind != Kind::Null => {
            vec![Entry { key: "run".to_owned(), key_span: span.clone(), value: Rc::clone(step) }, mark]
        }
        Value::Scalar(_) | Value::List(_) | Value::Unreadable => return Rc::clone(step),
    };
    Rc::new(Node::branch(span, Value::Map(entries)))
}
