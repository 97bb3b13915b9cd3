//! The tree of a file to its fields: which keys exist, and which type each value has. Every mistake is
//! reported and its field left out; the meaning of the values is `check`'s business.

use std::rc::Rc;

use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::expression::{Expression, OPEN};
use crate::file::{At, Document, EarlyFields, JobFile, JobSource, Required, SwitchField};
use crate::render::quote;
use crate::settle::JOB_ID;
use crate::source::{Source, Span};
use crate::suggest::nearest;
use crate::yaml::{Entry, Kind, Node, Origin, Scalar, Value};

mod caches;
mod fields;
mod include;
mod jobs;
mod keys;
mod matrix;
mod params;
mod retry;
mod secrets;
mod services;
mod setup;
mod step;

pub(crate) use include::{includes, step_file};
pub(crate) use keys::EARLY_KEYS;
pub use keys::{
    ARTIFACT_KEYS, CACHE_KEYS, DEFAULT_KEYS, FILE_KEYS, IMAGE_KEYS, INCLUDE_KEYS, IO_LIMITS_KEYS, JOB_KEYS,
    LIMITS_KEYS, MOUNT_KEYS, NEED_KEYS, NET_LIMITS_KEYS, NETWORK_KEYS, PARAM_KEYS, READY_KEYS, RETRY_KEYS,
    SECRET_KEYS, SERVICE_KEYS, SERVICE_LIMITS_KEYS, SETUP_KEYS, STEP_FILE_KEYS, STEP_KEYS, STEP_SECRET_KEYS,
};

/// Reads the top of the file: everything but what is in its jobs. `None` when the file is no map; that is reported.
pub(crate) fn document(root: &Node, source: &Source, problems: &mut Problems) -> Option<Document> {
    let mut reader = Reader { source, problems };
    let map = reader.map(root, "a job file", "")?;
    let jobs = map.iter().find(|entry| entry.key == "jobs");
    let known = [FILE_KEYS, if jobs.is_some() { DEFAULT_KEYS } else { JOB_KEYS }].concat();
    let meant = if jobs.is_some() {
        reader.no_steps_beside_jobs(map);
        let map: Vec<Entry> = map.iter().filter(|entry| entry.key != "steps").cloned().collect();
        reader.known_keys(&map, &known, Place::TOP)
    } else {
        reader.known_keys(map, &known, Place::TOP)
    };
    let mut document = Document { version: None, name: None, params: Vec::new(), jobs: Vec::new() };
    let mut shared: Vec<Entry> = Vec::new();
    for entry in map {
        match entry.key.as_str() {
            "version" => document.version = reader.text(&entry.value, "version", ""),
            "name" => document.name = Some(Rc::clone(&entry.value)),
            "params" => document.params = reader.params(&entry.value),
            "jobs" => {}
            key if known.contains(&key) => shared.push(entry.clone()),
            _ => {}
        }
    }
    document.jobs = match jobs {
        Some(jobs) => reader.jobs(jobs, &shared),
        None => {
            let id = At { value: JOB_ID.to_owned(), span: root.span.start..root.span.start };
            let (label, place) = ("the job".to_owned(), String::new());
            vec![JobSource { id, label, place, span: root.span.clone(), entries: shared, meant }]
        }
    };
    Some(document)
}

/// Reads the run's label, its expressions settled.
pub(crate) fn name(node: &Node, source: &Source, problems: &mut Problems) -> Option<At<String>> {
    Reader { source, problems }.text(node, "name", "")
}

