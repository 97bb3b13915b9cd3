//! Files that a job file names: those that it is laid over (`include`), and those whose steps it takes (`uses`). Who reads
//! them is the caller; where they lie is settled here.

use std::collections::HashMap;
use std::rc::Rc;

use crate::bounds::{INCLUDE_DEPTH_MAX, INCLUDES_MAX, NODES_MAX};
use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::file::{At, IncludeField, StepFile};
use crate::image::sha256_digits;
use crate::merge;
use crate::overrides::WorkTree;
use crate::read;
use crate::render::quote;
use crate::source::{Source, Span};
use crate::yaml::{self, Entry, Kind, Node, Value};

/// Reads the files that a job file names.
pub trait Files {
    /// Returns a file's bytes, of which one more than [`crate::bounds::FILE_BYTES_MAX`] are enough.
    ///
    /// # Errors
    /// Why it cannot be had, or is not the one that was promised, in a few words.
    fn read(&mut self, wanted: &Wanted<'_>) -> Result<Vec<u8>, String>;

    /// Returns what costs a look at the whole work tree; asked only where an expression may name it.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn work_tree(&mut self) -> Result<WorkTree, String> {
        Ok(WorkTree::default())
    }
}

/// A file that a job file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'w> {
    /// An `https` URL, or a path that starts where the job file's own name does.
    pub name: &'w str,
    /// The SHA-256 that its bytes must have, 64 hexadecimal digits; a URL always has one.
    pub sha256: Option<&'w str>,
}

/// Nobody: a file that names others is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&mut self, _: &Wanted<'_>) -> Result<Vec<u8>, String> {
        Err("no other file is read here".to_owned())
    }
}

/// The files whose steps are used, by name.
#[derive(Debug, Default)]
pub(crate) struct StepFiles(HashMap<String, StepFile>);

impl StepFiles {
    /// Returns the file that a step names, and its own name.
    pub fn named_by(&self, uses: &Node, source: &Source) -> Option<(String, &StepFile)> {
        let Value::Scalar(scalar) = &uses.value else { return None };
        let name = resolve(source.name_at(uses.span.start), &scalar.text).ok()?;
        let file = self.0.get(&name)?;
        Some((name, file))
    }
}

/// Lays a file over those that it includes, and reads all whose steps are used. `None`: one that it includes cannot be had;
/// what it says could only be judged wrongly without.
pub(crate) fn gather(
    root: &Rc<Node>,
    source: &mut Source,
    files: &mut dyn Files,
    problems: &mut Problems,
) -> Option<(Rc<Node>, StepFiles)> {
    let above = vec![normal(source.name())];
    let mut gathering =
        Gathering { source, files, problems, above, trees: HashMap::new(), steps: StepFiles::default() };
    let root = gathering.over_its_includes(root)?;
    let lists = lists_of_steps(&root);
    lists.iter().for_each(|list| gathering.used_by(list));
    Some((root, gathering.steps))
}

struct Gathering<'g> {
    source: &'g mut Source,
    files: &'g mut dyn Files,
    problems: &'g mut Problems,
    /// The files that led here, from the job file on.
    above: Vec<String>,
    /// What was read already, by name; `None`: it cannot be had, and that was reported.
    trees: HashMap<String, Option<Rc<Node>>>,
    steps: StepFiles,
}

