//! `runner shell`: a command where a step left off, after the run is over.

use std::fs;
use std::path::Path;

use jobs::{Command, Overrides};
use serde_json::{Value, json};

use super::launch::{fetch_settings, launch, no_input, ours};
use super::run::pumped_input;
use super::{Class, CommandError, RUN_ERROR_EXIT_CODE};
use crate::cli::ShellSettings;
use crate::outcome::Keep;
use crate::report::{Briefing, Relay};
use crate::run::execute::Execution;
use crate::run::inside::Inside;
use crate::run::kept::{self, Kept};
use crate::run::record::{JobRecord, RunDirectory, Selector};
use crate::run::secrets::{MASK, Secrets};
use crate::run::step_files::Handed;
use crate::run::workspace;
use crate::sandbox::zygote::Zygote;

/// The shell of an image: bash where there is one.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi";
/// The longest that one looks around.
const TIMEOUT: &str = "30d";

/// Runs the command and returns its exit code.
///
/// # Errors
/// Nothing that is kept, or nothing of that name; everything that `runner run` may stumble over.
pub fn shell(zygote: Zygote, settings: ShellSettings) -> Result<u8, CommandError> {
    let place = Place::find(&settings.home, settings.at.as_deref())?;
    let plan = place.plan(&settings)?;
    let (relay, terminal) = if settings.terminal {
        let (relay, far) = Relay::begin().map_err(|error| CommandError::new(Class::Host, error))?;
        (Some(relay), Some(far))
    } else {
        (None, None)
    };
    let execution = Execution {
        plan,
        file: None,
        included: Vec::new(),
        fetch: fetch_settings(&settings.sources),
        base: place.kept.base.clone(),
        root: workspace::root_of(&place.kept.base),
        inherited: Handed::default(),
        home: settings.home.clone(),
        run_id: None,
        warnings: Vec::new(),
        jobs_max: None,
        stdin: if settings.terminal { no_input()? } else { pumped_input()? },
        secrets: Secrets::default(),
        secrets_in_artifacts: false,
        keep: Keep::Never,
        reuse: true,
        inside: Some(Inside { upper: Some(place.upper), workspace: place.workspace, terminal }),
    };
    let finished = launch(zygote, execution, settings.report, Briefing::default()).and_then(ours);
    drop(relay);
    Ok(finished?.step_exit_code.unwrap_or(RUN_ERROR_EXIT_CODE))
}

/// A step that is kept.
struct Place {
    kept: Kept,
    step: String,
    upper: std::path::PathBuf,
    workspace: Option<std::path::PathBuf>,
    run: RunDirectory,
}

impl Place {
    /// Finds the step that is meant: `RUN[/JOB][:STEP]`.
    fn find(home: &Path, at: Option<&str>) -> Result<Self, CommandError> {
        let usage = |text: String| CommandError::new(Class::Usage, text);
        let (rest, step) = match at.and_then(|at| at.rsplit_once(':')) {
            Some((rest, step)) => (Some(rest).filter(|rest| !rest.is_empty()), Some(step)),
            None => (at, None),
        };
        let (run, job) = match rest.and_then(|rest| rest.split_once('/')) {
            Some((run, job)) => (Some(run).filter(|run| !run.is_empty()), Some(job)),
            None => (rest, None),
        };
        let id = match run {
            Some(run) => {
                let selector = run.parse::<Selector>().unwrap_or(Selector::Prefix(run.to_owned()));
                Some(RunDirectory::open(home, &selector)?.id().to_owned())
            }
            None => None,
        };
        let all = kept::all(home)?;
        let meant = |kept: &&Kept| {
            id.as_ref().is_none_or(|id| *id == kept.run)
                && job.is_none_or(|job| job == kept.job)
                && step.is_none_or(|step| kept.steps.iter().any(|(id, _)| id == step))
        };
        let Some(kept) = all.iter().rev().find(meant) else {
            let shown: Vec<String> = all.iter().rev().flat_map(names).collect();
            let what = at.map_or_else(|| "no step".to_owned(), |at| format!("nothing of `{at}`"));
            let hint = match shown.is_empty() {
                true => "steps that fail are kept, those of the last five runs that had some".to_owned(),
                false => format!("there are {}", shown.join(", ")),
            };
            return Err(usage(format!("{what} is kept")).with_hint(hint));
        };
        let step = step.or(kept.steps.last().map(|(id, _)| id.as_str())).unwrap_or_default().to_owned();
        let upper = kept.upper(home, &step).filter(|upper| upper.is_dir());
        let Some(upper) = upper else {
            return Err(usage(format!("what step `{step}` of run {} left is gone", kept.run)));
        };
        let run = RunDirectory::open(home, &Selector::Prefix(kept.run.clone()))?;
        Ok(Self { step, upper, workspace: kept.workspace(home), run, kept: kept.clone() })
    }

