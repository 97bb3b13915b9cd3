//! Patterns of artifacts over paths relative to the workspace. No files are looked at.
//!
//! `*` and `?` (one byte, so one ASCII character) stay within one name, `**` crosses directories, `{a,b}` and `[a-z]` choose, `!` before a
//! pattern excludes, and the last pattern that matches decides. A pattern without wildcards that names a
//! directory stands for everything below it, and so does one that ends in `/`.

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::bounds::PATTERN_BYTES_MAX;

/// Characters that make a pattern more than a path.
const WILDCARDS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// A list of patterns, compiled.
#[derive(Debug, Clone)]
pub struct GlobSet {
    rules: Vec<Rule>,
    matcher: globset::GlobSet,
}

/// Why a pattern is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing, or nothing after `!`.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than any path.
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    Long,
    /// It starts with `/`.
    #[error("the pattern must be relative to the workspace")]
    Absolute,
    /// It has a part `..`.
    #[error("the pattern must not leave the workspace by `..`")]
    Parent,
    /// `[...]` with a character that is not ASCII; globset compares single bytes there.
    #[error("only ASCII characters can stand in `[...]`; use `{{a,b}}`")]
    WideClass,
    /// It cannot be read.
    #[error("the pattern cannot be read: {0}")]
    Syntax(String),
}

/// A pattern of a list and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error} in `{pattern}`")]
pub struct BadPattern {
    /// Its place in the list, from 0.
    pub index: usize,
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong.
    pub error: GlobError,
}

#[derive(Debug, Clone)]
struct Rule {
    exclude: bool,
    /// The pattern's parts up to the first that can stand for several names.
    parts: Vec<Part>,
    /// How the pattern goes on after `parts`.
    tail: Tail,
}

/// A part of a pattern that matches one name of a path.
#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Pattern(GlobMatcher),
}

impl Part {
    fn is_match(&self, name: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// The parts are the whole pattern.
    End,
    /// Everything below the parts matches.
    Tree,
    /// Something below may match.
    Unknown,
}

impl GlobSet {
    /// Compiles a list. Errors name the first pattern that is wrong.
    pub fn new(patterns: &[String]) -> Result<GlobSet, BadPattern> {
        let mut rules = Vec::with_capacity(patterns.len());
        let mut builder = globset::GlobSetBuilder::new();
        let bad = |index: usize, error| BadPattern { index, pattern: patterns[index].clone(), error };
        for (index, pattern) in patterns.iter().enumerate() {
            let (rule, whole, below) = compile(pattern).map_err(|error| bad(index, error))?;
            rules.push(rule);
            // Two globs per rule, so that an index tells its rule; the second may repeat the first.
            builder.add(whole);
            builder.add(below);
        }
        let matcher = builder.build();
        let last = patterns.len().saturating_sub(1);
        Ok(GlobSet { rules, matcher: matcher.map_err(|error| bad(last, syntax(&error)))? })
    }

    /// Returns whether a file's path is chosen. The path is relative, with `/` between names.
    pub fn matches(&self, path: &str) -> bool {
        let last = self.matcher.matches(path).into_iter().max();
        last.is_some_and(|index| !self.rules[index / 2].exclude)
    }

    /// Returns whether a file below this directory could be chosen; `false` is certain, so a walk need not
    /// enter it. The workspace itself is the empty path.
    pub fn could_match_below(&self, dir: &str) -> bool {
        let names: Vec<&str> = dir.split('/').filter(|name| !name.is_empty()).collect();
        let mut could = false;
        for rule in &self.rules {
            let common = rule.parts.iter().zip(&names).all(|(part, name)| part.is_match(name));
            let below = common && (rule.parts.len() > names.len() || rule.tail != Tail::End);
            let covered = common && rule.parts.len() <= names.len() && rule.tail == Tail::Tree;
            match rule.exclude {
                false => could |= below,
                true => could &= !covered,
            }
        }
        could
    }
}

/// Checks one pattern of a list, without the cost of compiling it.
pub fn check(pattern: &str) -> Result<(), GlobError> {
    Shape::read(pattern).and_then(|shape| glob(&shape.body)).map(|_| ())
}

/// Returns whether a pattern excludes.
pub fn is_exclusion(pattern: &str) -> bool {
    pattern.starts_with('!')
}

/// A pattern taken apart.
struct Shape {
    exclude: bool,
    /// Without `!`, `./`, doubled slashes and the slash at the end.
    body: String,
    /// It ended in a slash.
    slash: bool,
    /// It has no wildcard.
    literal: bool,
}

impl Shape {
    fn read(pattern: &str) -> Result<Shape, GlobError> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(GlobError::Long);
        }
        let (exclude, body) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if body.starts_with('/') {
            return Err(GlobError::Absolute);
        }
        if has_parent(body) {
            return Err(GlobError::Parent);
        }
        let slash = body.ends_with('/');
        let names: Vec<&str> = body.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let body = names.join("/");
        if body.is_empty() {
            return Err(GlobError::Empty);
        }
        if has_wide_class(&body) {
            return Err(GlobError::WideClass);
        }
        let literal = !body.contains(WILDCARDS);
        Ok(Shape { exclude, body, slash, literal })
    }
}

