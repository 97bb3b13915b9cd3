//! A valid job and the overrides to a plan: every default is written here and nowhere else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::bounds::{ARTIFACT_NAME_BYTES_MAX, DEFAULT_NAME_CHARS_MAX, NAME_CHARS_MAX};
use crate::cache::{CacheMode, CachePlan};
use crate::check::ValidOverrides;
use crate::expression::{Template, Value};
use crate::image::ImageSpec;
use crate::job::{Artifact, Cell, Early, Env, Job, JobLimits, Report, Run, Service, Setup, Step};
use crate::names;
use crate::overrides::{LimitsOverride, Overrides};
use crate::plan::{
    ArtifactPlan, Command, JobPlan, Limits, Network, Plan, ReportPlan, SetupPlan, StepPlan, When, Workspace,
};
use crate::rights::{Privileges, Seccomp};
use crate::service::ServicePlan;
use crate::shell::Shell;
use crate::source::Source;
use crate::user::User;

/// The version of the format.
pub const VERSION: u32 = 1;
/// The id of the only job of a file without `jobs`.
pub const JOB_ID: &str = "job";
/// Longest time of a job.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Time between SIGTERM and SIGKILL.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// The host name inside.
pub const DEFAULT_HOSTNAME: &str = "runner";
/// The network: builds download what they need.
pub const DEFAULT_NETWORK: Network = Network::Full;
/// Processes and threads: far above any build, far below what hurts a machine.
pub const DEFAULT_PIDS: u64 = 4_096;
/// Bytes of swap: none, so that `memory` means what it says.
pub const DEFAULT_SWAP_BYTES: u64 = 0;
/// Bytes kept of one step's log.
pub const DEFAULT_LOG_BYTES: u64 = 4 << 30;
/// The shell of scripts.
const DEFAULT_SHELL: &str = "sh";

/// The file's part of a plan.
pub(crate) struct Head {
    pub name: Option<String>,
    /// What expressions see of the run's inputs, the machine and the work tree.
    pub contexts: Vec<(&'static str, Value)>,
}

/// Settles the whole. `default_name` is the file's stem.
pub(crate) fn plan(head: Head, jobs: Vec<JobPlan>, overrides: &Overrides, default_name: &str) -> Plan {
    let name = head.name.unwrap_or_else(|| label_of(default_name));
    let timeout = overrides.timeout.filter(|_| jobs.len() > 1);
    Plan { version: VERSION, name, timeout, contexts: head.contexts, jobs: apart(jobs) }
}

/// Where a job stands among the others.
pub(crate) struct Place<'p> {
    /// Its id in the file.
    pub id: &'p str,
    pub early: &'p Early,
    pub cell: &'p Cell,
    /// It is the run's only one: the run's time is its time.
    pub alone: bool,
    /// The context `params`.
    pub params: &'p Value,
    /// The params of each file whose steps are used.
    pub used: &'p [Value],
}

