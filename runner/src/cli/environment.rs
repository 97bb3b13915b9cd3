//! What the environment says about us: where records go, and how output should look.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::report::{self, Outer, Output, Terminals};

/// The part of the environment that matters, read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables that are text; for `-e NAME`.
    pub variables: BTreeMap<String, String>,
    /// Where records and the store are; none if nothing says where.
    pub home: Option<PathBuf>,
    /// Where configuration files are looked for: the one that is named, else these in order.
    pub config: Option<PathBuf>,
    /// The places of configuration files when none is named.
    pub config_defaults: Vec<PathBuf>,
    /// Files with logins to registries, as docker, podman and skopeo keep them.
    pub logins: Vec<PathBuf>,
    /// What is a terminal.
    pub terminals: Terminals,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// The same on standard error.
    pub stderr_color: bool,
    /// Whether cursor movements make sense: no `TERM=dumb`, no CI service that only keeps lines.
    pub live: bool,
    /// The CI service that reads our output.
    pub outer: Option<Outer>,
    /// Whether colours are refused.
    pub colorless: bool,
    /// Standard output is a regular file: no service reads it while we write.
    pub stdout_is_file: bool,
    /// What GitHub Actions says of the step of a workflow that we are.
    pub github: Option<GitHub>,
}

/// What GitHub Actions says of the step of a workflow that we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitHub {
    /// What is said on standard output reaches the agent.
    pub reads_stdout: bool,
    /// Where the repository is checked out.
    pub workspace: Option<PathBuf>,
    /// For files that only this job of the workflow needs.
    pub temp: Option<PathBuf>,
    /// The file of the step's outputs.
    pub output: Option<PathBuf>,
    /// The file of its Markdown.
    pub summary: Option<PathBuf>,
    /// The file of variables for later steps.
    pub env: Option<PathBuf>,
    /// The file of directories for later steps' PATH.
    pub path: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        let mut environment =
            Self::new(variables.collect(), Terminals::probe(), rustix::process::geteuid().is_root());
        environment.stdout_is_file = report::stdout_is_file();
        if let Some(github) = &mut environment.github {
            github.reads_stdout = !environment.stdout_is_file;
        }
        environment
    }

    /// Concludes from variables, terminals and whether we are root.
    pub fn new(variables: BTreeMap<String, String>, terminals: Terminals, is_root: bool) -> Self {
        let set = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        // <https://no-color.org>, <https://bixense.com/clicolors>: refusing wins over forcing.
        let refused = set("NO_COLOR").is_some();
        let forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let dumb = set("TERM") == Some("dumb");
        let color = |terminal: bool| !refused && (forced || terminal && !dumb);
        let live = !dumb && set("CI").is_none();
        Self {
            home: home(&set, is_root),
            config: set("RUNNER_CONFIG").and_then(|path| std::path::absolute(path).ok()),
            config_defaults: config_defaults(&set),
            logins: logins(&set),
            terminals,
            stdout_color: color(terminals.stdout),
            stderr_color: color(terminals.stderr),
            live,
            outer: outer(&set),
            colorless: refused,
            stdout_is_file: false,
            github: github(&set),
            variables,
        }
    }

    /// Chooses how a run is shown when the user does not.
    pub(super) fn output(&self, json: bool) -> Output {
        if let Some(outer) = self.outer {
            return Output::Blocks(outer);
        }
        let terminal = if json { self.terminals.stderr } else { self.terminals.stdout };
        if terminal && self.live { Output::Terminal } else { Output::Plain }
    }

    /// Chooses how a single command is shown: as it is, but where a service would take a line for an order.
    pub(super) fn output_of_one(&self) -> Output {
        match self.outer {
            Some(outer) if self.stdout_is_file => Output::GuardedStderr(outer),
            Some(outer) => Output::Guarded(outer),
            None => Output::Passthrough,
        }
    }
}

/// Each service says so itself.
fn outer<'a>(set: &impl Fn(&str) -> Option<&'a str>) -> Option<Outer> {
    if set("GITHUB_ACTIONS") == Some("true") {
        return Some(Outer::GitHub);
    }
    let signs = [
        ("GITLAB_CI", Outer::GitLab),
        ("BUILDKITE", Outer::Buildkite),
        ("TEAMCITY_VERSION", Outer::TeamCity),
    ];
    signs.into_iter().find(|(variable, _)| set(variable).is_some()).map(|(_, outer)| outer)
}

fn github<'a>(set: &impl Fn(&str) -> Option<&'a str>) -> Option<GitHub> {
    let path = |name: &str| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
    (set("GITHUB_ACTIONS") == Some("true")).then(|| GitHub {
        reads_stdout: true,
        workspace: path("GITHUB_WORKSPACE"),
        temp: path("RUNNER_TEMP"),
        output: path("GITHUB_OUTPUT"),
        summary: path("GITHUB_STEP_SUMMARY"),
        env: path("GITHUB_ENV"),
        path: path("GITHUB_PATH"),
    })
}

fn text(value: OsString) -> Option<String> {
    value.into_string().ok()
}

fn home<'a>(set: &impl Fn(&str) -> Option<&'a str>, is_root: bool) -> Option<PathBuf> {
    if let Some(home) = set("RUNNER_HOME") {
        return std::path::absolute(home).ok();
    }
    if is_root {
        return Some(PathBuf::from("/var/lib/runner"));
    }
    // The XDG specification has relative paths ignored.
    let absolute = |name: &str| set(name).map(Path::new).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").map(Path::to_path_buf);
    Some(state.or_else(|| Some(absolute("HOME")?.join(".local/state")))?.join("runner"))
}

