//! What the expressions of a running job see, and what its steps hand to later ones. Values only.

use std::collections::BTreeMap;

use jobs::expression::{Contexts, Expression, Fault, FileHasher, Status, Template, Value};
use jobs::{Command, JobPlan, StepPlan, Switch};

use super::step_files::Handed;
use crate::outcome::Outcome;

/// Most bytes of outputs and variables of all steps of a job together: the keeper holds them.
const HANDED_BYTES_MAX: usize = 16 << 20;

/// The values of one job, growing with its steps.
#[derive(Debug)]
pub struct Values {
    fixed: Vec<(&'static str, Value)>,
    job: String,
    status: Status,
    steps: Vec<Told>,
    /// Those of `uses` whose turn has come, by the id of their step.
    groups: BTreeMap<String, Group>,
    /// The job's own variables, settled.
    own: Env,
    /// Variables by `$RUNNER_ENV`, which win over the job's own.
    added: BTreeMap<String, String>,
    /// Directories by `$RUNNER_PATH`.
    path: Vec<String>,
    bytes: usize,
    /// Who reads the workspace for `hashFiles`.
    files: Option<FileHasher>,
}

/// What expressions see of a step that is over.
#[derive(Debug)]
struct Told {
    id: String,
    outcome: Outcome,
    conclusion: Outcome,
    outputs: Value,
}

/// The steps of a file that a step uses: a scope of their own.
#[derive(Debug)]
struct Group {
    /// The one that it is within itself.
    within: Option<String>,
    params: Value,
    env: Env,
    outputs: Vec<(String, Template)>,
    forgiving: bool,
    /// How things stood when it was entered.
    entered: Status,
    /// One of its steps failed, and nobody within forgave it.
    failed: bool,
}

/// What a step is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Variables from the lowest layer up: the job's own, what earlier steps added, the step's.
    pub env: Env,
    /// Directories for the front of PATH.
    pub path: Vec<String>,
    /// A failure does not stop the job.
    pub forgiving: bool,
}

/// Variables settled; `None` unsets.
pub type Env = Vec<(String, Option<String>)>;