/// Settles one job, or one cell of its matrix.
pub(crate) fn job(
    place: &Place<'_>,
    job: Job,
    overrides: &Overrides,
    valid: &ValidOverrides,
    source: &Source,
) -> JobPlan {
    let own: Vec<_> = job.steps.iter().map(|step| (step.id.as_deref(), step.name.as_deref())).collect();
    let ids = names::step_ids(&own);
    let mut names = ArtifactNames::new(&job.steps, &job.artifacts);
    let mut env = variables("PARAM", place.params);
    env.extend(variables("MATRIX", &place.cell.matrix));
    let env = merged(env, job.env);
    let inherited = Inherited {
        shell: job.shell.or_else(|| Shell::named(DEFAULT_SHELL)).expect("the default is a known shell"),
        workdir: job.workdir,
        user: job.user,
        seccomp: job.seccomp.unwrap_or(Seccomp::Default),
        privileges: job.privileges.unwrap_or(Privileges::Default),
        overrides,
        user_override: valid.user.clone(),
        quiet_timeout: job.quiet_timeout,
        used: place.used,
    };
    let steps = inherited.steps(job.steps, &ids, source, &mut names);
    let setup = inherited.setup(job.setup, source, &mut names);
    let artifacts = job.artifacts.into_iter().enumerate();
    let artifacts = artifacts.map(|(at, a)| names.settle(a, &format!("artifact-{}", at + 1))).collect();
    let network = overrides.network.clone().or(job.network);
    let hostname = overrides.hostname.clone().or(job.hostname);
    let id = match &place.cell.name {
        Some(cell) => format!("{}@{cell}", place.id),
        None => place.id.to_owned(),
    };
    JobPlan {
        id,
        job: place.id.to_owned(),
        matrix: place.cell.matrix.clone(),
        fail_fast: place.early.fail_fast,
        max_parallel: place.early.max_parallel,
        needs: place.early.needs.clone(),
        condition: job.condition,
        image: ImageSpec { pull: overrides.pull.or(job.image.pull), ..job.image },
        workspace: workspace(job.workspace, overrides.untrusted),
        mounts: job.mounts,
        hostname: hostname.unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned()),
        network_defaulted: network.is_none(),
        network: network.unwrap_or(DEFAULT_NETWORK),
        untrusted: overrides.untrusted,
        limits: settle_limits(&job.limits, &overrides.limits),
        timeout: overrides.timeout.filter(|_| place.alone).or(job.timeout).unwrap_or(DEFAULT_TIMEOUT),
        grace: overrides.grace.or(job.grace).unwrap_or(DEFAULT_GRACE),
        env,
        steps,
        artifacts,
        reports: names.reports(job.reports),
        outputs: job.outputs,
        continue_on_error: job.continue_on_error,
        retry: job.retry,
        secrets: job.secrets,
        setup,
        caches: job.caches.into_iter().map(|one| cache(one, overrides)).collect(),
        services: job.services.into_iter().map(|one| service(one, overrides)).collect(),
    }
}

/// Settles a cache. What nobody vouches for changes none.
fn cache(cache: CachePlan, overrides: &Overrides) -> CachePlan {
    let mode = if overrides.untrusted { CacheMode::Ro } else { cache.mode };
    CachePlan { mode, ..cache }
}

/// Settles a service. The command line's `--pull` concerns its image as the job's.
fn service(service: Service, overrides: &Overrides) -> ServicePlan {
    ServicePlan {
        name: service.name,
        image: ImageSpec { pull: overrides.pull.or(service.image.pull), ..service.image },
        env: service.env,
        command: service.command,
        user: service.user,
        mounts: service.mounts,
        limits: settle_limits(&service.limits, &LimitsOverride::default()),
        secrets: service.secrets,
        ready: service.ready,
        stop_signal: service.stop_signal,
        shm_bytes: service.shm_bytes,
        optional: service.optional,
        needs: service.needs,
        ports: service.ports,
    }
}

/// Gives artifacts of different jobs different names: all of a run are kept beside each other. A name that several jobs
/// have gets the job's id, or the cell's name, behind it.
fn apart(mut jobs: Vec<JobPlan>) -> Vec<JobPlan> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    fn all(job: &JobPlan) -> impl Iterator<Item = &ArtifactPlan> {
        let reports = job.steps.iter().flat_map(|step| &step.reports).chain(&job.reports);
        let artifacts = job.steps.iter().flat_map(|step| &step.artifacts).chain(&job.artifacts);
        artifacts.chain(reports.map(|report| &report.artifact))
    }
    for artifact in jobs.iter().flat_map(all) {
        *counts.entry(artifact.name.clone()).or_default() += 1;
    }
    let mut taken: HashSet<String> = counts.keys().cloned().collect();
    for job in &mut jobs {
        let suffix = job.id.replace('@', "-");
        let of_steps = job.steps.iter_mut().flat_map(|step| {
            let reports = step.reports.iter_mut().map(|report| &mut report.artifact);
            step.artifacts.iter_mut().chain(reports)
        });
        let reports = job.reports.iter_mut().map(|report| &mut report.artifact);
        for artifact in of_steps.chain(&mut job.artifacts).chain(reports) {
            if counts.get(&artifact.name).is_some_and(|count| *count > 1) {
                let base = format!("{}-{suffix}", artifact.name);
                artifact.name = names::free(&base, ARTIFACT_NAME_BYTES_MAX, |name| taken.contains(name));
                taken.insert(artifact.name.clone());
            }
        }
    }
    jobs
}

