//! Which names belong to an artifact.

use std::os::fd::BorrowedFd;

use super::handles;
use shim::GlobSet;

/// Names that are shown of a directory.
const NAMES_SHOWN_MAX: usize = 10;

/// The globs of an artifact. One that matches a directory stands for everything below it.
#[derive(Debug)]
pub struct Patterns {
    globs: Vec<String>,
    set: GlobSet,
}

impl Patterns {
    /// Prepares globs as they stand in a plan, `!` ones included.
    pub fn new(globs: &[String]) -> Self {
        let mut whole = Vec::new();
        for glob in globs {
            let (not, body) = glob.strip_prefix('!').map_or(("", glob.as_str()), |body| ("!", body));
            let body = body.trim_start_matches("./").trim_end_matches('/');
            if matches!(body, "" | ".") {
                whole.push(format!("{not}**"));
                continue;
            }
            whole.push(format!("{not}{body}"));
            if !body.ends_with("**") {
                whole.push(format!("{not}{body}/**"));
            }
        }
        Self { globs: globs.to_vec(), set: GlobSet::new(&whole) }
    }

    /// Whether a file of this path, relative to the workspace, belongs to it.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.set.matches(path)
    }

    /// Whether something below this directory could.
    pub(super) fn could_match_below(&self, path: &str) -> bool {
        self.set.could_match_below(path)
    }

    /// Returns the globs, quoted.
    pub(super) fn show(&self) -> String {
        let quoted: Vec<String> = self.globs.iter().map(|glob| format!("`{glob}`")).collect();
        quoted.join(", ")
    }

    /// Says what stands in the deepest directory of the workspace that the first glob names: "`target/release/`
    /// has app.d, build, deps".
    pub(super) fn nearest(&self, workspace: BorrowedFd<'_>) -> String {
        let glob = self.globs.iter().find(|glob| !glob.starts_with('!')).map_or("", String::as_str);
        let mut shown = String::new();
        let Ok(mut directory) = workspace.try_clone_to_owned() else { return "it cannot be read".to_owned() };
        for component in glob.trim_start_matches("./").split('/') {
            if component.contains(['*', '?', '[', '{']) || matches!(component, "" | "." | "..") {
                break;
            }
            let Ok(next) = handles::open_directory(&directory, component.as_bytes()) else { break };
            directory = next;
            shown.push_str(component);
            shown.push('/');
        }
        let place = if shown.is_empty() { "the workspace".to_owned() } else { format!("`{shown}`") };
        let names = handles::names(&directory).unwrap_or_default();
        if names.is_empty() {
            return format!("{place} is empty");
        }
        let listed: Vec<String> =
            names.iter().take(NAMES_SHOWN_MAX).map(|name| handles::show(name.as_bytes())).collect();
        let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{place} has {}{more}", listed.join(", "))
    }
}

mod shim {
    #[derive(Debug)]
    pub(super) struct GlobSet(Vec<(bool, globset::GlobMatcher, String)>);
    impl GlobSet {
        pub(super) fn new(globs: &[String]) -> Self {
            Self(
                globs
                    .iter()
                    .map(|glob| {
                        let (not, body) = glob.strip_prefix('!').map_or((false, glob.as_str()), |b| (true, b));
                        let matcher = globset::GlobBuilder::new(body).literal_separator(true).build().unwrap();
                        (!not, matcher.compile_matcher(), body.to_owned())
                    })
                    .collect(),
            )
        }
        pub(super) fn matches(&self, path: &str) -> bool {
            self.0.iter().rev().find(|(_, m, _)| m.is_match(path)).is_some_and(|(yes, _, _)| *yes)
        }
        pub(super) fn could_match_below(&self, path: &str) -> bool {
            self.0.iter().any(|(yes, _, body)| {
                let literal = body.split(['*', '?', '[', '{']).next().unwrap();
                *yes && (literal.starts_with(&format!("{path}/")) || path.starts_with(literal) || format!("{path}/").starts_with(literal))
            })
        }
    }
}
