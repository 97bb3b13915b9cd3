//! What the user wrote, field for field, with positions. No defaults and no meaning: `check` gives those.

use std::rc::Rc;

use crate::expression::{Expression, Template, Value};
use crate::source::Span;
use crate::yaml::{Entry, Node};

/// A value and the place where it stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct At<T> {
    pub value: T,
    pub span: Span,
}

/// A field that must be there: absent and unreadable are different mistakes, and one is reported already.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Required<T> {
    #[default]
    Absent,
    Unreadable,
    Given(At<T>),
}

impl<T> Required<T> {
    /// What a field is before it is found: absent, unless a misspelt key was probably it.
    pub fn unless_meant(key: &str, meant: &[&str]) -> Required<T> {
        if meant.contains(&key) { Required::Unreadable } else { Required::Absent }
    }

    /// Wraps what a reader made of a field that is there.
    pub fn read(value: Option<At<T>>) -> Required<T> {
        value.map_or(Required::Unreadable, Required::Given)
    }
}

/// A whole job file, its job still a tree: expressions in it are settled before its fields are read.
#[derive(Debug)]
pub(crate) struct Document {
    pub version: Option<At<String>>,
    pub name: Option<Rc<Node>>,
    pub params: Vec<ParamField>,
    pub jobs: Vec<JobSource>,
}

/// The keys of one job, the file's defaults among them.
#[derive(Debug)]
pub(crate) struct JobSource {
    pub id: At<String>,
    /// How messages call it: "the job", or "the job `test`".
    pub label: String,
    /// Ends a sentence about it: "", or " in job `test`".
    pub place: String,
    /// The whole map, to point at when something is missing.
    pub span: Span,
    pub entries: Vec<Entry>,
    /// Keys that misspelt ones probably mean.
    pub meant: Vec<&'static str>,
}

/// One entry of `params`; `NAME: TEXT` is `NAME: {default: TEXT}`.
#[derive(Debug)]
pub(crate) struct ParamField {
    pub name: At<String>,
    pub kind: Option<At<String>>,
    /// With its kind: a default may be text, a number or a boolean.
    pub default: Option<At<String>>,
    pub options: Option<At<Vec<At<String>>>>,
    pub required: Option<At<bool>>,
}

/// What of a job is settled before its matrix is multiplied out.
#[derive(Debug, Default)]
pub(crate) struct EarlyFields {
    pub needs: Vec<NeedField>,
    pub matrix: Option<MatrixField>,
    pub fail_fast: Option<bool>,
    pub max_parallel: Option<At<i64>>,
    /// Names of the outputs; their values come late.
    pub outputs: Vec<String>,
    /// Something in it could not be read: how many cells there are is not known.
    pub unreadable: bool,
}

/// One entry of `needs`; `- JOB` is `- {job: JOB}`.
#[derive(Debug)]
pub(crate) struct NeedField {
    pub job: At<String>,
    pub on: Option<At<String>>,
    pub artifacts: Option<bool>,
}

/// `matrix`.
#[derive(Debug)]
pub(crate) struct MatrixField {
    pub span: Span,
    pub axes: Vec<(At<String>, At<Vec<Value>>)>,
    pub include: Vec<At<Members>>,
    pub exclude: Vec<At<Members>>,
}

/// Members of a map, as expressions see them.
pub(crate) type Members = Vec<(String, Value)>;

/// One job, field for field.
#[derive(Debug, Default)]
pub(crate) struct JobFile {
    /// The whole map, to point at when something is missing.
    pub span: Span,
    pub condition: Option<At<Rc<Expression>>>,
    pub image: Required<ImageField>,
    pub env: Vec<EnvField>,
    pub steps: Required<Vec<StepField>>,
    pub limits: LimitsField,
    pub timeout: Option<At<String>>,
    pub grace: Option<At<String>>,
    pub user: Option<At<String>>,
    pub shell: Option<At<ShellField>>,
    pub workdir: Option<At<String>>,
    pub hostname: Option<At<String>>,
    pub mounts: Option<At<Vec<MountField>>>,
    pub workspace: Option<At<String>>,
    pub network: Option<At<NetworkField>>,
    pub seccomp: Option<At<String>>,
    pub privileges: Option<At<PrivilegesField>>,
    pub artifacts: Option<At<Vec<ArtifactField>>>,
    pub outputs: Vec<EnvField>,
    pub continue_on_error: Option<SwitchField>,
    pub retry: Option<At<RetryField>>,
    pub quiet_timeout: Option<At<String>>,
    pub secrets: Vec<SecretField>,
    pub services: Vec<ServiceField>,
    pub setup: Vec<SetupField>,
    pub caches: Vec<CacheField>,
}

