//! `uses`: the steps of a file stand behind the step that names it.
//!
//! That step stays, as the one that says whether they run at all, with which variables and params. They see each other's
//! outputs and the file's params, and nothing of the other steps of the job.

use std::rc::Rc;
use std::sync::Arc;

use super::parallel::marked;
use super::{Expander, branch, text_of};
use crate::bounds::NODES_MAX;
use crate::check;
use crate::codes::Code;
use crate::expression::{Shape, Value as Outcome};
use crate::file::{At, StepFile};
use crate::include::used_file;
use crate::render::quote;
use crate::source::Span;
use crate::yaml::{Entry, Kind, Node, Origin, Scalar, Value};

/// Marks a step that came by a `uses`; its value says how many steps before it that stands.
pub(crate) const WITHIN_KEY: &str = "step of a file";
/// Marks a `uses`; its value is the number of its params.
pub(crate) const PARAMS_KEY: &str = "params of a file";
/// Marks a `uses`; its value are the outputs that the file declares.
pub(crate) const OUTPUTS_KEY: &str = "outputs of a file";

impl Expander<'_> {
    /// Puts behind each step of one file that uses another the steps of that.
    pub(super) fn with_used(
        &mut self,
        steps: Vec<Rc<Node>>,
        ids: &Arc<[String]>,
        needs: &Shape,
    ) -> Vec<Rc<Node>> {
        if steps.iter().all(|step| used_file(step).is_none()) {
            return steps;
        }
        let mut all = Vec::with_capacity(steps.len());
        for (step, id) in steps.iter().zip(ids.iter()) {
            let Some((header, inner)) = self.used(step, id, needs) else {
                all.push(Rc::clone(step));
                continue;
            };
            all.push(header);
            for (distance, inner) in inner.into_iter().enumerate() {
                let nested = has_mark(&inner, WITHIN_KEY);
                all.push(if nested { inner } else { marked(&inner, WITHIN_KEY, distance + 1) });
            }
        }
        all
    }

    /// Settles a step that uses a file, and the steps of that. `None`: it uses none, or none that is there.
    fn used(&mut self, step: &Rc<Node>, id: &str, needs: &Shape) -> Option<(Rc<Node>, Vec<Rc<Node>>)> {
        let uses = used_file(step)?;
        let (name, file) = self.step_files.named_by(uses, self.source)?;
        if self.using.contains(&name) {
            return None;
        }
        let params = self.params_of(step, uses, file)?;
        self.made.0 += file.steps.iter().map(|step| step.weight()).sum::<usize>();
        if self.made.0 > NODES_MAX {
            let text = format!("all steps of files together have more than {NODES_MAX} values");
            self.problems.add(Code::FileTooBig, &uses.span, text);
            return None;
        }
        self.used.push(params.clone());
        let header = marked(&with_id(step, id), PARAMS_KEY, self.used.len() - 1);
        let outer = self.params(params);
        self.using.push(name);
        let (steps, ids) = self.level(&file.steps, needs);
        let outputs = file.outputs.as_ref().map(|outputs| {
            let scope = self.late(needs, Some((&ids, ids.len())), "outputs");
            self.members(outputs, &scope)
        });
        self.using.pop();
        self.params(outer);
        let header =
            outputs.map_or_else(|| Rc::clone(&header), |outputs| with_mark(&header, OUTPUTS_KEY, outputs));
        // The ids of nested ones are complete, and stand behind the step that they came by.
        let mut own = ids.iter();
        let named = steps.iter().map(|inner| {
            let local = match has_mark(inner, WITHIN_KEY) {
                true => text_of(inner, "id").unwrap_or_default(),
                false => own.next().map_or("", String::as_str),
            };
            with_id(&waiting(inner, id), &format!("{id}-{local}"))
        });
        Some((header, named.collect()))
    }

    /// Settles the params of a file for a step that uses it. `None`: one has no good value; reported.
    fn params_of(&mut self, step: &Rc<Node>, uses: &Node, file: &StepFile) -> Option<Outcome> {
        let with = self.with(step);
        let given = match &with {
            Some(with) => check::Given::Step { with, at: &uses.span },
            // What cannot be read has been told, and not that it is missing.
            None => check::Given::Nobody,
        };
        let params = check::params(&file.params, &given, &mut self.problems);
        (!params.missing).then(|| Outcome::map(params.values))
    }

    /// Reads what a step gives the file that it uses. `None`: it cannot be read; reported.
    fn with(&mut self, step: &Node) -> Option<Vec<(At<String>, String)>> {
        let Value::Map(entries) = &step.value else { return Some(Vec::new()) };
        let Some(with) = entries.iter().find(|entry| entry.key == "with") else { return Some(Vec::new()) };
        let Value::Map(members) = &with.value.value else {
            self.wrong_type(&with.value, "`with` must be a map");
            return None;
        };
        let mut given = Vec::with_capacity(members.len());
        for Entry { key, key_span, value } in members {
            match &value.value {
                Value::Scalar(scalar) if scalar.kind != Kind::Null => {
                    given.push((At { value: key.clone(), span: key_span.clone() }, scalar.text.clone()));
                }
                Value::Scalar(_) | Value::List(_) | Value::Map(_) | Value::Unreadable => {
                    self.wrong_type(value, &format!("{} in `with` must be text", quote(key)));
                }
            }
        }
        (given.len() == members.len()).then_some(given)
    }

    fn wrong_type(&mut self, node: &Node, expected: &str) {
        if !matches!(node.value, Value::Unreadable) {
            let text = format!("{expected}, found {}", node.describe());
            self.problems.add(Code::WrongType, &node.span, text);
        }
    }

    /// Exchanges the context `params`.
    fn params(&mut self, values: Outcome) -> Outcome {
        let params = self.contexts.values.iter_mut().find(|(name, _)| *name == "params");
        params.map(|(_, known)| std::mem::replace(known, values)).unwrap_or_default()
    }
}