/// Returns a variable for each member of a context; lists and maps as JSON.
fn variables(prefix: &str, context: &Value) -> Env {
    let Value::Map(members) = context else { return Vec::new() };
    let text = |value: &Value| value.to_text().unwrap_or_else(|| format!("{value:?}"));
    let variable = |(name, value): &(String, Value)| {
        (names::variable(prefix, name), Some(Template::literal(text(value))))
    };
    members.iter().map(variable).collect()
}

/// Makes a file's stem, which may be anything, a label.
fn label_of(stem: &str) -> String {
    let label: String = stem.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if label.trim().is_empty() { JOB_ID.to_owned() } else { label }
}

fn settle_limits(job: &JobLimits, overrides: &LimitsOverride) -> Limits {
    Limits {
        cpus: overrides.cpus.or(job.cpus),
        cpu_weight: overrides.cpu_weight.or(job.cpu_weight),
        memory_bytes: overrides.memory_bytes.or(job.memory_bytes),
        swap_bytes: overrides.swap_bytes.or(job.swap_bytes).unwrap_or(DEFAULT_SWAP_BYTES),
        pids: overrides.pids.or(job.pids).unwrap_or(DEFAULT_PIDS),
        files: overrides.files.or(job.files),
        log_bytes: overrides.log_bytes.or(job.log_bytes).unwrap_or(DEFAULT_LOG_BYTES),
        disk_bytes: overrides.disk_bytes.or(job.disk_bytes),
        io: job.io,
        net_receive_bytes: job.net_receive_bytes,
        net_send_bytes: job.net_send_bytes,
    }
}

/// Nobody's job works on the project's directory itself.
fn workspace(wanted: Option<Workspace>, untrusted: bool) -> Workspace {
    match wanted.unwrap_or(Workspace::InPlace) {
        Workspace::InPlace if untrusted => Workspace::Copy,
        workspace => workspace,
    }
}

/// Where a step stands.
struct At {
    index: usize,
    id: String,
    line: usize,
    file: Option<String>,
    within: Option<String>,
}

/// What every step inherits from the job, and what the command line says over it.
struct Inherited<'a> {
    shell: Shell,
    workdir: Option<String>,
    user: Option<User>,
    seccomp: Seccomp,
    privileges: Privileges,
    overrides: &'a Overrides,
    user_override: Option<User>,
    quiet_timeout: Option<Duration>,
    used: &'a [Value],
}

impl Inherited<'_> {
    fn steps(
        &self,
        steps: Vec<Step>,
        ids: &[String],
        source: &Source,
        names: &mut ArtifactNames,
    ) -> Vec<StepPlan> {
        let settled = steps.into_iter().enumerate().map(|(at, step)| {
            let file = source.other_name_at(step.start).map(str::to_owned);
            let within = step.within.and_then(|at| ids.get(at)).cloned();
            let (id, line) = (ids[at].clone(), source.position(step.start).line);
            self.settle(step, At { index: at + 1, id, line, file, within }, names)
        });
        settled.collect()
    }

    fn setup(&self, entries: Vec<Setup>, source: &Source, names: &mut ArtifactNames) -> Vec<SetupPlan> {
        let settled = entries.into_iter().enumerate().map(|(at, setup)| {
            let file = source.other_name_at(setup.step.start).map(str::to_owned);
            let (id, line) = (format!("setup-{}", at + 1), source.position(setup.step.start).line);
            // What is installed is root's, whoever the steps run as.
            let user = setup.step.user.clone().or(Some(User::Root));
            let step = self.settle(setup.step, At { index: 0, id, line, file, within: None }, names);
            let network = setup.network.unwrap_or(Network::Full);
            let max_age = setup.max_age.filter(|age| !age.is_zero());
            // The project may change beside it: it works nowhere but at its own root.
            SetupPlan { step: StepPlan { workdir: None, user, ..step }, reads: setup.reads, network, max_age }
        });
        settled.collect()
    }

    fn settle(&self, step: Step, at: At, names: &mut ArtifactNames) -> StepPlan {
        let At { index, id, line, file, within } = at;
        let literal =
            |(name, value): &(String, Option<String>)| (name.clone(), value.clone().map(Template::literal));
        let own = match &step.run {
            Run::Uses { params, .. } => self.used.get(*params).map(|params| variables("PARAM", params)),
            Run::Script(_) | Run::Argv(_) | Run::Wait(_) | Run::Cancel(_) => None,
        };
        let env = merged(own.unwrap_or_default(), step.env);
        let env = merged(env, self.overrides.env.iter().map(literal));
        let artifacts = step.artifacts.into_iter().map(|artifact| names.settle(artifact, &id)).collect();
        let reports = names.reports(step.reports);
        StepPlan {
            index,
            name: step.name.unwrap_or_else(|| default_name(&step.run)),
            id,
            line,
            file,
            within,
            background: step.background,
            command: self.command(step.run, step.shell.as_ref()),
            env,
            workdir: self.overrides.workdir.clone().or(step.workdir).or_else(|| self.workdir.clone()),
            user: self.user_override.clone().or(step.user).or_else(|| self.user.clone()),
            seccomp: step.seccomp.unwrap_or_else(|| self.seccomp.clone()),
            privileges: step.privileges.unwrap_or_else(|| self.privileges.clone()),
            timeout: step.timeout,
            condition: step.condition,
            continue_on_error: step.continue_on_error,
            expect_exit: step.expect_exit.unwrap_or_else(|| vec![0]),
            artifacts,
            reports,
            retry: step.retry,
            secrets: step.secrets,
            quiet_timeout: step.quiet_timeout.or(self.quiet_timeout).filter(|time| !time.is_zero()),
        }
    }

    fn command(&self, run: Run, shell: Option<&Shell>) -> Command {
        let shell = shell.unwrap_or(&self.shell);
        match run {
            Run::Script(text) => {
                Command::Script { text, argv: shell.argv.clone(), suffix: shell.suffix.to_owned() }
            }
            Run::Argv(argv) => Command::Argv(argv),
            Run::Wait(steps) => Command::Wait(steps),
            Run::Cancel(step) => Command::Cancel(step),
            Run::Uses { file, params, outputs } => {
                let params = self.used.get(params).cloned().unwrap_or_default();
                Command::Uses { file, params, outputs }
            }
        }
    }
}