impl Gathering<'_> {
    fn over_its_includes(&mut self, root: &Rc<Node>) -> Option<Rc<Node>> {
        let Value::Map(map) = &root.value else { return Some(Rc::clone(root)) };
        let Some(include) = map.iter().find(|entry| entry.key == "include") else {
            return Some(Rc::clone(root));
        };
        let before = self.problems.len();
        let mut under: Vec<Entry> = Vec::new();
        for field in read::includes(include, self.source, self.problems) {
            let Some(included) = self.included(&field) else { continue };
            if let Value::Map(entries) = &included.value {
                under = merge::file(entries, &under);
            }
        }
        let own: Vec<Entry> = map.iter().filter(|entry| entry.key != "include").cloned().collect();
        let merged = Node::branch(root.span.clone(), Value::Map(merge::file(&own, &under)));
        if merged.weight() > NODES_MAX {
            let text = format!("with what it includes the file has more than {NODES_MAX} values");
            self.problems.add(Code::FileTooBig, &include.key_span, text);
        }
        (self.problems.len() == before).then(|| Rc::new(merged))
    }

    fn included(&mut self, field: &IncludeField) -> Option<Rc<Node>> {
        let path = &field.path;
        let from = self.source.name_at(path.span.start).to_owned();
        let name = self.resolved(&from, path, "include")?;
        let sha256 = match &field.sha256 {
            Some(sha256) => {
                let digits = sha256_digits(&sha256.value);
                if digits.is_none() {
                    let text = format!("{} is no SHA-256", quote(&sha256.value));
                    let hint = "it has 64 hexadecimal digits";
                    self.problems.add(Code::IncludeDigest, &sha256.span, text).hint(hint);
                    return None;
                }
                digits
            }
            None if is_url(&name) => {
                let text = format!("{} comes from the network and has no `sha256`", quote(&path.value));
                let hint = format!(
                    "- {{path: {}, sha256: ...}}; what it holds could change at any time",
                    path.value
                );
                self.problems.add(Code::IncludeDigest, &path.span, text).hint(hint);
                return None;
            }
            None => None,
        };
        self.goes_round(&name, path, "include")?;
        let root = self.tree(&name, sha256.as_deref(), &path.span, "include")?;
        if !matches!(root.value, Value::Map(_) | Value::Unreadable) {
            let text = format!("{} is no job file: it holds {}", quote(&path.value), root.describe());
            self.problems.add(Code::IncludedFile, &path.span, text);
            return None;
        }
        self.above.push(name);
        let whole = self.over_its_includes(&root);
        self.above.pop();
        whole
    }

    /// Reads the files whose steps are used by these, and those that they use.
    fn used_by(&mut self, steps: &[Rc<Node>]) {
        for step in steps {
            let Some(uses) = used_file(step) else { continue };
            let Value::Scalar(path) = &uses.value else { continue };
            self.used(&At { value: path.text.clone(), span: uses.span.clone() });
        }
    }

    fn used(&mut self, path: &At<String>) -> Option<()> {
        let from = self.source.name_at(path.span.start).to_owned();
        let name = self.resolved(&from, path, "use")?;
        if is_url(&name) {
            let text =
                format!("cannot use {}: steps are taken from files of the project only", quote(&path.value));
            let hint = "keep a copy of it beside the job file, where it can be reviewed";
            self.problems.add(Code::IncludedFile, &path.span, text).hint(hint);
            return None;
        }
        self.goes_round(&name, path, "use")?;
        if self.steps.0.contains_key(&name) {
            return None;
        }
        let root = self.tree(&name, None, &path.span, "use")?;
        let file = read::step_file(&root, self.source, self.problems)?;
        let steps = file.steps.clone();
        self.steps.0.insert(name.clone(), file);
        self.above.push(name);
        self.used_by(&steps);
        self.above.pop();
        None
    }

    fn resolved(&mut self, from: &str, path: &At<String>, verb: &str) -> Option<String> {
        let resolved = resolve(from, &path.value);
        let wrong = |why: &String| format!("cannot {verb} {}: {why}", quote(&path.value));
        let report = |why: &String| {
            self.problems.add(Code::IncludedFile, &path.span, wrong(why));
        };
        resolved.inspect_err(report).ok()
    }

    /// Reports a file that leads back to itself, or too far.
    fn goes_round(&mut self, name: &str, path: &At<String>, verb: &str) -> Option<()> {
        if let Some(at) = self.above.iter().position(|above| above == name) {
            let circle: Vec<&str> = self.above[at..].iter().map(String::as_str).chain([name]).collect();
            let text = format!("files {verb} each other in a circle: {}", circle.join(" -> "));
            self.problems.add(Code::IncludeCycle, &path.span, text);
            return None;
        }
        if self.above.len() > INCLUDE_DEPTH_MAX {
            let text = format!("files {verb} each other more than {INCLUDE_DEPTH_MAX} deep");
            self.problems.add(Code::IncludeCycle, &path.span, text);
            return None;
        }
        Some(())
    }

    /// Reads a file, once, and returns what is in it.
    fn tree(&mut self, name: &str, sha256: Option<&str>, at: &Span, verb: &str) -> Option<Rc<Node>> {
        // Another digest is another promise: it is put to the test again.
        if let (Some(known), None) = (self.trees.get(name), sha256) {
            return known.clone();
        }
        let tree = self.read(name, sha256, at, verb);
        self.trees.insert(name.to_owned(), tree.clone());
        tree
    }

    fn read(&mut self, name: &str, sha256: Option<&str>, at: &Span, verb: &str) -> Option<Rc<Node>> {
        if self.trees.len() >= INCLUDES_MAX {
            let text = format!("more than {INCLUDES_MAX} files are named");
            self.problems.add(Code::TooMany, at, text);
            return None;
        }
        let bytes = self.files.read(&Wanted { name, sha256 });
        let bytes = bytes.inspect_err(|why| {
            self.problems.add(Code::IncludedFile, at, format!("cannot {verb} {}: {why}", quote(name)));
        });
        let before = self.problems.len();
        let span = self.source.add(name, &bytes.ok()?, self.problems);
        if self.problems.len() > before {
            return None;
        }
        yaml::parse(&self.source.text[span.clone()], span.start, self.problems)
    }
}

