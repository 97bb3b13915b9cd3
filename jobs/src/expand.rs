//! `${{ }}` in a job's values: what can be settled before anything runs is replaced by what it comes to; what waits for
//! steps or other jobs is parsed, its names tested, and left for later. `run` is not touched: scripts are not made of data.

use std::rc::Rc;
use std::sync::Arc;

use crate::bounds::{EXPANDED_BYTES_MAX, NODES_MAX};
use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::expression::{
    Contexts, Expression, Fault, FaultKind, OPEN, Part, Scope, Shape, Template, Value as Outcome,
};
use crate::include::StepFiles;
use crate::job::Cell;
use crate::names;
use crate::read::EARLY_KEYS;
use crate::source::{Source, Span};
use crate::yaml::{Entry, Kind, Node, Origin, Scalar, Value};

mod locate;
pub(crate) mod parallel;
pub(crate) mod uses;

/// Contexts that exist while a job runs, and not before.
const LATER: &[&str] = &["env", "steps", "needs", "job", "run"];
/// Members of a step in the context `steps`.
const OF_A_STEP: [&str; 3] = ["outcome", "conclusion", "outputs"];

/// Settles expressions. One serves for a whole file: it counts what all of them come to.
pub(crate) struct Expander<'a> {
    pub source: &'a Source,
    /// The files whose steps are used.
    step_files: &'a StepFiles,
    /// The params of each `uses` of the job's cell that was entered last.
    pub used: Vec<Outcome>,
    /// The files that are being settled, each used by the one before.
    using: Vec<String>,
    /// What was found wrong since it was last taken out.
    pub problems: Problems,
    /// What is known before anything runs.
    contexts: Contexts,
    /// How many of them there are without the cell's.
    shared: usize,
    /// What any cell of the job has: what only this one lacks is null, not unknown.
    matrix: Shape,
    /// A param has no value: what depends on it is passed over in silence.
    pub params_missing: bool,
    /// Nodes and bytes made so far.
    made: (usize, usize),
}

impl<'a> Expander<'a> {
    /// `values`: contexts of the whole file.
    pub fn new(
        source: &'a Source,
        step_files: &'a StepFiles,
        values: Vec<(&'static str, Outcome)>,
    ) -> Expander<'a> {
        let shared = values.len();
        let contexts = Contexts { values, ..Contexts::default() };
        let problems = Problems::default();
        let matrix = Shape::Any;
        Expander {
            source,
            step_files,
            used: Vec::new(),
            using: Vec::new(),
            problems,
            contexts,
            shared,
            matrix,
            params_missing: false,
            made: (0, 0),
        }
    }

    /// Turns to the cells of a job.
    pub fn enter_job(&mut self, cells: &[Cell]) {
        let shapes = cells.iter().map(|cell| Shape::of(&cell.matrix));
        self.matrix = shapes.reduce(Shape::or).unwrap_or(Shape::Any);
    }

    /// Turns to a cell, whose values are the context `matrix`.
    pub fn enter(&mut self, cell: &Cell) {
        self.used.clear();
        self.contexts.values.truncate(self.shared);
        if cell.name.is_some() {
            self.contexts.values.push(("matrix", cell.matrix.clone()));
        }
    }

    /// Settles the keys that come before the matrix is multiplied out.
    pub fn early(&mut self, entries: &[Entry]) -> Vec<Entry> {
        self.contexts.values.truncate(self.shared);
        let early = entries.iter().filter(|entry| EARLY_KEYS.contains(&entry.key.as_str()));
        let settled = |entry: &Entry| Entry { value: self.value(&entry.value, &entry.key), ..entry.clone() };
        early.map(settled).collect()
    }

