//! What the user wrote, field for field, with positions. No defaults and no meaning: `check` gives those.

use crate::source::Span;

/// A value and the place where it stands.
#[derive(Debug, Clone, PartialEq)]
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

/// A whole job file.
#[derive(Debug, Default)]
pub(crate) struct JobFile {
    /// The whole document, to point at when something is missing.
    pub span: Span,
    pub version: Option<At<String>>,
    pub name: Option<At<String>>,
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
    pub artifacts: Option<At<Vec<ArtifactField>>>,
}

/// `image: REF` or `image: {ref, sha256}`.
#[derive(Debug, PartialEq)]
pub(crate) struct ImageField {
    pub reference: At<String>,
    pub sha256: Option<At<String>>,
}

/// One entry of `env`; a null value unsets the variable.
#[derive(Debug)]
pub(crate) struct EnvField {
    pub name: At<String>,
    pub value: At<Option<String>>,
}

/// `limits`.
#[derive(Debug, Default)]
pub(crate) struct LimitsField {
    pub cpus: Option<At<String>>,
    pub memory: Option<At<String>>,
    pub swap: Option<At<String>>,
    pub pids: Option<At<i64>>,
    pub files: Option<At<i64>>,
    pub log: Option<At<String>>,
    pub net_receive: Option<At<String>>,
    pub net_send: Option<At<String>>,
}

/// `network: WORD` or `network: {allow, record}`.
#[derive(Debug)]
pub(crate) enum NetworkField {
    Word(String),
    Rules { allow: Option<At<Vec<At<String>>>>, record: Option<At<bool>> },
}

/// One step; `- TEXT` is `- run: TEXT`.
#[derive(Debug, Default)]
pub(crate) struct StepField {
    /// The step's first character and on.
    pub span: Span,
    /// How messages call it: its id, else its name, else its number.
    pub label: String,
    pub run: Required<RunField>,
    pub id: Option<At<String>>,
    pub name: Option<At<String>>,
    pub env: Vec<EnvField>,
    pub shell: Option<At<ShellField>>,
    pub workdir: Option<At<String>>,
    pub user: Option<At<String>>,
    pub timeout: Option<At<String>>,
    pub continue_on_error: Option<At<bool>>,
    pub expect_exit: Option<At<Vec<At<i64>>>>,
    pub artifacts: Option<At<Vec<ArtifactField>>>,
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