/// Reads a job from its entries, their expressions settled.
pub(crate) fn job(
    JobSource { span, meant, place, .. }: &JobSource,
    entries: &[Entry],
    source: &Source,
    problems: &mut Problems,
) -> JobFile {
    let mut reader = Reader { source, problems };
    let mut file = JobFile { span: span.clone(), ..JobFile::default() };
    file.image = Required::unless_meant("image", meant);
    file.steps = Required::unless_meant("steps", meant);
    for Entry { key, value, key_span } in entries {
        match key.as_str() {
            "image" => file.image = Required::read(reader.image(value)),
            "if" => file.condition = reader.condition(value, place),
            "env" => file.env = reader.env(value, place),
            "steps" => file.steps = Required::read(reader.steps(value, key_span)),
            "limits" => file.limits = reader.limits(value),
            "timeout" => file.timeout = reader.duration(value, "timeout", place),
            "grace" => file.grace = reader.duration(value, "grace", place),
            "user" => file.user = reader.text(value, "user", place),
            "shell" => file.shell = reader.shell(value, place),
            "workdir" => file.workdir = reader.text(value, "workdir", place),
            "hostname" => file.hostname = reader.text(value, "hostname", place),
            "mounts" => file.mounts = reader.mounts(value),
            "workspace" => {
                file.workspace = reader.text_as(value, "workspace", "`.`, `copy`, `git` or `empty`", place)
            }
            "network" => file.network = reader.network(value, place),
            "seccomp" => file.seccomp = reader.seccomp(value, place),
            "privileges" => file.privileges = reader.privileges(value, place),
            "artifacts" => file.artifacts = reader.artifacts(value, place),
            "retry" => file.retry = reader.retry(value, place),
            "quiet-timeout" => file.quiet_timeout = reader.duration(value, "quiet-timeout", place),
            "secrets" => file.secrets = reader.secrets(value, place, false),
            "services" => file.services = reader.services(value, place),
            "setup" => file.setup = reader.setup(value, key_span),
            "caches" => file.caches = reader.caches(value, place),
            "outputs" => file.outputs = reader.templates(value, "outputs", place),
            "continue-on-error" => {
                file.continue_on_error = reader.switch(value, "continue-on-error", place);
            }
            _ => {}
        }
    }
    file
}

/// Reads what of a job is settled before its matrix is multiplied out.
pub(crate) fn early(
    JobSource { place, .. }: &JobSource,
    entries: &[Entry],
    source: &Source,
    problems: &mut Problems,
) -> EarlyFields {
    let mut reader = Reader { source, problems };
    let mut early = EarlyFields::default();
    for Entry { key, value, .. } in entries {
        let known = match key.as_str() {
            "needs" => reader.needs(value, place).map(|needs| early.needs = needs),
            "matrix" => reader.matrix(value, place).map(|matrix| early.matrix = Some(matrix)),
            "fail-fast" => {
                reader.boolean(value, "fail-fast", place).map(|given| early.fail_fast = Some(given.value))
            }
            "max-parallel" => {
                reader.integer(value, "max-parallel", place).map(|given| early.max_parallel = Some(given))
            }
            _ => Some(()),
        };
        early.unreadable |= known.is_none();
    }
    early
}

/// How messages name a map whose keys are read.
struct Place<'a> {
    /// After an unknown key: " in step `test`".
    within: &'a str,
    /// Keys that are passed over start with this.
    ignored_prefix: Option<&'static str>,
}

impl Place<'_> {
    const TOP: Place<'static> = Place { within: " at the top level", ignored_prefix: Some("x-") };
}