    /// Settles the keys of a job. `needs`: what the context of this name has.
    pub fn job(&mut self, entries: &[Entry], needs: &Shape) -> Vec<Entry> {
        let settled = |this: &mut Self, entry: &Entry| this.value(&entry.value, &entry.key);
        let mut job: Vec<Entry> = Vec::with_capacity(entries.len());
        let mut ids: Arc<[String]> = Arc::from([]);
        for entry in entries.iter().filter(|entry| !EARLY_KEYS.contains(&entry.key.as_str())) {
            let value = match entry.key.as_str() {
                "steps" => {
                    let (steps, of_steps) = self.steps(&entry.value, needs);
                    ids = of_steps;
                    steps
                }
                "if" => self.condition(&entry.value, &self.late(needs, None, "if")),
                "env" => self.members(&entry.value, &self.late(needs, None, "env")),
                "continue-on-error" => {
                    self.late_value(&entry.value, &self.late(needs, None, "continue-on-error"))
                }
                "setup" => self.setup(&entry.value),
                "services" => self.services(&entry.value, needs),
                "caches" => self.caches(&entry.value, needs),
                "outputs" => Rc::clone(&entry.value),
                _ => settled(self, entry),
            };
            job.push(Entry { value, ..entry.clone() });
        }
        // After the steps, wherever it stands: it names them.
        for entry in job.iter_mut().filter(|entry| entry.key == "outputs") {
            let scope = self.late(needs, Some((&ids, ids.len())), "outputs");
            entry.value = self.members(&entry.value, &scope);
        }
        job
    }

    /// Settles what all steps start from: nothing of it may wait, for its layers are known by it.
    fn setup(&mut self, node: &Rc<Node>) -> Rc<Node> {
        let Value::List(list) = &node.value else { return Rc::clone(node) };
        let settled = list.iter().map(|entry| {
            self.entries(entry, |this, entry| match entry.key.as_str() {
                "run" => Rc::clone(&entry.value),
                key => this.value(&entry.value, key),
            })
        });
        branch(node, Value::List(settled.collect()))
    }

    /// Settles caches but for their keys, which may name files of the workspace.
    fn caches(&mut self, node: &Rc<Node>, needs: &Shape) -> Rc<Node> {
        let Value::List(list) = &node.value else { return self.value(node, "caches") };
        let mut scope = self.late(needs, None, "caches");
        scope.files = true;
        let mut cache = |cache: &Rc<Node>| match &cache.value {
            Value::Map(_) => {
                self.entries(cache, |this, entry| match (entry.key.as_str(), &entry.value.value) {
                    ("key", _) => this.late_value(&entry.value, &scope),
                    ("restore-keys", Value::List(keys)) => {
                        let keys = keys.iter().map(|key| this.late_value(key, &scope)).collect();
                        branch(&entry.value, Value::List(keys))
                    }
                    (key, _) => this.value(&entry.value, key),
                })
            }
            Value::Scalar(_) | Value::List(_) | Value::Unreadable => self.value(cache, "caches"),
        };
        branch(node, Value::List(list.iter().map(&mut cache).collect()))
    }

    /// Settles services but for what they run; their variables may wait for other jobs.
    fn services(&mut self, node: &Rc<Node>, needs: &Shape) -> Rc<Node> {
        self.entries(node, |this, service| {
            if !matches!(service.value.value, Value::Map(_)) {
                return this.value(&service.value, "services");
            }
            this.entries(&service.value, |this, entry| match entry.key.as_str() {
                "run" => Rc::clone(&entry.value),
                "env" => this.members(&entry.value, &this.late(needs, None, "env")),
                "ready" => this.entries(&entry.value, |this, entry| match entry.key.as_str() {
                    "run" => Rc::clone(&entry.value),
                    key => this.value(&entry.value, key),
                }),
                key => this.value(&entry.value, key),
            })
        })
    }

    /// Settles the steps and returns their ids: a step may name those above it.
    fn steps(&mut self, node: &Rc<Node>, needs: &Shape) -> (Rc<Node>, Arc<[String]>) {
        // Steps that an expression came to would be scripts made of data: what is no list stays what it is.
        let Value::List(list) = &node.value else { return (Rc::clone(node), Arc::from([])) };
        let (steps, ids) = self.level(list, needs);
        let same = list.len() == steps.len() && steps.iter().zip(list).all(|(new, old)| Rc::ptr_eq(new, old));
        let node = if same { Rc::clone(node) } else { branch(node, Value::List(steps)) };
        (node, ids)
    }

