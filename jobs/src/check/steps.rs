//! The steps.

use std::collections::HashMap;

use super::{Checker, condition, given, switch};
use crate::codes::Code;
use crate::file::{At, Required, RunField, StepField};
use crate::job::{Run, Step};
use crate::names;
use crate::plan::SecretPlan;
use crate::render::quote;
use crate::source::Span;

impl Checker<'_> {
    /// Returns the steps that are valid; those that are not are among the problems.
    pub(super) fn steps(
        &mut self,
        field: Required<Vec<StepField>>,
        file: &Span,
        job: &str,
        secrets: &[SecretPlan],
    ) -> Vec<Step> {
        let span = match &field {
            Required::Absent => file.start..file.start,
            Required::Given(at) if at.value.is_empty() => at.span.clone(),
            Required::Given(_) | Required::Unreadable => {
                let steps = given(field).map(|at| at.value).unwrap_or_default();
                let mut forms = self.forms(&steps);
                forms.reverse();
                let mut ids = HashMap::new();
                let step = |step| self.step(step, forms.pop().flatten(), secrets, &mut ids);
                return steps.into_iter().filter_map(step).collect();
            }
        };
        let hint = "`steps:` is a list; `- echo hello` is a whole step";
        self.problems.add(Code::NoSteps, span, format!("{job} has no steps")).hint(hint);
        Vec::new()
    }

    /// `form`: what it is instead of a command.
    pub(super) fn step(
        &mut self,
        step: StepField,
        form: Option<Run>,
        declared: &[SecretPlan],
        ids: &mut HashMap<String, Span>,
    ) -> Option<Step> {
        let place = format!(" in {}", step.label);
        let place = place.as_str();
        let argv = matches!(&step.run, Required::Given(At { value: RunField::Argv(_), .. }));
        if let (true, Some(shell)) = (argv, &step.shell) {
            let text = format!("`shell` has no use{place}: `run` is a list, which runs without a shell");
            self.problems
                .add(Code::Shell, &shell.span, text)
                .hint("leave `shell` out, or write `run` as text");
        }
        let outputs = step.uses.map(|uses| self.outputs(uses.outputs, place)).unwrap_or_default();
        let form = match form {
            Some(Run::Uses { file, params, .. }) => Some(Run::Uses { file, params, outputs }),
            other => other,
        };
        let run = given(step.run).and_then(|run| self.run(run, place)).or(form);
        let background = step.background || step.member_of.is_some();
        let id = step.id.and_then(|id| self.id(id, ids));
        let name = step.name.and_then(|name| self.label(name, "name", place));
        let env = self.env(step.env, place);
        let shell = step.shell.and_then(|shell| self.shell(shell, place));
        let workdir = step.workdir.and_then(|workdir| self.workdir(&workdir.value, &workdir.span, place));
        let user = step.user.and_then(|user| self.user(&user.value, &user.span, place));
        let timeout = step.timeout.and_then(|timeout| self.time(&timeout, "timeout", place, false));
        let seccomp = step.seccomp.and_then(|seccomp| self.seccomp(&seccomp, place));
        let privileges = step.privileges.and_then(|rights| self.privileges(&rights, place));
        let expect_exit = step.expect_exit.and_then(|codes| self.exit_codes(codes, place));
        let artifacts = step.artifacts.map(|list| self.artifacts(list.value, place)).unwrap_or_default();
        let retry = step.retry.and_then(|retry| self.retry(retry, place));
        let quiet_timeout =
            step.quiet_timeout.and_then(|time| self.time(&time, "quiet-timeout", place, true));
        let secrets = self.step_secrets(step.secrets, declared, place);
        let start = step.span.start;
        Some(Step {
            start,
            run: run?,
            background,
            id,
            name,
            env,
            shell,
            workdir,
            user,
            timeout,
            seccomp,
            privileges,
            condition: condition(step.condition),
            continue_on_error: switch(step.continue_on_error),
            expect_exit,
            artifacts,
            retry,
            quiet_timeout,
            secrets,
            within: step.within,
        })
    }

    pub(super) fn run(&mut self, run: At<RunField>, place: &str) -> Option<Run> {
        match run.value {
            RunField::Script(text) if text.trim().is_empty() => {
                self.problems.add(Code::EmptyRun, &run.span, format!("`run` is empty{place}"));
                None
            }
            RunField::Script(text) => Some(Run::Script(text)),
            RunField::Argv(argv) => {
                let long = argv.iter().map(|argument| {
                    self.fits(argument.value.len() + 1, "an argument of `run`", &argument.span, place)
                });
                let fits = long.fold(true, |all, fits| all & fits);
                if argv.first().is_none_or(|program| program.value.is_empty()) {
                    let text = format!("`run`{place} is a list without a program");
                    self.problems.add(Code::EmptyRun, &run.span, text);
                    return None;
                }
                fits.then(|| Run::Argv(argv.into_iter().map(|argument| argument.value).collect()))
            }
        }
    }

    fn id(&mut self, id: At<String>, ids: &mut HashMap<String, Span>) -> Option<String> {
        if !names::is_id(&id.value) {
            let text = format!("{} cannot be an id", quote(&id.value));
            let hint = match names::slug(&id.value) {
                Some(slug) => {
                    format!("a lower-case letter, then letters, digits, `-`, `_`: `{slug}`, for example")
                }
                None => "a lower-case letter, then up to 62 letters, digits, `-`, `_`".to_owned(),
            };
            self.problems.add(Code::BadId, &id.span, text).hint(hint);
            return None;
        }
        if let Some(first) = ids.get(&id.value) {
            let text = format!("two steps have the id {}", quote(&id.value));
            self.problems.add(Code::DuplicateId, &id.span, text).refer_to(first);
            return None;
        }
        ids.insert(id.value.clone(), id.span);
        Some(id.value)
    }

    fn exit_codes(&mut self, codes: At<Vec<At<i64>>>, place: &str) -> Option<Vec<u8>> {
        if codes.value.is_empty() {
            let text = format!("`expect-exit`{place} is empty: no exit code would be success");
            self.problems.add(Code::ExpectExit, &codes.span, text);
            return None;
        }
        let mut good = Vec::with_capacity(codes.value.len());
        for code in &codes.value {
            match u8::try_from(code.value) {
                Ok(code) => good.push(code),
                Err(_) => {
                    let text =
                        format!("`expect-exit`{place} cannot be {}: exit codes are 0 to 255", code.value);
                    self.problems.add(Code::ExpectExit, &code.span, text);
                }
            }
        }
        good.sort_unstable();
        good.dedup();
        Some(good)
    }
}
