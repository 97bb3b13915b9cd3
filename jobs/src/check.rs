//! A job file to a valid job, or everything that is wrong with it. Overrides pass the same tests.

use std::rc::Rc;
use std::time::Duration;

use crate::bounds::{ARGUMENT_BYTES_MAX, ENV_BYTES_MAX, PATH_BYTES_MAX, SHELL_BYTES_MAX};
use crate::codes::Code;
use crate::diagnostic::{Origin, Problems};
use crate::expression::{Expression, Template};
use crate::file::{At, EnvField, JobFile, JobSource, Required, ShellField, SwitchField};
use crate::job::{Env, Job, Step};
use crate::names;
use crate::overrides::Overrides;
use crate::plan::{Network, Switch, Workspace};
use crate::render::quote;
use crate::shell::{SHELL_NAMES, Shell};
use crate::suggest::nearest;
use crate::user::User;

mod artifact;
mod caches;
mod forms;
mod graph;
mod image;
mod limits;
mod matrix;
mod mounts;
mod network;
mod params;
mod retry;
mod rights;
mod secrets;
mod services;
mod setup;
mod steps;

pub(crate) use graph::early;
pub(crate) use params::{Given, Params, params};

/// The words for what steps find in their working directory.
const WORKSPACES: &[(&str, Workspace)] = &[
    (".", Workspace::InPlace),
    ("copy", Workspace::Copy),
    ("git", Workspace::Git),
    ("empty", Workspace::Empty),
];

/// The versions of the format that are read.
const VERSIONS: &[&str] = &["1"];

/// What the command line said, checked.
#[derive(Debug, Default)]
pub(crate) struct ValidOverrides {
    pub user: Option<User>,
    /// It takes the place of the file's.
    pub network: Option<Network>,
    /// What reaches beyond the sandbox is refused.
    pub untrusted: bool,
}

/// Checks the version of the format and the run's label, and returns the label.
pub(crate) fn head(
    version: Option<&At<String>>,
    name: Option<At<String>>,
    problems: &mut Problems,
) -> Option<String> {
    let mut check = Checker { problems };
    if let Some(version) = version {
        check.version(version);
    }
    check.label(name?, "name", "")
}

/// Checks a job. `None`: there are errors among the problems.
pub(crate) fn job(
    file: JobFile,
    source: &JobSource,
    valid: &ValidOverrides,
    problems: &mut Problems,
) -> Option<Job> {
    let mut check = Checker { problems };
    check.within_the_sandbox(&file, valid.untrusted);
    let JobSource { label, place, .. } = source;
    let image = check.image(&file.image, &file.span, label);
    let env = check.env(file.env, place);
    let limits = check.limits(&file.limits);
    let timeout = file.timeout.and_then(|timeout| check.time(&timeout, "timeout", place, false));
    let grace = file.grace.and_then(|grace| check.time(&grace, "grace", place, true));
    let user = file.user.and_then(|user| check.user(&user.value, &user.span, place));
    let shell = file.shell.and_then(|shell| check.shell(shell, place));
    let workdir = file.workdir.and_then(|workdir| check.workdir(&workdir.value, &workdir.span, place));
    let hostname = file.hostname.and_then(|hostname| check.hostname(&hostname.value, &hostname.span));
    let mounts = file.mounts.map(|mounts| check.mounts(mounts.value)).unwrap_or_default();
    let workspace = file.workspace.and_then(|word| check.choice(&word, "workspace", place, WORKSPACES));
    let network_span = file.network.as_ref().map(|network| network.span.clone());
    let network = file.network.and_then(|network| check.network(network, place));
    let seccomp = file.seccomp.and_then(|seccomp| check.seccomp(&seccomp, place));
    let privileges = file.privileges.and_then(|rights| check.privileges(&rights, place));
    let secrets = check.secrets(file.secrets, place);
    let steps = check.steps(file.steps, &file.span, label, &secrets);
    let setup = check.setup(file.setup);
    let caches = check.caches(file.caches);
    let services = check.services(file.services, &secrets, valid, network.as_ref().zip(network_span));
    let (artifacts, reports) = (check.artifacts(file.artifacts, place), check.reports(file.reports));
    check.artifact_names(&steps, &artifacts);
    check.env_bytes(&env, &steps);
    let outputs = check.outputs(file.outputs, place);
    let retry = file.retry.and_then(|retry| check.retry(retry, place));
    let quiet_timeout = file.quiet_timeout.and_then(|time| check.time(&time, "quiet-timeout", place, true));
    if check.problems.has_errors() {
        return None;
    }
    Some(Job {
        condition: condition(file.condition),
        image: image?,
        env,
        steps,
        limits,
        timeout,
        grace,
        user,
        shell,
        workdir,
        hostname,
        mounts,
        workspace,
        network,
        seccomp,
        privileges,
        artifacts,
        reports,
        outputs,
        continue_on_error: switch(file.continue_on_error),
        retry,
        quiet_timeout,
        secrets,
        services,
        setup,
        caches,
    })
}