/// One entry of `caches`; `- PATH` is `- path: PATH`.
#[derive(Debug)]
pub(crate) struct CacheField {
    pub path: At<String>,
    pub key: Option<At<Template>>,
    pub restore_keys: Vec<At<Template>>,
    pub mode: Option<At<String>>,
    pub when: Option<At<String>>,
    pub max_size: Option<At<String>>,
}

impl CacheField {
    /// One of which nothing but the path is said.
    pub fn of(path: At<String>) -> CacheField {
        CacheField { path, key: None, restore_keys: Vec::new(), mode: None, when: None, max_size: None }
    }
}

/// One entry of `services`; `NAME: IMAGE` is `NAME: {image: IMAGE}`.
#[derive(Debug, Default)]
pub(crate) struct ServiceField {
    pub name: At<String>,
    pub image: Required<ImageField>,
    pub env: Vec<EnvField>,
    pub run: Option<At<RunField>>,
    pub user: Option<At<String>>,
    pub mounts: Option<At<Vec<MountField>>>,
    pub limits: LimitsField,
    pub secrets: Vec<SecretField>,
    pub ready: Option<At<ReadyField>>,
    pub stop_signal: Option<At<String>>,
    pub shm: Option<At<String>>,
    pub optional: bool,
    pub needs: Vec<At<String>>,
    pub ports: Vec<At<String>>,
}

/// `ready` of a service.
#[derive(Debug, Default)]
pub(crate) struct ReadyField {
    /// The ways to tell that are there.
    pub probes: Vec<(String, Span)>,
    pub tcp: Option<At<i64>>,
    pub http: Option<At<String>>,
    pub status: Option<At<i64>>,
    pub run: Option<At<RunField>>,
    pub log: Option<At<String>>,
    pub timeout: Option<At<String>>,
    pub interval: Option<At<String>>,
    pub after: Option<At<String>>,
}

/// A secret that is declared or named.
#[derive(Debug)]
pub(crate) struct SecretField {
    pub name: At<String>,
    pub required: Option<At<bool>>,
    pub env: Option<At<String>>,
}

impl SecretField {
    /// One of which nothing but the name is said.
    pub fn of(name: At<String>) -> SecretField {
        SecretField { name, required: None, env: None }
    }
}

/// `image: REF` or `image: {ref, sha256, pull}`.
#[derive(Debug, PartialEq)]
pub(crate) struct ImageField {
    pub reference: At<String>,
    pub sha256: Option<At<String>>,
    pub pull: Option<At<String>>,
}

/// One entry of `setup`; `- TEXT` is `- run: TEXT`.
#[derive(Debug, Default)]
pub(crate) struct SetupField {
    pub step: StepField,
    pub reads: Option<At<Vec<At<String>>>>,
    pub network: Option<At<NetworkField>>,
    pub max_age: Option<At<String>>,
}

/// One entry of `include`; `- PATH` is `- path: PATH`.
#[derive(Debug)]
pub(crate) struct IncludeField {
    pub path: At<String>,
    pub sha256: Option<At<String>>,
}

/// A file whose steps others use.
#[derive(Debug)]
pub(crate) struct StepFile {
    pub params: Vec<ParamField>,
    pub steps: Vec<Rc<Node>>,
    /// A map, as far as it is one.
    pub outputs: Option<Rc<Node>>,
}

/// A step that takes the steps of a file, which stand behind it.
#[derive(Debug)]
pub(crate) struct UsesField {
    pub file: At<String>,
    /// The number of its values of `params` among the job's; `None`: it came to nothing, and that was reported.
    pub params: Option<usize>,
    pub outputs: Vec<EnvField>,
}