/// Returns the lists of steps that a file has: its own, or those of its jobs.
fn lists_of_steps(root: &Node) -> Vec<Vec<Rc<Node>>> {
    fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
        let Value::Map(entries) = &node.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &*entry.value)
    }
    let steps = |of: &Node| match member(of, "steps").map(|steps| &steps.value) {
        Some(Value::List(list)) => list.clone(),
        _ => Vec::new(),
    };
    let jobs = match member(root, "jobs").map(|jobs| &jobs.value) {
        Some(Value::Map(jobs)) => jobs.iter().map(|job| steps(&job.value)).collect(),
        _ => Vec::new(),
    };
    std::iter::once(steps(root)).chain(jobs).collect()
}

/// Returns whether a step takes the steps of a file.
pub(crate) fn used_file(step: &Node) -> Option<&Rc<Node>> {
    let Value::Map(entries) = &step.value else { return None };
    let uses = &entries.iter().find(|entry| entry.key == "uses")?.value;
    let is_text = matches!(&uses.value, Value::Scalar(scalar) if scalar.kind != Kind::Null);
    is_text.then_some(uses)
}

fn is_url(name: &str) -> bool {
    name.starts_with("https://")
}

/// Returns the name of a file that another one names, or why there is none.
fn resolve(from: &str, path: &str) -> Result<String, String> {
    if is_url(path) {
        return Ok(path.to_owned());
    }
    if path.contains("://") {
        return Err("a URL begins with `https://`".to_owned());
    }
    if path.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if is_url(from) {
        return Err("a file from the network can name files of the network only".to_owned());
    }
    if path.starts_with('/') {
        return Ok(normal(path));
    }
    let directory = from.rsplit_once('/').map(|(directory, _)| format!("{directory}/"));
    Ok(normal(&format!("{}{path}", directory.unwrap_or_default())))
}

/// Returns a path without `.` and without `name/..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_file_that_names_them() {
        let table = [
            ("job.yml", "common.yml", "common.yml"),
            ("job.yml", "./ci/x.yml", "ci/x.yml"),
            ("ci/job.yml", "./x.yml", "ci/x.yml"),
            ("ci/job.yml", "../x.yml", "x.yml"),
            ("job.yml", "../x.yml", "../x.yml"),
            ("../job.yml", "../x.yml", "../../x.yml"),
            ("/a/b/job.yml", "../x.yml", "/a/x.yml"),
            ("/job.yml", "x.yml", "/x.yml"),
            ("job.yml", "/etc/x.yml", "/etc/x.yml"),
            ("https://h/a.yml", "https://h/b.yml", "https://h/b.yml"),
        ];
        for (from, path, expected) in table {
            assert_eq!(resolve(from, path).as_deref(), Ok(expected), "{path} from {from}");
        }
        for (from, path) in [("job.yml", ""), ("job.yml", "http://h/x"), ("https://h/a.yml", "b.yml")] {
            assert!(resolve(from, path).is_err(), "{path} from {from}");
        }
    }
}