/// Checks what the command line says.
pub(crate) fn overrides(overrides: &Overrides, problems: &mut Problems) -> ValidOverrides {
    let mut check = Checker { problems };
    let here = Origin::CommandLine;
    for (name, value) in &overrides.env {
        check.variable(name, value.as_deref(), here.clone(), here.clone(), "");
    }
    check.limit_overrides(&overrides.limits);
    if let Some(timeout) = overrides.timeout {
        check.time_in_bounds(timeout, "timeout", "", false, here.clone());
    }
    if let Some(grace) = overrides.grace {
        check.time_in_bounds(grace, "grace", "", true, here.clone());
    }
    if let Some(workdir) = &overrides.workdir {
        check.workdir(workdir, here.clone(), "");
    }
    if let Some(hostname) = &overrides.hostname {
        check.hostname(hostname, here.clone());
    }
    let user = overrides.user.as_ref().and_then(|user| check.user(user, here.clone(), ""));
    if overrides.untrusted && overrides.network == Some(Network::Host) {
        check.refuse_untrusted("`--network host`", here);
    }
    ValidOverrides { user, network: overrides.network.clone(), untrusted: overrides.untrusted }
}

/// Tests of single values; each reports and returns `None`, or returns the value's meaning. `place` ends a
/// sentence: "" or " in step `test`".
struct Checker<'a> {
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn version(&mut self, version: &At<String>) {
        if !VERSIONS.contains(&version.value.as_str()) {
            let text = format!("version {} of the format is not known", quote(&version.value));
            let hint = format!("this program reads version {}", VERSIONS.join(", "));
            self.problems.add(Code::Version, &version.span, text).hint(hint);
        }
    }

    fn label(&mut self, label: At<String>, key: &str, place: &str) -> Option<String> {
        if let Some(fault) = names::label_fault(&label.value) {
            self.problems.add(Code::BadName, &label.span, format!("`{key}`{place} {fault}"));
            return None;
        }
        Some(label.value)
    }

    /// Returns the meaning of one word out of a few.
    fn choice<T: Copy>(
        &mut self,
        word: &At<String>,
        key: &str,
        place: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word.value) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let mut text = format!("`{key}`{place} cannot be {}", quote(&word.value));
        if let Some(similar) = nearest(&word.value, &names) {
            text.push_str(&format!("; did you mean `{similar}`?"));
        }
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        self.problems
            .add(Code::NotAChoice, &word.span, text)
            .hint(format!("it is one of {}", names.join(", ")));
        None
    }

    fn env(&mut self, fields: Vec<EnvField>, place: &str) -> Env {
        let mut env = Vec::with_capacity(fields.len());
        for EnvField { name, value } in fields {
            // One that is settled while the job runs is measured then.
            let text = value.value.as_ref().and_then(|template| template.as_literal());
            let good = self.variable(&name.value, text, &name.span, &value.span, place);
            if good {
                env.push((name.value, value.value));
            }
        }
        env
    }

    fn outputs(&mut self, fields: Vec<EnvField>, place: &str) -> Vec<(String, Template)> {
        let mut outputs = Vec::with_capacity(fields.len());
        for EnvField { name, value } in fields {
            if !names::is_param_name(&name.value) {
                let text = format!("{}{place} cannot be the name of an output", quote(&name.value));
                let hint = "letters, digits, `_` and `-`, a letter or `_` first, at most 63";
                self.problems.add(Code::BadName, &name.span, text).hint(hint);
            } else {
                outputs.push((name.value, value.value.unwrap_or_else(|| Template::literal(String::new()))));
            }
        }
        outputs
    }

    fn variable<O>(&mut self, name: &str, value: Option<&str>, at_name: O, at_value: O, place: &str) -> bool
    where
        O: Into<Origin>,
    {
        if !names::is_env_name(name) {
            let text = format!("{}{place} cannot be the name of an environment variable", quote(name));
            self.problems
                .add(Code::EnvName, at_name, text)
                .hint("letters, digits and `_`, not a digit first");
            return false;
        }
        // "NAME=value" and its NUL.
        let bytes = name.len() + 1 + value.map_or(0, str::len) + 1;
        let at_value = at_value.into();
        let fits = self.fits(bytes, &format!("the variable {}", quote(name)), at_value.clone(), place);
        // Values from the file were tested for NUL when they were read; this is for the command line's.
        let nul = value.is_some_and(|value| value.contains('\0'));
        if nul {
            let text = format!("the variable {} contains a NUL character", quote(name));
            self.problems.add(Code::NulCharacter, at_value, text);
        }
        fits && !nul
    }

    /// Tests what the variables of all steps come to; every step has the job's too.
    fn env_bytes(&mut self, of_job: &Env, steps: &[Step]) {
        let entry = |(name, value): &(String, Option<Template>)| {
            name.len() + value.as_ref().map_or(0, |template| template.source().len()) + 2
        };
        let of_steps: usize = steps.iter().flat_map(|step| &step.env).map(entry).sum();
        let bytes = of_job.iter().map(entry).sum::<usize>() * steps.len() + of_steps;
        if bytes > ENV_BYTES_MAX {
            let text = format!(
                "the variables of all steps have {bytes} bytes; at most {ENV_BYTES_MAX} are accepted"
            );
            self.problems.add(Code::FileTooBig, None, text).hint("put large values into files");
        }
    }

    /// Tests an argument or variable against the longest that execve(2) passes.
    fn fits(&mut self, bytes: usize, what: &str, at: impl Into<Origin>, place: &str) -> bool {
        let good = bytes <= ARGUMENT_BYTES_MAX;
        if !good {
            let text =
                format!("{what}{place} has {bytes} bytes; the kernel passes at most {ARGUMENT_BYTES_MAX}");
            self.problems.add(Code::TooLong, at, text).hint("put the text into a file");
        }
        good
    }

    fn user(&mut self, user: &str, at: impl Into<Origin>, place: &str) -> Option<User> {
        match user.parse() {
            Ok(user) => Some(user),
            Err(error) => {
                self.problems.add(
                    Code::User,
                    at,
                    format!("`user`{place} cannot be {}: {error}", quote(user)),
                );
                None
            }
        }
    }

    fn hostname(&mut self, hostname: &str, at: impl Into<Origin>) -> Option<String> {
        if names::is_hostname(hostname) {
            return Some(hostname.to_owned());
        }
        let text = format!("`hostname` cannot be {}", quote(hostname));
        let hint = "letters, digits and inner hyphens, dots between, at most 63 in all";
        self.problems.add(Code::Hostname, at, text).hint(hint);
        None
    }

    fn workdir(&mut self, workdir: &str, at: impl Into<Origin>, place: &str) -> Option<String> {
        let fault = match workdir {
            "" => "is empty",
            path if path.split('/').any(|part| part == "..") => "must not contain `..`",
            path if path.len() >= PATH_BYTES_MAX => "is longer than any path can be",
            path if path.contains('\0') => "contains a NUL character",
            path => return Some(path.to_owned()),
        };
        self.problems.add(Code::Workdir, at, format!("`workdir`{place} {fault}"));
        None
    }

    fn shell(&mut self, shell: At<ShellField>, place: &str) -> Option<Shell> {
        let (found, text, hint) = match shell.value {
            ShellField::Name(name) => {
                let mut text = format!("`shell`{place} cannot be {}", quote(&name));
                if let Some(similar) = nearest(&name, SHELL_NAMES) {
                    text.push_str(&format!("; did you mean `{similar}`?"));
                }
                (Shell::named(&name), text, "it is `sh`, `bash`, `python3` or a list such as [perl, \"{0}\"]")
            }
            ShellField::Argv(argv) => {
                let argv = argv.into_iter().map(|argument| argument.value).collect();
                let text =
                    format!("`shell`{place} must be a program and arguments with `{{0}}` exactly once");
                (Shell::custom(argv), text, "`{0}` stands for the script's path, such as [perl, \"{0}\"]")
            }
        };
        let Some(found) = found else {
            self.problems.add(Code::Shell, &shell.span, text).hint(hint);
            return None;
        };
        let bytes: usize = found.argv.iter().map(String::len).sum();
        if bytes > SHELL_BYTES_MAX {
            let text = format!("`shell`{place} has {bytes} bytes; at most {SHELL_BYTES_MAX} are accepted");
            self.problems.add(Code::TooLong, &shell.span, text);
            return None;
        }
        Some(found)
    }

    fn time(&mut self, time: &At<String>, key: &str, place: &str, zero: bool) -> Option<Duration> {
        let duration = self.duration(time, key, place)?;
        self.time_in_bounds(duration, key, place, zero, &time.span)
    }
}

/// Returns a condition's meaning.
fn condition(field: Option<At<Rc<Expression>>>) -> Option<Expression> {
    field.map(|condition| Expression::clone(&condition.value))
}

/// Returns a switch's meaning; it is off where nothing is said.
fn switch(field: Option<SwitchField>) -> Switch {
    match field {
        None => Switch::Is(false),
        Some(SwitchField::Is(value)) => Switch::Is(value),
        Some(SwitchField::When(template)) => Switch::When(Template::clone(&template)),
    }
}

/// Returns what a required field holds, if it can be read.
fn given<T>(field: Required<T>) -> Option<At<T>> {
    match field {
        Required::Given(at) => Some(at),
        Required::Absent | Required::Unreadable => None,
    }
}