/// Returns the stem of the file that a step uses, which names the step where nothing else does.
pub(super) fn stem(step: &Node) -> Option<&str> {
    let Value::Scalar(scalar) = &used_file(step)?.value else { return None };
    let name = scalar.text.rsplit_once('/').map_or(scalar.text.as_str(), |(_, name)| name);
    Some(name.split_once('.').map_or(name, |(stem, _)| stem))
}

/// Returns whether a step has a mark; marks stand last.
fn has_mark(step: &Node, key: &str) -> bool {
    let Value::Map(entries) = &step.value else { return false };
    entries.iter().any(|entry| entry.key == key && entry.key_span == step.span)
}

/// Returns a step with a mark of this value; it stands last, and at a place where no key of a file can stand.
fn with_mark(step: &Rc<Node>, key: &str, value: Rc<Node>) -> Rc<Node> {
    let Value::Map(entries) = &step.value else { return Rc::clone(step) };
    let mark = Entry { key: key.to_owned(), key_span: step.span.clone(), value };
    branch(step, Value::Map(entries.iter().cloned().chain([mark]).collect()))
}

/// Returns a step with this id, at the place of its own one.
fn with_id(step: &Rc<Node>, id: &str) -> Rc<Node> {
    replaced(step, "id", |own, at| {
        let span = own.map_or(at.start..at.start, |own| own.span.clone());
        Some(text(id.to_owned(), span))
    })
}

/// Returns a step whose `wait` and `cancel` name the steps of this file as the job calls them.
fn waiting(step: &Rc<Node>, prefix: &str) -> Rc<Node> {
    fn named(node: &Rc<Node>, prefix: &str) -> Rc<Node> {
        match &node.value {
            Value::Scalar(scalar) if scalar.kind != Kind::Null && scalar.text != "all" => {
                text(format!("{prefix}-{}", scalar.text), node.span.clone())
            }
            Value::List(list) => branch(node, Value::List(list.iter().map(|id| named(id, prefix)).collect())),
            Value::Scalar(_) | Value::Map(_) | Value::Unreadable => Rc::clone(node),
        }
    }
    let step = replaced(step, "wait", |own, _| own.map(|own| named(own, prefix)));
    replaced(&step, "cancel", |own, _| own.map(|own| named(own, prefix)))
}

/// Returns a step with another value under a key, added in front where there was none; text is a script.
fn replaced(
    step: &Rc<Node>,
    key: &str,
    value: impl FnOnce(Option<&Rc<Node>>, &Span) -> Option<Rc<Node>>,
) -> Rc<Node> {
    let entry =
        |key: &str, value| Entry { key: key.to_owned(), key_span: step.span.start..step.span.start, value };
    let mut entries = match &step.value {
        Value::Map(entries) => entries.clone(),
        Value::Scalar(scalar) if scalar.kind != Kind::Null => vec![entry("run", Rc::clone(step))],
        Value::Scalar(_) | Value::List(_) | Value::Unreadable => return Rc::clone(step),
    };
    let own = entries.iter_mut().find(|entry| entry.key == key);
    let Some(value) = value(own.as_ref().map(|entry| &entry.value), &step.span) else {
        return Rc::clone(step);
    };
    match own {
        Some(own) => own.value = value,
        None => entries.insert(0, entry(key, value)),
    }
    branch(step, Value::Map(entries))
}

fn text(text: String, span: Span) -> Rc<Node> {
    let bytes = text.len();
    Rc::new(Node::leaf(
        span,
        Value::Scalar(Scalar { text, kind: Kind::Text, origin: Origin::Computed }),
        bytes,
    ))
}