impl Values {
    /// Begins with what is known before the job. `fixed`: the contexts of the plan and the run.
    pub fn new(mut fixed: Vec<(&'static str, Value)>, job: &JobPlan) -> Self {
        fixed.push(("matrix", job.matrix.clone()));
        Self {
            fixed,
            job: job.id.clone(),
            status: Status::Success,
            steps: Vec::new(),
            groups: BTreeMap::new(),
            own: Vec::new(),
            added: BTreeMap::new(),
            path: Vec::new(),
            bytes: 0,
            files: None,
        }
    }

    /// Settles the job's own variables.
    ///
    /// # Errors
    /// One that cannot be settled.
    pub fn with_env(mut self, job: &JobPlan) -> Result<Self, Unsettled> {
        self.own = self.settle_env(&job.env, None)?;
        Ok(self)
    }

    /// Says who reads the workspace.
    pub fn with_files(mut self, files: FileHasher) -> Self {
        self.files = Some(files);
        self
    }

    /// Says how things stand.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Whether a step's or the job's condition holds; without one, it is `success()`.
    ///
    /// # Errors
    /// A condition that cannot be settled.
    pub fn holds(&self, condition: Option<&Expression>) -> Result<bool, Unsettled> {
        self.holds_within(condition, None)
    }

    fn holds_within(&self, condition: Option<&Expression>, within: Option<&str>) -> Result<bool, Unsettled> {
        let Some(status) = self.status_within(within) else { return Ok(false) };
        let Some(condition) = condition else { return Ok(status == Status::Success) };
        let contexts = Contexts { status: Some(status), ..self.contexts(within) };
        condition.holds(&contexts).map_err(|fault| unsettled("if", condition.source(), fault))
    }

    /// What a step is run with; `None` when its turn does not come.
    ///
    /// # Errors
    /// An expression of the step that cannot be settled.
    pub fn turn(&self, step: &StepPlan) -> Result<Option<Turn>, Unsettled> {
        let within = step.within.as_deref();
        if !self.holds_within(step.condition.as_ref(), within)? {
            return Ok(None);
        }
        let own = self.settle_env(&step.env, within)?;
        let around: Vec<&Group> = self.around(within).collect();
        let forgiven = around.iter().any(|group| group.forgiving);
        let around = around.iter().rev().flat_map(|group| group.env.iter().cloned());
        let added = self.added.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        Ok(Some(Turn {
            env: self.own.iter().cloned().chain(added).chain(around).chain(own).collect(),
            path: self.path.clone(),
            forgiving: forgiven | self.switch_within(&step.continue_on_error, within)?,
        }))
    }

    /// Settles variables.
    ///
    /// # Errors
    /// The first that cannot be settled, or that no process can be given.
    pub fn settle_env(
        &self,
        env: &[(String, Option<Template>)],
        within: Option<&str>,
    ) -> Result<Env, Unsettled> {
        let mut contexts = None;
        let settle = |(name, template): &(String, Option<Template>)| {
            let Some(template) = template else { return Ok((name.clone(), None)) };
            if let Some(text) = template.as_literal() {
                return Ok((name.clone(), Some(text.to_owned())));
            }
            let contexts = contexts.get_or_insert_with(|| self.contexts(within));
            let text = template.text(contexts).map_err(|fault| unsettled(name, template.source(), fault))?;
            if text.contains('\0') || name.len() + text.len() + 2 > jobs::bounds::ARGUMENT_BYTES_MAX {
                let why = if text.contains('\0') { "contains a NUL character" } else { "is too long" };
                return Err(Unsettled { what: name.clone(), why: format!("what it comes to {why}") });
            }
            Ok((name.clone(), Some(text)))
        };
        env.iter().map(settle).collect()
    }

    /// Settles what the job hands to others.
    ///
    /// # Errors
    /// The first output that cannot be settled.
    pub fn outputs(&self, job: &JobPlan) -> Result<Vec<(String, String)>, Unsettled> {
        let contexts = self.contexts(None);
        let settle = |(name, template): &(String, Template)| match template.text(&contexts) {
            Ok(text) => Ok((name.clone(), text)),
            Err(fault) => Err(unsettled(name, template.source(), fault)),
        };
        job.outputs.iter().map(settle).collect()
    }

    /// Settles one text.
    ///
    /// # Errors
    /// What it cannot be settled for.
    pub fn text(&self, what: &str, template: &Template) -> Result<String, Unsettled> {
        let text = template.text(&self.contexts(None));
        text.map_err(|fault| unsettled(what, template.source(), fault))
    }

    /// Settles a switch.
    ///
    /// # Errors
    /// One that cannot be settled, or comes to neither true nor false.
    pub fn switch(&self, switch: &Switch) -> Result<bool, Unsettled> {
        self.switch_within(switch, None)
    }

    fn switch_within(&self, switch: &Switch, within: Option<&str>) -> Result<bool, Unsettled> {
        let template = match switch {
            Switch::Is(value) => return Ok(*value),
            Switch::When(template) => template,
        };
        let value = template.evaluate(&self.contexts(within));
        match value.map_err(|fault| unsettled("continue-on-error", template.source(), fault))? {
            Value::Bool(value) => Ok(value),
            Value::Text(text) if matches!(&*text, "true" | "false") => Ok(&*text == "true"),
            other => Err(Unsettled {
                what: "continue-on-error".to_owned(),
                why: format!("`{}` is {other:?}, neither true nor false", template.source()),
            }),
        }
    }

    /// Takes what a step handed on. Returns false when the job's steps have handed on too much; nothing is taken then.
    pub fn take(&mut self, handed: &Handed) -> bool {
        let pairs = handed.outputs.iter().chain(&handed.env);
        let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
        let bytes = bytes + handed.path.iter().map(String::len).sum::<usize>();
        if self.bytes + bytes > HANDED_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.added.extend(handed.env.iter().cloned());
        self.path.splice(0..0, handed.path.iter().cloned());
        true
    }

    /// Notes that the steps within one, which is a `uses`, have their turn.
    ///
    /// # Errors
    /// A variable or switch of the step that cannot be settled.
    pub fn enter(&mut self, step: &StepPlan) -> Result<(), Unsettled> {
        let Command::Uses { params, outputs, .. } = &step.command else { return Ok(()) };
        let within = step.within.as_deref();
        let group = Group {
            within: step.within.clone(),
            params: params.clone(),
            outputs: outputs.clone(),
            env: self.settle_env(&step.env, within)?,
            forgiving: self.switch_within(&step.continue_on_error, within)?,
            entered: self.status,
            failed: false,
        };
        self.groups.insert(step.id.clone(), group);
        Ok(())
    }

    /// Notes how a step ended. Its failure is one of all that it is within, until one of them forgives.
    pub fn ended(
        &mut self,
        step: &StepPlan,
        outcome: Outcome,
        conclusion: Outcome,
        outputs: &[(String, String)],
    ) {
        let forgiven = self.switch_within(&step.continue_on_error, step.within.as_deref()).unwrap_or(false);
        let outputs = Value::map(outputs.iter().map(|(name, value)| (name.clone(), Value::text(value))));
        self.steps.push(Told { id: step.id.clone(), outcome, conclusion, outputs });
        let mut above = step.within.clone().filter(|_| outcome.is_failure() && !forgiven);
        while let Some(id) = above {
            let Some(group) = self.groups.get_mut(&id) else { break };
            group.failed = true;
            if let Some(told) = self.steps.iter_mut().find(|told| told.id == id) {
                told.outcome = outcome;
                told.conclusion = if group.forgiving { Outcome::Success } else { outcome };
            }
            above = group.within.clone().filter(|_| !group.forgiving);
        }
    }

    /// The groups around a step, the innermost first.
    fn around<'v>(&'v self, within: Option<&str>) -> impl Iterator<Item = &'v Group> {
        let first = within.and_then(|id| self.groups.get(id));
        std::iter::successors(first, |group| group.within.as_ref().and_then(|id| self.groups.get(id)))
    }

    /// How things stand for steps within another; `None`: that one does not run.
    fn status_within(&self, within: Option<&str>) -> Option<Status> {
        let Some(id) = within else { return Some(self.status) };
        let group = self.groups.get(id)?;
        let cancelled = self.status == Status::Cancelled && group.entered != Status::Cancelled;
        Some(match group.failed {
            _ if cancelled => Status::Cancelled,
            true => Status::Failure,
            false => Status::Success,
        })
    }

    /// The steps as those within another see them: their neighbours, by the ids that they have in their file.
    fn steps_within(&self, within: Option<&str>) -> Value {
        let value = |told: &Told| {
            Value::map([
                ("outcome", Value::text(told.outcome.as_str())),
                ("conclusion", Value::text(told.conclusion.as_str())),
                ("outputs", self.outputs_of(told)),
            ])
        };
        let own = |told: &'_ Told| match within {
            None => Some((told.id.clone(), value(told))),
            Some(id) => {
                let local = told.id.strip_prefix(id)?.strip_prefix('-')?;
                Some((local.to_owned(), value(told)))
            }
        };
        Value::map(self.steps.iter().filter_map(own))
    }

    /// What a step has handed on; of one that uses a file, what that makes of its steps so far. What of it cannot be settled
    /// is null.
    fn outputs_of(&self, told: &Told) -> Value {
        let Some(group) = self.groups.get(&told.id).filter(|group| !group.outputs.is_empty()) else {
            return told.outputs.clone();
        };
        let contexts = self.contexts(Some(&told.id));
        let settled = |(name, template): &(String, Template)| {
            (name.clone(), template.text(&contexts).map_or(Value::Null, Value::text))
        };
        Value::map(group.outputs.iter().map(settled))
    }

    fn contexts(&self, within: Option<&str>) -> Contexts {
        let mut values = self.fixed.clone();
        if let Some(group) = within.and_then(|id| self.groups.get(id)) {
            values.retain(|(name, _)| *name != "params");
            values.push(("params", group.params.clone()));
        }
        let mut env: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in &self.own {
            match value {
                Some(value) => drop(env.insert(name, value)),
                None => drop(env.remove(name.as_str())),
            }
        }
        env.extend(self.added.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let job = [("id", Value::text(&self.job)), ("status", Value::text(self.status.as_str()))];
        values.push(("env", Value::map(env.into_iter().map(|(name, value)| (name, Value::text(value))))));
        values.push(("job", Value::map(job)));
        values.push(("steps", self.steps_within(within)));
        Contexts { values, status: None, files: self.files.clone() }
    }
}

