//! The steps.

use super::{Place, Reader, STEP_KEYS};
use crate::bounds::STEPS_MAX;
use crate::codes::Code;
use crate::expand::parallel::MEMBER_KEY;
use crate::expand::uses::{OUTPUTS_KEY, PARAMS_KEY, WITHIN_KEY};
use crate::file::{At, Required, RunField, StepField, UsesField};
use crate::render::quote;
use crate::source::Span;
use crate::yaml::{Entry, Kind, Node, Value};

impl Reader<'_> {
    pub(super) fn steps(&mut self, node: &Node, key: &Span) -> Option<At<Vec<StepField>>> {
        if let Value::Scalar(scalar) = &node.value
            && scalar.kind == Kind::Null
        {
            // `steps:` with nothing below it is a job without steps, not a wrong type.
            return Some(At { value: Vec::new(), span: key.clone() });
        }
        let list = self.list(node, "steps", "steps", "")?;
        self.at_most(list.len(), STEPS_MAX, "steps", key);
        let steps = list
            .iter()
            .enumerate()
            .take(STEPS_MAX)
            .map(|(at, entry)| self.step(entry, at + 1, "step"))
            .collect();
        Some(At { value: steps, span: if list.is_empty() { key.clone() } else { node.span.clone() } })
    }

    /// Reads one step, which messages call by `kind`. A list or nothing in its place is reported and leaves a step whose `run` is unreadable.
    pub(super) fn step(&mut self, node: &Node, number: usize, kind: &str) -> StepField {
        let mut step =
            StepField { span: node.span.clone(), label: format!("{kind} {number}"), ..StepField::default() };
        let map = match &node.value {
            Value::Map(map) => map,
            Value::Scalar(scalar) if scalar.kind != Kind::Null => {
                step.run = Required::read(self.script(node, &format!(" in {}", step.label)));
                return step;
            }
            Value::Scalar(_) | Value::List(_) | Value::Unreadable => {
                if !matches!(node.value, Value::Unreadable) {
                    self.wrong_type(node, "a step", "text or a map", "");
                }
                step.run = Required::Unreadable;
                return step;
            }
        };
        if let Some(label) = ["id", "name"].iter().find_map(|key| label(map, key)) {
            step.label = format!("{kind} {}", quote(label));
        }
        let place = format!(" in {}", step.label);
        let place = place.as_str();
        let (map, marks) = unmarked(map, &node.span);
        step.member_of = marks.behind.map(|distance| number - 1 + distance);
        step.within = marks.before.and_then(|distance| (number - 1).checked_sub(distance));
        let meant = self.known_keys(map, STEP_KEYS, Place { within: place, ignored_prefix: None });
        step.run = Required::unless_meant("run", &meant);
        for Entry { key, value, key_span } in map {
            step.keys.push((key.clone(), key_span.clone()));
            match key.as_str() {
                "background" => {
                    step.background = self.boolean(value, "background", place).is_some_and(|is| is.value);
                }
                "wait" => step.wait = Some(self.waited_for(value, place)),
                "cancel" => step.cancel = self.text_as(value, "cancel", "a step's id", place),
                "uses" => {
                    let path = self.text_as(value, "uses", "the path of a file with steps", place);
                    let outputs = marks.outputs.map(|node| self.templates(node, "outputs", place));
                    let outputs = outputs.unwrap_or_default();
                    step.uses = path.map(|file| UsesField { file, params: marks.params, outputs });
                }
                "parallel" => step.parallel = self.members(value, key_span, place),
                "run" => step.run = Required::read(self.run(value, place)),
                "id" => step.id = self.text(value, "id", place),
                "name" => step.name = self.text(value, "name", place),
                "if" => step.condition = self.condition(value, place),
                "env" => step.env = self.env(value, place),
                "shell" => step.shell = self.shell(value, place),
                "workdir" => step.workdir = self.text(value, "workdir", place),
                "user" => step.user = self.text(value, "user", place),
                "timeout" => step.timeout = self.duration(value, "timeout", place),
                "seccomp" => step.seccomp = self.seccomp(value, place),
                "privileges" => step.privileges = self.privileges(value, place),
                "continue-on-error" => {
                    step.continue_on_error = self.switch(value, "continue-on-error", place);
                }
                "expect-exit" => step.expect_exit = self.exit_codes(value, place),
                "secrets" => step.secrets = self.secrets(value, place, true),
                "retry" => step.retry = self.retry(value, place),
                "quiet-timeout" => step.quiet_timeout = self.duration(value, "quiet-timeout", place),
                "artifacts" => step.artifacts = self.artifacts(value, place),
                _ => {}
            }
        }
        step
    }

    /// Reads ids of steps: one or several. What cannot be read is reported and stands for none.
    fn waited_for(&mut self, node: &Node, place: &str) -> At<Vec<At<String>>> {
        let ids = match &node.value {
            Value::List(_) => self.texts(node, "wait", "ids of steps", place).map(|ids| ids.value),
            Value::Scalar(_) | Value::Map(_) | Value::Unreadable => {
                self.text_as(node, "wait", "a step's id, a list of them, or `all`", place).map(|id| vec![id])
            }
        };
        if ids.as_ref().is_some_and(Vec::is_empty) {
            self.problems.add(Code::NoBackground, &node.span, format!("`wait`{place} names no step"));
        }
        At { value: ids.unwrap_or_default(), span: node.span.clone() }
    }

    /// Tests that `parallel` has members; they are read as steps of their own.
    fn members(&mut self, node: &Node, key: &Span, place: &str) -> Option<Span> {
        let nothing = matches!(&node.value, Value::Scalar(scalar) if scalar.kind == Kind::Null);
        let list = if nothing { Some(&[][..]) } else { self.list(node, "parallel", "steps", place) };
        if list?.is_empty() {
            self.problems.add(Code::StepForm, key, format!("`parallel`{place} has no steps"));
        }
        Some(key.clone())
    }

    pub(super) fn run(&mut self, node: &Node, place: &str) -> Option<At<RunField>> {
        let Value::List(list) = &node.value else { return self.script(node, place) };
        let within = format!(" in `run`{place}");
        let mut arguments = Vec::with_capacity(list.len());
        let mut whole = true;
        for entry in list {
            let expression = self.expression_in_run(entry, place);
            let argument = if expression { None } else { self.text(entry, "an argument", &within) };
            whole &= argument.is_some();
            arguments.extend(argument);
        }
        whole.then(|| At { value: RunField::Argv(arguments), span: node.span.clone() })
    }

    fn script(&mut self, node: &Node, place: &str) -> Option<At<RunField>> {
        if self.expression_in_run(node, place) {
            return None;
        }
        let Value::Scalar(scalar) = &node.value else {
            if !matches!(node.value, Value::Unreadable) {
                self.wrong_type(node, "run", "text or a list of arguments", place);
            }
            return None;
        };
        if scalar.kind == Kind::Null {
            self.problems.add(Code::EmptyRun, &node.span, format!("`run` is empty{place}"));
            return None;
        }
        if !self.without_nul(node, scalar) {
            return None;
        }
        Some(At { value: RunField::Script(scalar.text.clone()), span: node.span.clone() })
    }

    /// Reports `${{` inside a script: scripts are never made from data.
    fn expression_in_run(&mut self, node: &Node, place: &str) -> bool {
        let Value::Scalar(scalar) = &node.value else { return false };
        let found = scalar.text.contains("${{");
        if found {
            let at = self.find(&node.span, "${{");
            let expression = self.source.text.get(at.clone()).unwrap_or("${{");
            let text = format!("{} inside `run`{place}; scripts are not interpolated", quote(expression));
            let hint = "put the value into `env` and use it in the script as \"$NAME\"";
            self.problems.add(Code::ExpressionInRun, at, text).hint(hint);
        }
        found
    }

    fn exit_codes(&mut self, node: &Node, place: &str) -> Option<At<Vec<At<i64>>>> {
        let key = "expect-exit";
        let codes = match &node.value {
            Value::List(list) => {
                let within = format!(" in `{key}`{place}");
                let codes: Vec<_> =
                    list.iter().map(|entry| self.integer(entry, "an entry", &within)).collect();
                codes.into_iter().collect::<Option<Vec<_>>>()?
            }
            Value::Scalar(_) | Value::Map(_) | Value::Unreadable => vec![self.integer(node, key, place)?],
        };
        Some(At { value: codes, span: node.span.clone() })
    }
}