/// Returns the variables with others set over them: a name keeps its place and takes the later value.
fn merged(mut env: Env, over: impl IntoIterator<Item = (String, Option<Template>)>) -> Env {
    let mut places: HashMap<String, usize> =
        env.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
    for (name, value) in over {
        match places.get(&name) {
            Some(&place) => env[place].1 = value,
            None => {
                places.insert(name.clone(), env.len());
                env.push((name, value));
            }
        }
    }
    env
}

/// Returns the first line of what runs, at most 60 characters, an ellipsis for the rest.
fn default_name(run: &Run) -> String {
    let line = match run {
        Run::Script(text) => {
            text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
        }
        Run::Argv(argv) => argv.join(" "),
        Run::Wait(steps) => format!("wait for {}", steps.join(", ")),
        Run::Cancel(step) => format!("cancel {step}"),
        Run::Uses { file, .. } => format!("steps of {file}"),
    };
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() <= DEFAULT_NAME_CHARS_MAX {
        return line.to_owned();
    }
    let head: String = line.chars().take(DEFAULT_NAME_CHARS_MAX - 1).collect();
    format!("{}…", head.trim_end())
}

/// The artifacts' names given so far; the file's own are taken from the start.
struct ArtifactNames(HashSet<String>);

impl ArtifactNames {
    fn new(steps: &[Step], of_job: &[Artifact]) -> ArtifactNames {
        let all = of_job.iter().chain(steps.iter().flat_map(|step| &step.artifacts));
        ArtifactNames(all.filter_map(|artifact| Some(artifact.name.as_ref()?.value.clone())).collect())
    }

    fn settle(&mut self, artifact: Artifact, base: &str) -> ArtifactPlan {
        let name = match artifact.name {
            Some(name) => name.value,
            None => names::free(base, ARTIFACT_NAME_BYTES_MAX, |name| self.0.contains(name)),
        };
        self.0.insert(name.clone());
        ArtifactPlan { name, paths: artifact.paths, when: artifact.when, optional: artifact.optional }
    }

    /// Reports are kept by the name of what they tell, whatever comes of their step, and may be absent.
    fn reports(&mut self, reports: Vec<Report>) -> Vec<ReportPlan> {
        let settle = |Report { kind, paths }| {
            let artifact = Artifact { name: None, paths, when: When::Always, optional: true };
            ReportPlan { kind, artifact: self.settle(artifact, kind.as_str()) }
        };
        reports.into_iter().map(settle).collect()
    }
}