/// One entry of `env`; a null value unsets the variable.
#[derive(Debug)]
pub(crate) struct EnvField {
    pub name: At<String>,
    pub value: At<Option<Template>>,
}

/// `limits`.
#[derive(Debug, Default)]
pub(crate) struct LimitsField {
    pub cpus: Option<At<String>>,
    pub cpu_weight: Option<At<i64>>,
    pub memory: Option<At<String>>,
    pub swap: Option<At<String>>,
    pub pids: Option<At<i64>>,
    pub files: Option<At<i64>>,
    pub log: Option<At<String>>,
    pub disk: Option<At<String>>,
    pub io_read: Option<At<String>>,
    pub io_write: Option<At<String>>,
    pub io_read_ops: Option<At<i64>>,
    pub io_write_ops: Option<At<i64>>,
    pub net_receive: Option<At<String>>,
    pub net_send: Option<At<String>>,
}

/// `network: WORD` or `network: {allow, record}`.
#[derive(Debug)]
pub(crate) enum NetworkField {
    Word(String),
    Rules { allow: Option<At<Vec<At<String>>>>, record: Option<At<bool>> },
}

/// `privileges: WORD` or a list of capabilities.
#[derive(Debug, Clone)]
pub(crate) enum PrivilegesField {
    Word(String),
    Capabilities(Vec<At<String>>),
}

/// One step; `- TEXT` is `- run: TEXT`.
#[derive(Debug, Default)]
pub(crate) struct StepField {
    /// The step's first character and on.
    pub span: Span,
    /// How messages call it: its id, else its name, else its number.
    pub label: String,
    pub run: Required<RunField>,
    pub background: bool,
    pub wait: Option<At<Vec<At<String>>>>,
    pub cancel: Option<At<String>>,
    /// The file whose steps stand behind it.
    pub uses: Option<UsesField>,
    /// The place among the steps of the `uses` that it came by.
    pub within: Option<usize>,
    /// It is the end of a `parallel`, whose members stand before it.
    pub parallel: Option<Span>,
    /// The place among the steps of the `parallel` that it is a member of.
    pub member_of: Option<usize>,
    /// Keys that are there, for those that have no use.
    pub keys: Vec<(String, Span)>,
    pub id: Option<At<String>>,
    pub name: Option<At<String>>,
    pub env: Vec<EnvField>,
    pub shell: Option<At<ShellField>>,
    pub workdir: Option<At<String>>,
    pub user: Option<At<String>>,
    pub timeout: Option<At<String>>,
    pub seccomp: Option<At<String>>,
    pub privileges: Option<At<PrivilegesField>>,
    pub condition: Option<At<Rc<Expression>>>,
    pub continue_on_error: Option<SwitchField>,
    pub expect_exit: Option<At<Vec<At<i64>>>>,
    pub artifacts: Option<At<Vec<ArtifactField>>>,
    pub retry: Option<At<RetryField>>,
    pub quiet_timeout: Option<At<String>>,
    pub secrets: Vec<SecretField>,
}

/// `retry: N` or `retry: {max, on, delay, backoff}`.
#[derive(Debug)]
pub(crate) struct RetryField {
    pub max: At<i64>,
    pub on: Option<At<Vec<At<String>>>>,
    pub delay: Option<At<String>>,
    pub backoff: Option<At<String>>,
}

/// `continue-on-error`: known, or to be settled while the job runs.
#[derive(Debug)]
pub(crate) enum SwitchField {
    Is(bool),
    When(Rc<Template>),
}

/// `run`: a script, or a program with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RunField {
    Script(String),
    Argv(Vec<At<String>>),
}

/// `shell`: the name of a known one, or a program with `{0}` where the script goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ShellField {
    Name(String),
    Argv(Vec<At<String>>),
}

/// One entry of `mounts`.
#[derive(Debug)]
pub(crate) enum MountField {
    Short(At<String>),
    Long { host: At<String>, path: At<String>, read_only: bool },
}

/// One entry of `artifacts`; `- PATTERN` is `- paths: [PATTERN]`.
#[derive(Debug)]
pub(crate) struct ArtifactField {
    pub span: Span,
    pub name: Option<At<String>>,
    pub paths: Required<Vec<At<String>>>,
    pub when: Option<At<String>>,
    pub optional: bool,
}