/// What an expanded step is marked with.
#[derive(Default)]
struct Marks<'m> {
    /// How many steps behind it the `parallel` stands that it is a member of.
    behind: Option<usize>,
    /// How many steps before it the `uses` stands that it came by.
    before: Option<usize>,
    /// The number of its params.
    params: Option<usize>,
    /// The outputs of its file.
    outputs: Option<&'m Node>,
}

/// Takes the marks off a step: they stand last, and where no key of a file can stand.
fn unmarked<'m>(mut map: &'m [Entry], step: &Span) -> (&'m [Entry], Marks<'m>) {
    let mut marks = Marks::default();
    while let Some((last, rest)) = map.split_last() {
        if last.key_span != *step {
            break;
        }
        let number = match &last.value.value {
            Value::Scalar(mark) => mark.text.parse().ok(),
            Value::List(_) | Value::Map(_) | Value::Unreadable => None,
        };
        match last.key.as_str() {
            MEMBER_KEY => marks.behind = number,
            WITHIN_KEY => marks.before = number,
            PARAMS_KEY => marks.params = number,
            OUTPUTS_KEY => marks.outputs = Some(&last.value),
            _ => break,
        }
        map = rest;
    }
    (map, marks)
}

/// Returns a step's `id` or `name` when it is text that can stand in a message.
fn label<'a>(map: &'a [Entry], key: &str) -> Option<&'a str> {
    let entry = map.iter().find(|entry| entry.key == key)?;
    match &entry.value.value {
        Value::Scalar(scalar) if scalar.kind != Kind::Null => Some(&scalar.text),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) | Value::Unreadable => None,
    }
}