/// An expression that comes to nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{what}`: {why}")]
pub struct Unsettled {
    what: String,
    why: String,
}

fn unsettled(what: &str, source: &str, fault: Fault) -> Unsettled {
    Unsettled { what: what.to_owned(), why: format!("{fault}, in `{source}`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::Overrides;

    fn job(text: &str) -> JobPlan {
        let text = format!("image: host\n{text}");
        jobs::plan("job.yml", "job", text.as_bytes(), &Overrides::default()).unwrap().plan.jobs.remove(0)
    }

    fn handed(outputs: &[(&str, &str)], env: &[(&str, &str)], path: &[&str]) -> Handed {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let path = path.iter().map(|path| (*path).to_owned()).collect();
        Handed { outputs: own(outputs), env: own(env), path, ..Handed::default() }
    }

    #[test]
    fn later_steps_see_what_earlier_ones_handed_on() {
        let job = job("env: {A: job, B: job}\nsteps:\n\
            \x20 - {id: one, run: x}\n\
            \x20 - run: y\n\
            \x20   if: steps.one.outputs.go == 'yes' && steps.one.outcome == 'failure'\n\
            \x20   continue-on-error: ${{ steps.one.outputs.soft }}\n\
            \x20   env: {B: step, V: \"${{ env.A }}/${{ steps.one.outputs.go }}/${{ job.status }}\"}\n");
        let mut values = Values::new(Vec::new(), &job).with_env(&job).unwrap();
        let given =
            handed(&[("go", "yes"), ("soft", "true")], &[("A", "added"), ("B", "added")], &["/b", "/a"]);
        assert!(values.take(&given));
        values.ended(&job.steps[0], Outcome::Failure, Outcome::Success, &given.outputs);
        let step = &job.steps[1];
        let Turn { env, path, forgiving } = values.turn(step).unwrap().unwrap();
        assert_eq!((forgiving, path), (true, vec!["/b".to_owned(), "/a".to_owned()]));
        let last = |name: &str| env.iter().rfind(|(known, _)| known == name).unwrap().1.clone().unwrap();
        assert_eq!(
            (last("A"), last("B"), last("V")),
            ("added".into(), "step".into(), "added/yes/success".into())
        );
        assert!(values.take(&handed(&[], &[], &["/c"])));
        assert_eq!(values.turn(step).unwrap().unwrap().path, ["/c", "/b", "/a"]);
        values.set_status(Status::Failure);
        assert_eq!(values.turn(step).unwrap(), None);
        assert!(!values.holds(None).unwrap());
    }

    /// A plan whose files are these.
    fn job_with(text: &str, files: &[(&str, &str)]) -> JobPlan {
        struct Given<'g>(&'g [(&'g str, &'g str)]);
        impl jobs::Files for Given<'_> {
            fn read(&mut self, wanted: &jobs::Wanted<'_>) -> Result<Vec<u8>, String> {
                let found = self.0.iter().find(|(name, _)| *name == wanted.name);
                found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "it is not there".to_owned())
            }
        }
        let text = format!("image: host\n{text}");
        let planned =
            jobs::plan_with("job.yml", "job", text.as_bytes(), &Overrides::default(), &mut Given(files));
        planned.unwrap().plan.jobs.remove(0)
    }

    #[test]
    fn the_steps_of_a_file_are_a_scope_of_their_own() {
        let lint = "params: {level: {type: int, default: 1}}\nsteps:\n\
            \x20 - {id: one, run: a, if: params.level == 2, env: {V: \"${{ params.level }}\"}}\n\
            \x20 - {run: b, env: {W: \"${{ steps.one.outputs.go }}\"}}\n\
            \x20 - {run: c, if: failure()}\n\
            outputs: {of: \"${{ steps.one.outputs.go }} at ${{ params.level }}\"}\n";
        let job = job_with(
            "env: {A: job}\nsteps:\n\
            \x20 - {id: one, run: x}\n\
            \x20 - {id: lint, uses: lint.yml, with: {level: 2}, if: always(), env: {A: uses}, continue-on-error: true}\n\
            \x20 - {run: y, if: steps.lint.outcome == 'failure' && steps.lint.outputs.of == 'inner at 2'}\n",
            &[("lint.yml", lint)],
        );
        let [outer, uses, first, second, third, last] = job.steps.as_slice() else { panic!("six steps") };
        assert_eq!((first.id.as_str(), first.within.as_deref()), ("lint-one", Some("lint")));
        let mut values = Values::new(Vec::new(), &job).with_env(&job).unwrap();
        assert_eq!(values.turn(first).unwrap(), None, "not before the step that uses the file");
        values.ended(outer, Outcome::Failure, Outcome::Failure, &[("go".into(), "outer".into())]);
        values.set_status(Status::Failure);
        assert!(values.turn(uses).unwrap().is_some());
        values.enter(uses).unwrap();
        values.ended(uses, Outcome::Success, Outcome::Success, &[]);
        // Within it nothing has failed yet.
        let turn = values.turn(first).unwrap().unwrap();
        let value = |turn: &Turn, name: &str| {
            turn.env.iter().rfind(|(known, _)| known == name).unwrap().1.clone().unwrap()
        };
        assert_eq!(["A", "V", "PARAM_LEVEL"].map(|name| value(&turn, name)), ["uses", "2", "2"]);
        assert!(turn.forgiving);
        values.ended(first, Outcome::Success, Outcome::Success, &[("go".into(), "inner".into())]);
        let turn = values.turn(second).unwrap().unwrap();
        assert_eq!(value(&turn, "W"), "inner");
        assert_eq!(values.turn(third).unwrap(), None);
        values.ended(second, Outcome::Failure, Outcome::Success, &[]);
        assert!(values.turn(third).unwrap().is_some(), "one of its own has failed");
        values.set_status(Status::Success);
        assert!(values.turn(last).unwrap().is_some());
    }

    #[test]
    fn what_comes_to_nothing_sensible_is_told() {
        let job = job("steps:\n\
            \x20 - {id: one, run: x}\n\
            \x20 - run: y\n\
            \x20   if: fromJSON(steps.one.outputs.x)\n\
            \x20   continue-on-error: ${{ steps.one.outputs.x }}\n\
            \x20   env: {V: \"${{ steps.one.outputs }}\"}\n");
        let mut values = Values::new(Vec::new(), &job);
        values.ended(&job.steps[0], Outcome::Success, Outcome::Success, &[("x".into(), "[".into())]);
        let step = &job.steps[1];
        let found = [
            values.holds(step.condition.as_ref()).unwrap_err().to_string(),
            values.switch(&step.continue_on_error).unwrap_err().to_string(),
            values.settle_env(&step.env, None).unwrap_err().to_string(),
        ];
        let expected = [
            "`if`: `fromJSON` was given what is not JSON: EOF while parsing a list at line 1 column 1, in \
             `fromJSON(steps.one.outputs.x)`",
            "`continue-on-error`: `${{ steps.one.outputs.x }}` is \"[\", neither true nor false",
            "`V`: a map cannot be written as text, in `${{ steps.one.outputs }}`",
        ];
        assert_eq!(found, expected);
        let big = "x".repeat(HANDED_BYTES_MAX);
        assert!(!values.take(&handed(&[("o", &big)], &[], &[])));
    }
}
