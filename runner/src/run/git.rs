//! What git says of a work tree, and clean checkouts of it.
//!
//! What is asked often is read from its files; the rest is asked of the program `git`. Its repository may be another user's, or
//! a hostile one: hooks, templates and monitors of its configuration do not run, and git's own test of who owns it holds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jobs::WorkTree;
use thiserror::Error;

use super::program::{Bounds, ProgramError, run};

/// What a question to git may take.
const ASK: Bounds = Bounds { time: Duration::from_secs(60), bytes: 4 << 20 };
/// What a checkout may take; git says little then.
const CHECKOUT: Bounds = Bounds { time: Duration::from_secs(15 * 60), bytes: 1 << 20 };
/// Changed paths that are listed.
const CHANGED_MAX: usize = 10_000;
/// Variables that lead git elsewhere; who runs us from a hook has them set.
const LEADING: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];
/// Settings over those of the repository.
const SETTINGS: &[&str] =
    &["core.hooksPath=/dev/null", "core.fsmonitor=false", "init.templateDir=", "advice.detachedHead=false"];

/// Why git does not do what we ask.
#[derive(Debug, Error)]
pub enum GitError {
    /// It cannot be started, or is late.
    #[error("cannot ask git: {0}")]
    Program(#[source] ProgramError),
    /// It says no.
    #[error("git cannot {what}: {words}")]
    Refused {
        /// What it was asked to do.
        what: &'static str,
        /// Its own words, the last line of them.
        words: String,
    },
    /// There is nothing to check out.
    #[error("there is no commit to check out in {0}")]
    NoCommit(String),
}

impl GitError {
    /// What the user can do about it, one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Program(_) => Some("install git, or use `workspace: copy`".to_owned()),
            Self::Refused { words, .. } if words.contains("dubious ownership") || words.contains("safe.directory") => {
                Some("the repository is another user's; if you trust it: git config --global --add safe.directory PATH".to_owned())
            }
            Self::Refused { .. } => None,
            Self::NoCommit(_) => Some("commit something, or use `workspace: copy`".to_owned()),
        }
    }
}

/// Commit and branch of a directory, read from its files. `None`: it is no work tree.
pub fn head(root: &Path) -> Option<(String, Option<String>)> {
    let git = directory(root)?;
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some((head.trim().to_owned(), None));
    };
    let branch = reference.strip_prefix("refs/heads/").map(str::to_owned);
    // Branches of a linked work tree are those of the repository.
    let shared = fs::read_to_string(git.join("commondir")).ok();
    let shared = shared.map_or_else(|| git.clone(), |path| git.join(path.trim()));
    let loose = fs::read_to_string(shared.join(reference)).ok().map(|text| text.trim().to_owned());
    let packed = || {
        let text = fs::read_to_string(shared.join("packed-refs")).ok()?;
        text.lines()
            .find_map(|line| line.strip_suffix(reference)?.split_whitespace().next().map(str::to_owned))
    };
    Some((loose.or_else(packed)?, branch))
}

/// The directory with git's files: `.git`, or where the file of that name says (gitrepository-layout(5)).
fn directory(root: &Path) -> Option<std::path::PathBuf> {
    let git = root.join(".git");
    if !git.is_file() {
        return Some(git);
    }
    let text = fs::read_to_string(&git).ok()?;
    Some(root.join(text.trim().strip_prefix("gitdir: ")?))
}

