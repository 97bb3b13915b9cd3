//! Which names belong to an artifact.

use std::os::fd::BorrowedFd;

use jobs::glob::{GlobSet, is_exclusion};

use super::handles;

/// Names that are shown of a directory.
const NAMES_SHOWN_MAX: usize = 10;

/// The globs of an artifact, as `jobs::glob` understands them.
#[derive(Debug)]
pub struct Patterns {
    globs: Vec<String>,
    /// A plan has good globs only; others choose nothing, and the artifact says that it found nothing.
    set: Option<GlobSet>,
}

impl Patterns {
    /// Prepares globs as they stand in a plan, `!` ones included.
    pub fn new(globs: &[String]) -> Self {
        Self { globs: globs.to_vec(), set: GlobSet::new(globs).ok() }
    }

    /// Whether a file of this path, relative to the workspace, belongs to it.
    pub(in crate::run) fn matches(&self, path: &str) -> bool {
        self.set.as_ref().is_some_and(|set| set.matches(path))
    }

    /// Whether something below this directory could.
    pub(in crate::run) fn could_match_below(&self, path: &str) -> bool {
        self.set.as_ref().is_some_and(|set| set.could_match_below(path))
    }

    /// Returns the globs, quoted.
    pub(in crate::run) fn show(&self) -> String {
        let quoted: Vec<String> = self.globs.iter().map(|glob| format!("`{glob}`")).collect();
        quoted.join(", ")
    }

    /// Says what stands in the deepest directory of the workspace that the first glob names: "`target/release/`
    /// has app.d, build, deps".
    pub(in crate::run) fn nearest(&self, workspace: BorrowedFd<'_>) -> String {
        let glob = self.globs.iter().find(|glob| !is_exclusion(glob)).map_or("", String::as_str);
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