/// Returns the rule, the glob that matches its paths, and the one that matches what is below them.
fn compile(pattern: &str) -> Result<(Rule, Glob, Glob), GlobError> {
    let Shape { exclude, body, slash, literal } = Shape::read(pattern)?;
    let whole = glob(&body)?;
    let tree = glob(&format!("{body}/**"))?;
    let (parts, tail) = parts(&body, slash || literal);
    let rule = Rule { exclude, parts, tail };
    Ok(match (slash, literal) {
        (true, _) => (rule, tree.clone(), tree),
        (false, true) => (rule, whole, tree),
        (false, false) => (rule, whole.clone(), whole),
    })
}

fn glob(pattern: &str) -> Result<Glob, GlobError> {
    let mut builder = GlobBuilder::new(pattern);
    builder.literal_separator(true).backslash_escape(true).build().map_err(|error| syntax(&error))
}

fn syntax(error: &globset::Error) -> GlobError {
    GlobError::Syntax(error.kind().to_string())
}

/// Returns whether a character of several bytes stands between `[` and `]`.
fn has_wide_class(body: &str) -> bool {
    let mut inside = false;
    let mut escaped = false;
    body.chars().any(|c| {
        let plain = !escaped;
        escaped = plain && c == '\\';
        match c {
            '[' if plain => inside = true,
            ']' if plain => inside = false,
            _ => {}
        }
        inside && !c.is_ascii()
    })
}

/// Returns whether `..` stands as a whole name, inside of braces too.
fn has_parent(body: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| matches!(c, '/' | '{' | '}' | ','));
    body.match_indices("..")
        .any(|(at, _)| edge(body[..at].chars().next_back()) && edge(body[at + 2..].chars().next()))
}