/// What costs a look at the whole work tree.
///
/// # Errors
/// A git that does not answer; a directory that is no work tree is one without changes.
pub fn work_tree(root: &Path) -> Result<WorkTree, GitError> {
    if head(root).is_none() {
        return Ok(WorkTree::default());
    }
    let lines = |what, arguments: &[&str]| ask(root, what, arguments);
    let tags = lines("list tags", &["tag", "--points-at", "HEAD", "--sort=-version:refname"])?;
    let tag = String::from_utf8_lossy(&tags).lines().next().unwrap_or_default().to_owned();
    let status = ["status", "--porcelain", "-z", "--untracked-files=no"];
    let dirty = !lines("look at the work tree", &status)?.is_empty();
    let names = match base(root) {
        Some(base) => lines("compare with the base", &["diff", "--name-only", "-z", "--no-ext-diff", &base])?,
        // The first commit, or all that a shallow clone has: whoever acts on what changed must not miss any of it.
        None => lines("list the files", &["ls-files", "-z"])?,
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let changed = names.take(CHANGED_MAX).map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    Ok(WorkTree { tag, dirty, changed })
}

/// The commit that changes are counted from: where the branch left the remote's main branch; on that itself, the commit before.
fn base(root: &Path) -> Option<String> {
    let commit = |arguments: &[&str]| {
        let said = ask(root, "find the base", arguments).ok()?;
        Some(String::from_utf8_lossy(&said).trim().to_owned()).filter(|commit| !commit.is_empty())
    };
    let head = commit(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
    let fork = commit(&["merge-base", "HEAD", "refs/remotes/origin/HEAD"]).filter(|fork| *fork != head);
    fork.or_else(|| commit(&["rev-parse", "--verify", "--quiet", "HEAD~1^{commit}"]))
}

/// Checks out the commit of a work tree as a new, shallow repository, as a CI service would: without untracked files and local
/// changes. `at` must not exist. Its remote is the original's, if that has one; submodules and large files kept elsewhere
/// are not fetched.
///
/// # Errors
/// No repository, no commit, no git.
pub fn checkout(root: &Path, at: &Path) -> Result<(), GitError> {
    let (commit, branch) = head(root).ok_or_else(|| GitError::NoCommit(root.display().to_string()))?;
    // Not as a URL, in which git decodes `%`; the depth of a path's clone counts with `--no-local` only.
    let url = root.display().to_string();
    let at_text = at.display().to_string();
    let mut clone = vec![
        "clone",
        "--quiet",
        "--no-local",
        "--depth=1",
        "--no-tags",
        "--no-checkout",
        "--no-recurse-submodules",
    ];
    if branch.is_some() {
        clone.push("--single-branch");
    }
    clone.extend(["--", &url, &at_text]);
    git(root, "copy the commit", &clone, CHECKOUT)?;
    let reference = branch.as_deref().unwrap_or(&commit);
    git(at, "check out the commit", &["checkout", "--quiet", "--force", reference, "--"], CHECKOUT)?;
    let origin = ask(root, "find the remote", &["remote", "get-url", "origin"]);
    let origin = origin.ok().map(|url| without_password(String::from_utf8_lossy(&url).trim()));
    match origin.filter(|origin| !origin.is_empty()) {
        Some(origin) => git(at, "name the remote", &["remote", "set-url", "origin", &origin], ASK)?,
        None => git(at, "remove the remote", &["remote", "remove", "origin"], ASK)?,
    };
    Ok(())
}

/// Returns a URL without what stands before its host: that is for whoever cloned it.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host =
                host.rsplit_once('@').filter(|(user, _)| user.contains(':')).map_or(host, |(_, host)| host);
            path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
        }
        None => url.to_owned(),
    }
}

fn ask(root: &Path, what: &'static str, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
    git(root, what, arguments, ASK)
}