    /// Settles the steps of one file, and returns them with those of the files that they use; and the ids of its own.
    fn level(&mut self, list: &[Rc<Node>], needs: &Shape) -> (Vec<Rc<Node>>, Arc<[String]>) {
        let (list, firsts) = parallel::flat(list);
        let early: Vec<Rc<Node>> = list.iter().map(|step| self.step(step)).collect();
        let name = |step| text_of(step, "name").or_else(|| uses::stem(step));
        let own = early.iter().map(|step| (text_of(step, "id"), name(step)));
        let ids: Arc<[String]> = names::step_ids(&own.collect::<Vec<_>>()).into();
        // The members of a `parallel` see what is above all of them.
        let above = |at: usize| firsts.get(at).copied().unwrap_or(at);
        let steps = early.iter().enumerate();
        let steps = steps.map(|(at, step)| self.late_of_step(step, needs, (&ids, above(at))));
        let steps: Vec<Rc<Node>> = steps.collect();
        (self.with_used(steps, &ids, needs), ids)
    }

    /// Settles what of a step can be settled early.
    fn step(&mut self, node: &Rc<Node>) -> Rc<Node> {
        self.entries(node, |this, entry| match entry.key.as_str() {
            "run" | "if" | "env" | "continue-on-error" | "parallel" | "uses" => Rc::clone(&entry.value),
            key => this.value(&entry.value, key),
        })
    }

    fn late_of_step(&mut self, node: &Rc<Node>, needs: &Shape, above: (&Arc<[String]>, usize)) -> Rc<Node> {
        self.entries(node, |this, entry| match entry.key.as_str() {
            "if" => this.condition(&entry.value, &this.late(needs, Some(above), "if")),
            "env" => this.members(&entry.value, &this.late(needs, Some(above), "env")),
            "continue-on-error" => {
                this.late_value(&entry.value, &this.late(needs, Some(above), "continue-on-error"))
            }
            _ => Rc::clone(&entry.value),
        })
    }

    /// Changes a map's values; one that does not change is shared, and a node that is no map is left alone.
    fn entries(
        &mut self,
        node: &Rc<Node>,
        mut change: impl FnMut(&mut Self, &Entry) -> Rc<Node>,
    ) -> Rc<Node> {
        let Value::Map(entries) = &node.value else { return Rc::clone(node) };
        let changed: Vec<Entry> =
            entries.iter().map(|entry| Entry { value: change(self, entry), ..entry.clone() }).collect();
        let same = changed.iter().zip(entries).all(|(new, old)| Rc::ptr_eq(&new.value, &old.value));
        if same { Rc::clone(node) } else { branch(node, Value::Map(changed)) }
    }

    /// The names that exist before anything runs.
    fn scope(&self, key: &str) -> Scope {
        let shape = |name: &str, value: &Outcome| match name {
            "matrix" => self.matrix.clone(),
            _ => Shape::of(value),
        };
        let known = self.contexts.values.iter().map(|(name, value)| (*name, shape(name, value))).collect();
        Scope { known, later: LATER, status: false, files: false, key: format!("`{key}`") }
    }

    /// The names that exist while the job runs; `steps`: all ids, and how many of them are above.
    fn late(&self, needs: &Shape, steps: Option<(&Arc<[String]>, usize)>, key: &str) -> Scope {
        let mut scope = self.scope(key);
        scope.status = key == "if";
        scope.known.push(("needs", needs.clone()));
        scope.known.push(("run", Shape::members(["id"])));
        scope.known.push(("job", Shape::members(["id", "status"])));
        if steps.is_none() {
            scope.key = format!("the job's `{key}`");
        }
        if let Some((ids, above)) = steps {
            let step = Arc::new(Shape::members(OF_A_STEP));
            scope.files = true;
            scope.known.push(("env", Shape::Any));
            scope.known.push(("steps", Shape::Among(Arc::clone(ids), above, step)));
        }
        scope
    }

