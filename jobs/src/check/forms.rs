//! What a step is: a command, or one that waits for others, ends one, or holds several.

use super::Checker;
use crate::bounds::BESIDE_MAX;
use crate::codes::Code;
use crate::file::{At, Required, StepField};
use crate::job::Run;
use crate::names;
use crate::render::quote;
use crate::source::Span;

/// Keys of a step that runs no command of its own, besides the one that says what it is.
const KEYS_WITHOUT_RUN: &[&str] = &["id", "name", "if", "continue-on-error"];
/// The word that stands for every step that still runs.
const ALL: &str = "all";

impl Checker<'_> {
    /// Returns for each step what it is instead of a command; `None`: it is one, or wrong.
    pub(super) fn forms(&mut self, steps: &[StepField]) -> Vec<Option<Run>> {
        let own = steps.iter().map(|step| {
            let text = |field: &'_ Option<At<String>>| field.as_ref().map(|at| at.value.clone());
            (text(&step.id), text(&step.name))
        });
        let own: Vec<_> = own.collect();
        let own: Vec<_> = own.iter().map(|(id, name)| (id.as_deref(), name.as_deref())).collect();
        let ids = names::step_ids(&own);
        self.not_too_many(steps);
        (0..steps.len()).map(|at| self.form(steps, &ids, at)).collect()
    }

    fn not_too_many(&mut self, steps: &[StepField]) {
        let mut count = 0;
        for step in steps {
            match (&step.parallel, step.member_of) {
                (Some(key), _) => {
                    self.beside(count, "steps are in one `parallel`", key);
                    count = 0;
                }
                (None, Some(_)) => count += 1,
                (None, None) => count = 0,
            }
        }
        let background: Vec<&StepField> = steps.iter().filter(|step| step.background).collect();
        if let Some(last) = background.last() {
            self.beside(background.len(), "steps run in the background", &last.span);
        }
    }

    fn beside(&mut self, count: usize, what: &str, at: &Span) {
        if count > BESIDE_MAX {
            let text = format!("{count} {what}; at most {BESIDE_MAX} are accepted");
            self.problems.add(Code::TooMany, at.start..at.start, text);
        }
    }

    fn form(&mut self, steps: &[StepField], ids: &[String], at: usize) -> Option<Run> {
        let step = &steps[at];
        let place = format!(" in {}", step.label);
        let given = [
            ("run", step.run != Required::Absent),
            ("wait", step.wait.is_some()),
            ("cancel", step.cancel.is_some()),
            ("uses", step.uses.is_some()),
            ("parallel", step.parallel.is_some() || step.keys.iter().any(|(key, _)| key == "parallel")),
        ];
        let forms: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(form, _)| *form).collect();
        let start = step.span.start..step.span.start;
        match forms[..] {
            [] => {
                // One whose key was misspelt, or could not be read, has been told so.
                if !step.keys.iter().any(|(key, _)| given.iter().any(|(form, _)| form == key)) {
                    let text = format!("`run` is missing{place}");
                    let hint = "a step is a command, or a map with `run`";
                    self.problems.add(Code::NoRun, start, text).hint(hint);
                }
                None
            }
            ["run"] => {
                self.no_key(step, &["with"], "only `uses` has params to give");
                if step.member_of.is_some() {
                    self.no_key(
                        step,
                        &["background"],
                        "the members of `parallel` run beside each other anyway",
                    );
                }
                None
            }
            [form] => self.without_run(steps, ids, at, form),
            [first, second, ..] => {
                let text = format!("{} is `{first}` and `{second}` at once", step.label);
                self.problems.add(Code::StepForm, start, text).hint("make them steps of their own");
                None
            }
        }
    }

    /// Reports each of these keys.
    fn no_key(&mut self, step: &StepField, keys: &[&str], why: &str) {
        for (key, span) in step.keys.iter().filter(|(key, _)| keys.contains(&key.as_str())) {
            let text = format!("`{key}` has no use in {}: {why}", step.label);
            self.problems.add(Code::StepForm, span, text);
        }
    }

    fn without_run(&mut self, steps: &[StepField], ids: &[String], at: usize, form: &str) -> Option<Run> {
        let step = &steps[at];
        if step.member_of.is_some() {
            self.no_key(step, &[form], "members of `parallel` are commands");
            return None;
        }
        let useless = step.keys.iter().map(|(key, _)| key.as_str());
        let of_uses = |key: &str| form == "uses" && matches!(key, "env" | "with");
        let useless: Vec<&str> =
            useless.filter(|key| *key != form && !KEYS_WITHOUT_RUN.contains(key) && !of_uses(key)).collect();
        self.no_key(step, &useless, &format!("`{form}` runs no command of its own"));
        if form == "parallel" {
            self.no_key(step, &["if"], "each of its steps may have one");
            let is_member = |other: &usize| steps[*other].member_of == Some(at);
            return Some(Run::Wait((0..at).filter(is_member).map(|other| ids[other].clone()).collect()));
        }
        if let Some(uses) = &step.uses {
            // Without params there is no file, or something is wrong with them, and that has been told.
            let file = uses.file.value.clone();
            return uses.params.map(|params| Run::Uses { file, params, outputs: Vec::new() });
        }
        let mut above = (0..at).filter(|other| steps[*other].background).map(|other| ids[other].as_str());
        if let Some(cancel) = &step.cancel {
            let found = above.any(|id| id == cancel.value);
            return self.known(found, cancel, form, &step.label).map(Run::Cancel);
        }
        let wait = step.wait.as_ref()?;
        let above: Vec<&str> = above.collect();
        if let [all] = wait.value.as_slice()
            && all.value == ALL
        {
            return Some(Run::Wait(above.into_iter().map(str::to_owned).collect()));
        }
        let mut waited = Vec::with_capacity(wait.value.len());
        for id in &wait.value {
            waited.extend(self.known(above.contains(&id.value.as_str()), id, form, &step.label));
        }
        Some(Run::Wait(waited))
    }

    fn known(&mut self, found: bool, id: &At<String>, form: &str, label: &str) -> Option<String> {
        if !found {
            let text = format!("{} is no step above {label} that runs in the background", quote(&id.value));
            let hint = format!("`{form}` names the `id` of a step with `background: true`");
            self.problems.add(Code::NoBackground, &id.span, text).hint(hint);
            return None;
        }
        Some(id.value.clone())
    }
}