fn git(root: &Path, what: &'static str, arguments: &[&str], bounds: Bounds) -> Result<Vec<u8>, GitError> {
    let mut command = Command::new("git");
    command.current_dir(root).env("GIT_TERMINAL_PROMPT", "0").env("GIT_LFS_SKIP_SMUDGE", "1");
    // What git says is read here: in words that are the same everywhere.
    command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0");
    for name in LEADING {
        command.env_remove(name);
    }
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    let said = run(command.args(arguments), b"", bounds).map_err(GitError::Program)?;
    if said.status.success() {
        return Ok(said.out);
    }
    let words = String::from_utf8_lossy(&said.err);
    let line = words.lines().find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    let line = line.or_else(|| words.lines().last()).unwrap_or("it gives no reason");
    let words = line.trim_start_matches("fatal: ").trim_start_matches("error: ").to_owned();
    Err(GitError::Refused { what, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let who =
                ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
            let said =
                Command::new("git").current_dir(dir.path()).args(who).args(arguments).output().unwrap();
            assert!(said.status.success(), "{arguments:?}: {said:?}");
        };
        git(&["init", "--quiet"]);
        fs::create_dir(dir.path().join("sub")).unwrap();
        for (name, text) in [("a", "1"), ("sub/b", "1"), (".gitignore", "built\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "first"]);
        fs::write(dir.path().join("sub/b"), "2").unwrap();
        git(&["commit", "--quiet", "-am", "second"]);
        git(&["tag", "v1.9"]);
        git(&["tag", "-a", "-m", "ten", "v1.10"]);
        git(&["remote", "add", "origin", "https://user:secret@example.org/p.git"]);
        dir
    }

    #[test]
    fn the_head_is_read_from_gits_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".git/refs/heads")).unwrap();
        fs::write(dir.path().join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(dir.path().join(".git/refs/heads/main"), "abc\n").unwrap();
        assert_eq!(head(dir.path()), Some(("abc".into(), Some("main".into()))));
        let repository = repository();
        let linked = dir.path().join("linked");
        let add = ["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()];
        git(repository.path(), "add a work tree", &add, ASK).unwrap();
        let (commit, branch) = head(&linked).unwrap();
        assert_eq!(
            (branch.as_deref(), Some(commit)),
            (Some("side"), head(repository.path()).map(|head| head.0))
        );
        assert_eq!(head(&dir.path().join("none")), None);
    }

    #[test]
    fn what_a_work_tree_has_is_told() {
        let dir = repository();
        let clean = work_tree(dir.path()).unwrap();
        assert_eq!((clean.tag.as_str(), clean.dirty), ("v1.10", false));
        assert_eq!(clean.changed, ["sub/b"], "against the commit before");
        fs::write(dir.path().join("a"), "changed").unwrap();
        fs::write(dir.path().join("untracked"), "").unwrap();
        let dirty = work_tree(dir.path()).unwrap();
        assert_eq!((dirty.dirty, dirty.changed), (true, vec!["a".to_owned(), "sub/b".to_owned()]));
        let shallow = tempfile::tempdir().unwrap();
        checkout(dir.path(), &shallow.path().join("x")).unwrap();
        let all = work_tree(&shallow.path().join("x")).unwrap();
        assert_eq!(all.changed, [".gitignore", "a", "sub/b"], "nothing to compare with");
        let plain = tempfile::tempdir().unwrap();
        assert_eq!(work_tree(plain.path()).unwrap(), WorkTree::default());
    }

    #[test]
    fn a_checkout_has_what_was_committed_and_nothing_else() {
        let dir = repository();
        fs::write(dir.path().join("a"), "changed").unwrap();
        fs::write(dir.path().join("untracked"), "").unwrap();
        // Neither a hook nor a filter of the repository's runs.
        let hook = dir.path().join(".git/hooks/post-checkout");
        fs::write(&hook, format!("#!/bin/sh\ntouch {}/ran\n", dir.path().display())).unwrap();
        fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let at = dir.path().join("built");
        checkout(dir.path(), &at).unwrap();
        let mut names: Vec<_> = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".git", ".gitignore", "a", "sub"]);
        assert_eq!(
            (fs::read_to_string(at.join("a")).unwrap(), fs::read_to_string(at.join("sub/b")).unwrap()),
            ("1".into(), "2".into())
        );
        assert_eq!(head(&at), head(dir.path()));
        assert_eq!(ask(&at, "", &["remote", "get-url", "origin"]).unwrap(), b"https://example.org/p.git\n");
        assert!(!dir.path().join("ran").exists());
        git(dir.path(), "", &["checkout", "--quiet", "--detach"], ASK).unwrap();
        checkout(dir.path(), &dir.path().join("built2")).unwrap();
        assert_eq!(head(&dir.path().join("built2")), head(dir.path()));
        let empty = tempfile::tempdir().unwrap();
        let error = checkout(empty.path(), &empty.path().join("x")).unwrap_err();
        assert!(matches!(error, GitError::NoCommit(_)), "{error}");
    }

    #[test]
    fn passwords_stay_with_whoever_cloned() {
        for (url, shown) in [
            ("https://u:p@h/x.git", "https://h/x.git"),
            ("ssh://git@h/x.git", "ssh://git@h/x.git"),
            ("git@h:x.git", "git@h:x.git"),
            ("https://h", "https://h"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