    /// Settles a value with everything below it.
    pub fn value(&mut self, node: &Rc<Node>, key: &str) -> Rc<Node> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.contains(OPEN) => {
                let scope = self.scope(key);
                self.scalar(node, scalar, &scope, false)
            }
            Value::Scalar(_) | Value::Unreadable => Rc::clone(node),
            Value::List(list) => {
                let new: Vec<Rc<Node>> = list.iter().map(|entry| self.value(entry, key)).collect();
                let same = new.iter().zip(list).all(|(new, old)| Rc::ptr_eq(new, old));
                if same { Rc::clone(node) } else { branch(node, Value::List(new)) }
            }
            Value::Map(_) => self.entries(node, |this, entry| this.value(&entry.value, key)),
        }
    }

    /// Settles the values of a map, or leaves them for later.
    fn members(&mut self, node: &Rc<Node>, scope: &Scope) -> Rc<Node> {
        match &node.value {
            Value::Map(_) => self.entries(node, |this, entry| this.late_value(&entry.value, scope)),
            Value::Scalar(_) | Value::List(_) | Value::Unreadable => {
                self.value(node, scope.key.trim_matches('`'))
            }
        }
    }

    fn late_value(&mut self, node: &Rc<Node>, scope: &Scope) -> Rc<Node> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.contains(OPEN) => self.scalar(node, scalar, scope, true),
            Value::Scalar(_) | Value::Unreadable => Rc::clone(node),
            Value::List(_) | Value::Map(_) => self.value(node, scope.key.trim_matches('`')),
        }
    }

    fn scalar(&mut self, node: &Rc<Node>, scalar: &Scalar, scope: &Scope, may_wait: bool) -> Rc<Node> {
        let template = match Template::parse(&scalar.text) {
            Ok(template) => template,
            Err(fault) => return self.fault(node, scalar, &fault, Code::Expression),
        };
        let mut waits = false;
        for part in template.parts() {
            let Part::Expression(expression, at) = part else { continue };
            if let Err(fault) = scope.test(expression) {
                return self.fault(node, scalar, &fault.moved(*at), Code::Expression);
            }
            if self.depends_on_missing(expression) {
                return Rc::new(Node::leaf(node.span.clone(), Value::Unreadable, 0));
            }
            waits |= may_wait && self.waits(expression);
        }
        if waits {
            let origin = Origin::Late(Rc::new(template));
            let late = Scalar { text: scalar.text.clone(), kind: Kind::Text, origin };
            return Rc::new(Node::leaf(node.span.clone(), Value::Scalar(late), scalar.text.len()));
        }
        match template.evaluate(&self.contexts) {
            Ok(value) => self.made(node, &value),
            Err(fault) => self.fault(node, scalar, &fault, Code::Evaluation),
        }
    }

    /// Reads a condition, with `${{ }}` around it or without.
    fn condition(&mut self, node: &Rc<Node>, scope: &Scope) -> Rc<Node> {
        let Value::Scalar(scalar) = &node.value else { return self.value(node, "if") };
        if scalar.kind == Kind::Null {
            return Rc::clone(node);
        }
        let expression = match whole(&scalar.text) {
            Ok((expression, at)) => scope.test(&expression).map(|()| expression).map_err(|f| f.moved(at)),
            Err(fault) => Err(fault),
        };
        match expression {
            Ok(expression) => {
                let origin = Origin::Condition(Rc::new(expression));
                let condition = Scalar { text: scalar.text.clone(), kind: Kind::Text, origin };
                Rc::new(Node::leaf(node.span.clone(), Value::Scalar(condition), scalar.text.len()))
            }
            Err(fault) => self.fault(node, scalar, &fault, Code::Expression),
        }
    }

    fn depends_on_missing(&self, expression: &Expression) -> bool {
        self.params_missing && expression.contexts().iter().any(|(name, _)| *name == "params")
    }

    fn waits(&self, expression: &Expression) -> bool {
        let live = expression.asks_status() || expression.asks_files();
        live || expression.contexts().iter().any(|(name, _)| LATER.contains(name))
    }

    fn fault(&mut self, node: &Node, scalar: &Scalar, fault: &Fault, code: Code) -> Rc<Node> {
        let code = if fault.kind == FaultKind::Secrets { Code::SecretContext } else { code };
        let span = locate::span(&self.source.text, &node.span, &scalar.text, &fault.at);
        let problem = self.problems.add(code, span, fault.to_string());
        if let Some(hint) = fault.kind.hint() {
            problem.hint(hint);
        }
        Rc::new(Node::leaf(node.span.clone(), Value::Unreadable, 0))
    }

    /// Makes a node of a value, within what a whole file may come to.
    fn made(&mut self, node: &Node, value: &Outcome) -> Rc<Node> {
        let made = node_of(value, &node.span);
        self.made.0 += made.weight();
        self.made.1 += made.bytes();
        if self.made.0 > NODES_MAX || self.made.1 > EXPANDED_BYTES_MAX {
            let text = format!(
                "all expressions together come to more than {NODES_MAX} values or {EXPANDED_BYTES_MAX} bytes"
            );
            self.problems.add(Code::FileTooBig, &node.span, text);
            return Rc::new(Node::leaf(node.span.clone(), Value::Unreadable, 0));
        }
        made
    }
}

