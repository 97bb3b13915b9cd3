//! The tree of a file to its fields: which keys exist, and which type each value has. Every mistake is
//! reported and its field left out; the meaning of the values is `check`'s business.

use std::rc::Rc;

use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::file::{At, JobFile, Required};
use crate::render::quote;
use crate::source::{Source, Span};
use crate::suggest::nearest;
use crate::yaml::{Entry, Kind, Node, Scalar, Value};

mod fields;
mod keys;
mod step;

pub use keys::{
    ARTIFACT_KEYS, IMAGE_KEYS, JOB_KEYS, LIMITS_KEYS, MOUNT_KEYS, NET_LIMITS_KEYS, NETWORK_KEYS, STEP_KEYS,
};

/// Reads the whole file from its root.
pub(crate) fn job_file(root: &Node, source: &Source, problems: &mut Problems) -> JobFile {
    let mut reader = Reader { source, problems };
    let mut file = JobFile { span: root.span.clone(), ..JobFile::default() };
    let Some(map) = reader.map(root, "a job file", "") else {
        // Already reported; nothing more can be said about what is in it.
        (file.image, file.steps) = (Required::Unreadable, Required::Unreadable);
        return file;
    };
    let meant = reader.known_keys(map, JOB_KEYS, Place::TOP);
    file.image = Required::unless_meant("image", &meant);
    file.steps = Required::unless_meant("steps", &meant);
    let place = "";
    for Entry { key, value, key_span } in map {
        match key.as_str() {
            "version" => file.version = reader.text(value, "version", place),
            "name" => file.name = reader.text(value, "name", place),
            "image" => file.image = Required::read(reader.image(value)),
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
                file.workspace = reader.text_as(value, "workspace", "`.`, `copy` or `empty`", place)
            }
            "network" => file.network = reader.network(value),
            "artifacts" => file.artifacts = reader.artifacts(value, place),
            _ => {}
        }
    }
    file
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
        if scalar.text.contains("${{") {
            let at = self.find(&node.span, "${{");
            let expression = quote(self.source.text.get(at.clone()).unwrap_or("${{"));
            let text = format!("{expression} is an expression, and this version has none");
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
    if known == JOB_KEYS && STEP_KEYS.contains(&key.as_str()) {
        return Some(format!("`{key}` is a key of a step"));
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