/// Splits a pattern into parts that each match one name, as far as that is possible.
fn parts(body: &str, tree: bool) -> (Vec<Part>, Tail) {
    let mut parts = Vec::new();
    let names: Vec<&str> = body.split('/').collect();
    for (at, name) in names.iter().enumerate() {
        if *name == "**" {
            let last = at + 1 == names.len();
            return (parts, if last { Tail::Tree } else { Tail::Unknown });
        }
        if !name.contains(WILDCARDS) {
            parts.push(Part::Literal((*name).to_owned()));
            continue;
        }
        // A group or class that holds a slash, or an escape: from here on anything may match.
        let balanced = name.matches('{').count() == name.matches('}').count()
            && name.matches('[').count() == name.matches(']').count();
        match glob(name) {
            Ok(glob) if balanced && !name.contains('\\') => parts.push(Part::Pattern(glob.compile_matcher())),
            Ok(_) | Err(_) => return (parts, Tail::Unknown),
        }
    }
    (parts, if tree { Tail::Tree } else { Tail::End })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(patterns: &[&str]) -> GlobSet {
        GlobSet::new(&patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn paths() {
        let table: &[(&[&str], &[&str], &[&str])] = &[
            (&["*"], &["a", ".a"], &["a/b"]),
            (&["**"], &["a", "a/b/c"], &[]),
            (&["*.log"], &["x.log", ".log"], &["a/x.log", "x.logs"]),
            (&["**/*.log"], &["x.log", "a/b/x.log"], &["x.txt"]),
            (&["a/**/b"], &["a/b", "a/x/y/b"], &["b", "a/bb"]),
            (&["a?c", "ü?"], &["abc", "üb"], &["ac", "a/c"]),
            (&["{a,b/c}.txt"], &["a.txt", "b/c.txt"], &["b.txt"]),
            (&["[a-c][!x]"], &["ay", "cz"], &["ax", "dy", "a/"]),
            (
                &["target/release/app"],
                &["target/release/app", "target/release/app/x"],
                &["target/release/app2"],
            ),
            (&["./dist//"], &["dist/a", "dist/a/b"], &["dist", "dist2/a"]),
            (&["dist/*"], &["dist/a"], &["dist/a/b"]),
            (&["dist/**"], &["dist/a", "dist/a/b"], &["dist"]),
            (&["**", "!node_modules"], &["a", "a/node_modules/x"], &["node_modules/x/y"]),
            (&["**", "!**/*.o", "keep.o"], &["a.c", "keep.o"], &["b.o", "x/keep.o"]),
            (&["!a", "a"], &["a"], &[]),
            (&["a", "!a"], &[], &["a"]),
            (&["\\!x", "\\*"], &["!x", "*"], &["x"]),
            (&["ä/*.ö"], &["ä/1.ö"], &["a/1.ö"]),
            (&[], &[], &["a", ""]),
        ];
        for (patterns, yes, no) in table {
            let set = set(patterns);
            assert!(yes.iter().all(|path| set.matches(path)), "{patterns:?} {yes:?}");
            assert!(no.iter().all(|path| !set.matches(path)), "{patterns:?} {no:?}");
        }
    }

    #[test]
    fn faults() {
        let table = [
            ("", GlobError::Empty),
            ("!", GlobError::Empty),
            ("./", GlobError::Empty),
            ("/etc/*", GlobError::Absolute),
            ("!/etc", GlobError::Absolute),
            ("..", GlobError::Parent),
            ("a/../b", GlobError::Parent),
            ("a/{..,b}/c", GlobError::Parent),
        ];
        for (pattern, error) in table {
            assert_eq!(check(pattern), Err(error), "{pattern}");
        }
        assert_eq!(check("a[äb]"), Err(GlobError::WideClass));
        assert_eq!(check("{ä,[a]ö}\\[ü"), Ok(()));
        assert_eq!(check("a..b/..."), Ok(()));
        assert_eq!(check(&"x".repeat(PATTERN_BYTES_MAX + 1)), Err(GlobError::Long));
        for pattern in ["[", "{a", "a}", "a\\", "[b-a]"] {
            assert!(matches!(check(pattern), Err(GlobError::Syntax(_))), "{pattern}");
        }
    }

    #[test]
    fn walks_are_pruned() {
        let table: &[(&[&str], &[&str], &[&str])] = &[
            (&["target/release/app"], &["", "target", "target/release"], &["src", "target/debug"]),
            (&["*.log"], &[""], &["a"]),
            (&["logs/*/x"], &["", "logs", "logs/a"], &["logs/a/b", "log"]),
            (&["**/x"], &["", "a", "a/b"], &[]),
            (&["a/**/x"], &["a", "a/b"], &["b"]),
            (&["**", "!node_modules"], &["", "src", "src/node_modules"], &["node_modules", "node_modules/a"]),
            (&["**", "!tmp/", "tmp/keep"], &["tmp"], &["tmp/other"]),
            (&["{a/b,c}/d"], &["", "a", "c", "zzz"], &[]),
        ];
        for (patterns, yes, no) in table {
            let set = set(patterns);
            assert!(yes.iter().all(|dir| set.could_match_below(dir)), "{patterns:?} {yes:?}");
            assert!(no.iter().all(|dir| !set.could_match_below(dir)), "{patterns:?} {no:?}");
        }
    }

    proptest! {
        #[test]
        fn pruning_loses_nothing(
            patterns in prop::collection::vec("!?([ab*?{},\\[\\]!]{1,3}|\\*\\*)(/([ab*?]{1,2}|\\*\\*)){0,3}/?", 1..5),
            path in "[ab](/[ab]{1,2}){0,4}",
        ) {
            if let Ok(set) = GlobSet::new(&patterns) && set.matches(&path) {
                for (at, _) in path.match_indices('/') {
                    prop_assert!(set.could_match_below(&path[..at]), "{:?} {} {}", patterns, path, &path[..at]);
                }
                prop_assert!(set.could_match_below(""));
            }
        }

        #[test]
        fn no_pattern_panics(pattern in "\\PC{0,30}", path in "\\PC{0,20}") {
            if let Ok(set) = GlobSet::new(&[pattern]) {
                let _ = (set.matches(&path), set.could_match_below(&path));
            }
        }
    }
}