/// Turns nodes into values. `place` ends a sentence: "" or " in step `test`".
struct Reader<'a> {
    source: &'a Source,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    /// Reports each key that does not exist. Returns the keys that were probably meant, so that these are not
    /// reported as missing too.
    fn known_keys(&mut self, map: &[Entry], known: &[&'static str], place: Place<'_>) -> Vec<&'static str> {
        let mut meant = Vec::new();
        for entry in map {
            let ignored = place.ignored_prefix.is_some_and(|prefix| entry.key.starts_with(prefix));
            if ignored || known.contains(&entry.key.as_str()) {
                continue;
            }
            let mut text = format!("unknown key {}{}", quote(&entry.key), place.within);
            let similar = nearest(&entry.key, known);
            if let Some(similar) = similar {
                meant.push(similar);
                text.push_str(&format!("; did you mean `{similar}`?"));
            }
            let problem = self.problems.add(Code::UnknownKey, &entry.key_span, text);
            if entry.key.contains(' ') && place.within.contains("step") {
                problem.hint("a command that contains `: ` needs quotes, or a block after `|`");
            } else if let (None, Some(elsewhere)) = (similar, elsewhere(&entry.key, known)) {
                problem.hint(elsewhere);
            } else if similar.is_none() {
                problem.hint(format!("the keys here are {}", known.join(", ")));
            }
        }
        meant
    }

    fn wrong_type(&mut self, node: &Node, key: &str, expected: &str, place: &str) {
        let key = if key.starts_with("a ") || key.starts_with("an ") { key.to_owned() } else { quote(key) };
        let text = format!("{key}{place} must be {expected}, found {}", node.describe());
        self.problems.add(Code::WrongType, &node.span, text);
    }

    /// Returns a map's entries.
    fn map<'n>(&mut self, node: &'n Node, key: &str, place: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Unreadable => None,
            Value::Scalar(_) | Value::List(_) => {
                self.wrong_type(node, key, "a map", place);
                None
            }
        }
    }

    /// Returns a list's nodes.
    fn list<'n>(&mut self, node: &'n Node, key: &str, of: &str, place: &str) -> Option<&'n [Rc<Node>]> {
        match &node.value {
            Value::List(list) => Some(list),
            Value::Unreadable => None,
            Value::Scalar(_) | Value::Map(_) => {
                self.wrong_type(node, key, &format!("a list of {of}"), place);
                None
            }
        }
    }

    /// Returns a scalar that may be used: no expression, no NUL. Other types are `None` without a word.
    fn scalar<'n>(&mut self, node: &'n Node) -> Result<&'n Scalar, Unusable> {
        let Value::Scalar(scalar) = &node.value else {
            return Err(if matches!(node.value, Value::Unreadable) {
                Unusable::Reported
            } else {
                Unusable::Type
            });
        };
        // Everything but the file's own few keys has been settled before.
        if scalar.origin == Origin::File && scalar.text.contains(OPEN) {
            let at = self.find(&node.span, OPEN);
            let expression = quote(self.source.text.get(at.clone()).unwrap_or(OPEN));
            let text = format!("{expression} cannot be used here: this value is read before all others");
            self.problems.add(Code::Expression, at, text).hint("write the value itself");
            return Err(Unusable::Reported);
        }
        if !self.without_nul(node, scalar) {
            return Err(Unusable::Reported);
        }
        Ok(scalar)
    }

    fn without_nul(&mut self, node: &Node, scalar: &Scalar) -> bool {
        let nul = scalar.text.contains('\0');
        if nul {
            let text = "the value contains a NUL character, which no program can be given";
            self.problems.add(Code::NulCharacter, &node.span, text);
        }
        !nul
    }

    /// Returns the place of a word inside a scalar, or the scalar's when escapes hide it.
    fn find(&self, span: &Span, word: &str) -> Span {
        let source = self.source.text.get(span.clone()).unwrap_or_default();
        source.find(word).map_or(span.clone(), |at| {
            let start = span.start + at;
            let end = source[at..].find("}}").filter(|end| !source[at..at + end].contains('\n'));
            start..start + end.map_or(word.len(), |end| end + 2)
        })
    }

    /// Returns text: any scalar by its source text (`1.10` stays `1.10`), except null.
    fn text(&mut self, node: &Node, key: &str, place: &str) -> Option<At<String>> {
        self.text_as(node, key, "text", place)
    }

    fn duration(&mut self, node: &Node, key: &str, place: &str) -> Option<At<String>> {
        self.text_as(node, key, "a duration such as `90s`", place)
    }

    fn size(&mut self, node: &Node, key: &str, place: &str) -> Option<At<String>> {
        self.text_as(node, key, "a size such as `512M`", place)
    }

    /// Returns text as `text` does; `expected` says what it must be, for when it is a list or a map.
    fn text_as(&mut self, node: &Node, key: &str, expected: &str, place: &str) -> Option<At<String>> {
        let found = self.scalar(node);
        match found {
            Ok(scalar) if scalar.kind != Kind::Null => {
                Some(At { value: scalar.text.clone(), span: node.span.clone() })
            }
            Ok(_) | Err(Unusable::Type) => {
                self.wrong_type(node, key, expected, place);
                None
            }
            Err(Unusable::Reported) => None,
        }
    }

    /// Returns a whole number.
    fn integer(&mut self, node: &Node, key: &str, place: &str) -> Option<At<i64>> {
        match self.scalar(node) {
            Ok(scalar) if scalar.kind == Kind::Int => match scalar.integer() {
                Some(value) => Some(At { value, span: node.span.clone() }),
                None => {
                    let text = format!("{} is too large{place}: {}", quote(key), quote(&scalar.text));
                    self.problems.add(Code::LimitTooBig, &node.span, text);
                    None
                }
            },
            Ok(_) | Err(Unusable::Type) => {
                self.wrong_type(node, key, "a whole number", place);
                None
            }
            Err(Unusable::Reported) => None,
        }
    }

    /// Returns a number's source text.
    fn number(&mut self, node: &Node, key: &str, place: &str) -> Option<At<String>> {
        match self.scalar(node) {
            Ok(scalar) if matches!(scalar.kind, Kind::Int | Kind::Float) => {
                Some(At { value: scalar.text.clone(), span: node.span.clone() })
            }
            Ok(_) | Err(Unusable::Type) => {
                self.wrong_type(node, key, "a number", place);
                None
            }
            Err(Unusable::Reported) => None,
        }
    }

    /// Returns a condition, which the expressions' room has parsed.
    fn condition(&mut self, node: &Node, place: &str) -> Option<At<Rc<Expression>>> {
        if let Value::Scalar(Scalar { origin: Origin::Condition(condition), .. }) = &node.value {
            return Some(At { value: Rc::clone(condition), span: node.span.clone() });
        }
        if !matches!(node.value, Value::Unreadable) {
            self.wrong_type(node, "if", "a condition such as `failure()`", place);
        }
        None
    }

    /// Returns true, false or an expression that is to say it.
    fn switch(&mut self, node: &Node, key: &str, place: &str) -> Option<SwitchField> {
        if let Value::Scalar(Scalar { origin: Origin::Late(template), .. }) = &node.value {
            return Some(SwitchField::When(Rc::clone(template)));
        }
        self.boolean(node, key, place).map(|given| SwitchField::Is(given.value))
    }

    /// Returns true or false; `yes` and `"true"` are neither.
    fn boolean(&mut self, node: &Node, key: &str, place: &str) -> Option<At<bool>> {
        match self.scalar(node) {
            Ok(Scalar { kind: Kind::Bool(value), .. }) => Some(At { value: *value, span: node.span.clone() }),
            Ok(_) | Err(Unusable::Type) => {
                self.wrong_type(node, key, "`true` or `false`", place);
                None
            }
            Err(Unusable::Reported) => None,
        }
    }
}

/// Says where a key belongs that is not known here but in a job or in a step.
fn elsewhere(key: &str, known: &[&str]) -> Option<String> {
    let key = key.replace('_', "-");
    if known == JOB_KEYS && FILE_KEYS.contains(&key.as_str()) {
        return Some(format!("`{key}` stands at the top level of the file"));
    }
    if known.contains(&"steps") && STEP_KEYS.contains(&key.as_str()) {
        return Some(format!("`{key}` is a key of a step"));
    }
    if known.contains(&"jobs") && !known.contains(&"steps") && JOB_KEYS.contains(&key.as_str()) {
        return Some(format!("`{key}` is a key of a job: put it below one of `jobs`"));
    }
    let of_job = known == STEP_KEYS && JOB_KEYS.contains(&key.as_str());
    of_job.then(|| format!("`{key}` is a key of the job and holds for all its steps"))
}

/// Why a scalar cannot be had.
enum Unusable {
    /// It is a list or a map.
    Type,
    /// Something else is wrong, and has been said.
    Reported,
}