/// The user's file, then the machine's.
fn config_defaults<'a>(set: &impl Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
    let absolute = |name: &str| set(name).map(Path::new).filter(|path| path.is_absolute());
    let own = absolute("XDG_CONFIG_HOME").map(Path::to_path_buf);
    let own = own.or_else(|| Some(absolute("HOME")?.join(".config")));
    let own = own.map(|directory| directory.join("runner/config.yml"));
    own.into_iter().chain([PathBuf::from("/etc/runner/config.yml")]).collect()
}

/// Where logins are: docker's file, then those of podman and skopeo (containers-auth.json(5)).
fn logins<'a>(set: &impl Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
    let below = |name: &str, rest: &str| set(name).map(|directory| Path::new(directory).join(rest));
    let docker = below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json"));
    let places = [
        set("REGISTRY_AUTH_FILE").map(PathBuf::from),
        docker,
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("XDG_CONFIG_HOME", "containers/auth.json")
            .or_else(|| below("HOME", ".config/containers/auth.json")),
    ];
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], terminal: bool, is_root: bool) -> Environment {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment::new(
            variables,
            Terminals { stdin: terminal, stdout: terminal, stderr: terminal },
            is_root,
        )
    }

    #[test]
    fn home_is_where_the_environment_says() {
        let home = |variables: &[_], is_root| environment(variables, false, is_root).home;
        assert_eq!(home(&[("RUNNER_HOME", "/r"), ("HOME", "/h")], true), Some("/r".into()));
        assert_eq!(home(&[("XDG_STATE_HOME", "/x")], true), Some("/var/lib/runner".into()));
        assert_eq!(home(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], false), Some("/x/runner".into()));
        let relative = [("XDG_STATE_HOME", "x"), ("HOME", "/h")];
        assert_eq!(home(&relative, false), Some("/h/.local/state/runner".into()));
        assert_eq!(
            home(&[("RUNNER_HOME", ""), ("HOME", "/h")], false),
            Some("/h/.local/state/runner".into())
        );
        assert_eq!(home(&[], false), None);
    }

    #[test]
    fn logins_and_configuration_are_where_other_tools_look() {
        let found = environment(
            &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("RUNNER_CONFIG", "/c.yml")],
            false,
            false,
        );
        let paths = |list: &[PathBuf]| list.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths(&found.logins),
            ["/h/.docker/config.json", "/r/containers/auth.json", "/h/.config/containers/auth.json"]
        );
        assert_eq!(found.config, Some("/c.yml".into()));
        assert_eq!(paths(&found.config_defaults), ["/h/.config/runner/config.yml", "/etc/runner/config.yml"]);
        let docker = environment(
            &[("HOME", "/h"), ("DOCKER_CONFIG", "/d"), ("REGISTRY_AUTH_FILE", "/a.json")],
            false,
            true,
        );
        assert_eq!(paths(&docker.logins)[..2], ["/a.json", "/d/config.json"]);
    }

    #[test]
    fn colours_follow_the_conventions() {
        for (variables, terminal, color) in [
            (&[][..], true, true),
            (&[][..], false, false),
            (&[("NO_COLOR", "1")], true, false),
            (&[("NO_COLOR", "")], true, true),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true, false),
            (&[("TERM", "dumb")], true, false),
        ] {
            assert_eq!(
                environment(variables, terminal, false).stdout_color,
                color,
                "{variables:?} {terminal}"
            );
        }
    }

    #[test]
    fn live_output_needs_a_terminal_that_can() {
        assert_eq!(environment(&[], true, false).output(false), Output::Terminal);
        assert_eq!(environment(&[], false, false).output(false), Output::Plain);
        assert_eq!(environment(&[("TERM", "dumb")], true, false).output(false), Output::Plain);
        assert_eq!(environment(&[("CI", "true")], true, false).output(false), Output::Plain);
    }

    #[test]
    fn services_are_known_by_what_they_set() {
        for (variables, output, of_one) in [
            (
                &[("GITHUB_ACTIONS", "true")][..],
                Output::Blocks(Outer::GitHub),
                Output::Guarded(Outer::GitHub),
            ),
            (&[("GITHUB_ACTIONS", "false")], Output::Terminal, Output::Passthrough),
            (
                &[("GITLAB_CI", "true"), ("CI", "true")],
                Output::Blocks(Outer::GitLab),
                Output::Guarded(Outer::GitLab),
            ),
            (&[("BUILDKITE", "true")], Output::Blocks(Outer::Buildkite), Output::Guarded(Outer::Buildkite)),
            (
                &[("TEAMCITY_VERSION", "2026.1")],
                Output::Blocks(Outer::TeamCity),
                Output::Guarded(Outer::TeamCity),
            ),
        ] {
            let environment = environment(variables, true, false);
            assert_eq!(
                (environment.output(false), environment.output_of_one()),
                (output, of_one),
                "{variables:?}"
            );
        }
        let mut filed = environment(&[("GITHUB_ACTIONS", "true")], false, false);
        filed.stdout_is_file = true;
        assert_eq!(filed.output_of_one(), Output::GuardedStderr(Outer::GitHub), "nobody obeys a file");
        assert_eq!(environment(&[("GITHUB_WORKSPACE", "/w")], false, false).github, None);
    }
}