/// Reads text that is one expression; returns it and the byte at which it begins.
fn whole(text: &str) -> Result<(Expression, usize), Fault> {
    if !text.contains(OPEN) {
        let expression = Expression::parse(text)?;
        return Ok((expression, text.len() - text.trim_start().len()));
    }
    let trimmed = text.trim();
    let start = text.len() - text.trim_start().len();
    match Template::parse(trimmed).map_err(|fault| fault.moved(start))?.parts() {
        [Part::Expression(expression, at)] => Ok((expression.clone(), start + at)),
        _ => {
            let at = text.find(OPEN).unwrap_or(0);
            Err(Fault { kind: FaultKind::Whole, at: at..at + OPEN.len() })
        }
    }
}

/// Text takes the kind that it would have without quotes, so that a param can be a number; it is never null.
fn node_of(value: &Outcome, span: &Span) -> Rc<Node> {
    let scalar = |text: String, kind: Kind| {
        let bytes = text.len();
        Node::leaf(span.clone(), Value::Scalar(Scalar { text, kind, origin: Origin::Computed }), bytes)
    };
    Rc::new(match value {
        Outcome::Null => scalar(String::new(), Kind::Null),
        Outcome::Bool(value) => scalar(value.to_string(), Kind::Bool(*value)),
        Outcome::Number(number) => {
            let kind = if number.fract() == 0.0 { Kind::Int } else { Kind::Float };
            scalar(value.to_text().unwrap_or_default(), kind)
        }
        Outcome::Text(text) => {
            let kind = Scalar::plain(text).kind;
            scalar(text.to_string(), if kind == Kind::Null { Kind::Text } else { kind })
        }
        Outcome::List(list) => {
            let nodes = list.iter().map(|value| node_of(value, span)).collect();
            Node::branch(span.clone(), Value::List(nodes))
        }
        Outcome::Map(entries) => {
            let entry = |(key, value): &(String, Outcome)| Entry {
                key: key.clone(),
                key_span: span.clone(),
                value: node_of(value, span),
            };
            Node::branch(span.clone(), Value::Map(entries.iter().map(entry).collect()))
        }
    })
}

fn branch(node: &Node, value: Value) -> Rc<Node> {
    Rc::new(Node::branch(node.span.clone(), value))
}

/// Returns a member of a step when it is text.
fn text_of<'n>(step: &'n Node, key: &str) -> Option<&'n str> {
    let Value::Map(entries) = &step.value else { return None };
    let entry = entries.iter().find(|entry| entry.key == key)?;
    match &entry.value.value {
        Value::Scalar(scalar) if scalar.kind != Kind::Null => Some(&scalar.text),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) | Value::Unreadable => None,
    }
}

/// Returns the names of a map's members, as far as it is one.
pub(crate) fn members_of(entries: &[Entry], key: &str) -> Vec<String> {
    let found = entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value.value);
    match found {
        Some(Value::Map(members)) => members.iter().map(|member| member.key.clone()).collect(),
        Some(Value::Scalar(_) | Value::List(_) | Value::Unreadable) | None => Vec::new(),
    }
}