    /// The plan of a job with one step, which finds what the kept one found.
    fn plan(&self, settings: &ShellSettings) -> Result<jobs::Plan, CommandError> {
        let lost = |what: &str| {
            let text = format!("the records of run {} do not have {what}", self.kept.run);
            CommandError::new(Class::Host, text)
        };
        let path = self.run.path().join("job.resolved.json");
        let resolved: Value = serde_json::from_slice(&fs::read(&path).map_err(|_| lost("the plan"))?)
            .map_err(|_| lost("a plan that is understood"))?;
        let named = |list: &'_ Value, id: &str| {
            list.as_array().and_then(|list| list.iter().find(|entry| entry["id"] == id)).cloned()
        };
        let job = named(&resolved["jobs"], &self.kept.job).ok_or_else(|| lost("the job"))?;
        let step = named(&job["steps"], &self.step).ok_or_else(|| lost("the step"))?;
        let record = self.run.read_run()?;
        let of_job = record.jobs.iter().find(|record| record.id == self.kept.job);
        let mut environment = self.environment()?;
        if let Some(term) = settings.term.as_ref().filter(|_| settings.terminal) {
            environment.push(("TERM".to_owned(), Some(term.clone())));
        }
        let user = if settings.root { Some("root".to_owned()) } else { user(&step["user"]) };
        let overrides = Overrides {
            env: environment,
            untrusted: false,
            user,
            workdir: step["workdir"].as_str().map(str::to_owned),
            ..Overrides::default()
        };
        let mut text = json!({
            "image": image(&job["image"], of_job),
            "workspace": job["workspace"].as_str().map_or(".", |word| if word == "in_place" { "." } else { word }),
            "hostname": job["hostname"],
            "network": network(&job["network"]),
            "limits": limits(&job["limits"]),
            "timeout": TIMEOUT,
            "grace": "0",
            "seccomp": step["seccomp"].get("file").unwrap_or(&step["seccomp"]),
            "privileges": step["privileges"].get("capabilities").unwrap_or(&step["privileges"]),
            "steps": [{"id": self.step, "run": ["command"]}],
        });
        let mounts = job["mounts"].as_array().into_iter().flatten();
        text["mounts"] = mounts
            .map(|mount| json!({"host": mount["host"], "path": mount["path"], "ro": mount["read_only"]}))
            .collect();
        text["caches"] = caches(of_job);
        let planned = jobs::plan("records", "shell", text.to_string().as_bytes(), &overrides)?;
        let mut plan = planned.plan;
        plan.name = format!("shell in {}:{}", self.kept.run, self.step);
        if let Some(step) = plan.jobs.first_mut().and_then(|job| job.steps.first_mut()) {
            step.command = Command::Argv(match settings.command.as_slice() {
                [] => ["sh", "-c", SHELL].map(str::to_owned).to_vec(),
                command => command.to_vec(),
            });
        }
        Ok(plan)
    }

    /// The step's variables as they were, but for those that had a secret in them.
    fn environment(&self) -> Result<Vec<(String, Option<String>)>, CommandError> {
        let found = self
            .run
            .steps()?
            .into_iter()
            .find(|directory| directory.job == self.kept.job && directory.id == self.step);
        let recorded = found.map(|directory| directory.read_environment()).transpose()?.unwrap_or_default();
        let mask = String::from_utf8_lossy(MASK).into_owned();
        let known = recorded.into_iter().filter(|(_, value)| !value.contains(&mask));
        Ok(known.map(|(name, value)| (name, Some(value))).collect())
    }
}

/// How the kept steps of a job are called.
fn names(kept: &Kept) -> Vec<String> {
    kept.steps.iter().rev().map(|(step, _)| format!("{}/{}:{step}", kept.run, kept.job)).collect()
}

/// The image that it was, whatever its name means by now.
fn image(plan: &Value, record: Option<&JobRecord>) -> Value {
    let reference = plan["reference"].as_str().unwrap_or_default();
    let digest = record.and_then(|record| record.image.digest.as_deref()).unwrap_or_default();
    let digest = digest.trim_start_matches("sha256:");
    let mut image = json!({"ref": reference});
    // A directory, or this machine, has none.
    if let Ok(Ok(spec)) = jobs::ImageSpec::parse(reference).map(|spec| spec.with_sha256(digest)) {
        image["sha256"] = json!(spec.sha256);
    }
    image
}

fn user(plan: &Value) -> Option<String> {
    let id = &plan["id"];
    match plan.as_str() {
        Some("caller") => Some("me".to_owned()),
        Some(word) => Some(word.to_owned()),
        None if id.is_object() => Some(match id["gid"].as_u64() {
            Some(gid) => format!("{}:{gid}", id["uid"]),
            None => id["uid"].to_string(),
        }),
        None => plan["name"].as_str().map(str::to_owned),
    }
}

/// The caches as the job's steps began with them, and not to be changed.
fn caches(record: Option<&JobRecord>) -> Value {
    let all = record.into_iter().flat_map(|job| &job.caches);
    let restored = all.filter_map(|cache| {
        // A key that looks like an expression would be taken for one.
        let key = cache.restored_from.as_ref().filter(|key| !key.contains("${{"))?;
        Some(json!({"path": cache.path, "key": key, "mode": "ro"}))
    });
    restored.collect()
}

fn network(plan: &Value) -> Value {
    match (plan.as_str(), &plan["rules"]) {
        // The services are over.
        (Some("services"), _) => json!("none"),
        (Some(word), _) => json!(word),
        (None, rules) if rules["allow"].is_null() => json!({"record": rules["record"]}),
        (None, rules) => json!({"allow": rules["allow"], "record": rules["record"]}),
    }
}

/// What the limits were; those that none was given for are absent.
fn limits(plan: &Value) -> Value {
    let bytes = |key: &str| plan[key].as_u64().map(|bytes| json!(format!("{bytes}B")));
    let number = |key: &str| Some(plan[key].clone()).filter(|number| !number.is_null());
    let all = [
        ("cpus", number("cpus")),
        ("cpu-weight", number("cpu_weight")),
        ("memory", bytes("memory_bytes")),
        ("pids", number("pids")),
        ("files", number("files")),
    ];
    let given = all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect())
}
