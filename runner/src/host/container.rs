//! Whether this machine is a container, and whose: what an outer one withholds is the commonest reason for a failed check.

use std::path::Path;

use super::check::Check;
use super::identity::own_ids;

/// Files that say who made the container.
const MARKS: [(&str, &str); 4] = [
    ("/var/run/secrets/kubernetes.io", "a Kubernetes pod"),
    ("/run/.containerenv", "a container of Podman"),
    ("/.dockerenv", "a container of Docker"),
    ("/run/systemd/container", "a container of systemd"),
];
/// What the runner's own init calls itself.
const OWN_INIT: &str = "runner-init";

/// Names the container, if it is one.
pub(super) fn check() -> Check {
    const NAME: &str = "container";
    let init = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let found = kind(init.trim(), |path| Path::new(path).exists(), own_ids().is_some());
    Check::pass(NAME, found.map_or_else(|| "none".to_owned(), |kind| format!("this is {kind}")))
}

/// What the signs say. `init`: the name of process 1; `has_map`: user ids are not the machine's.
fn kind(init: &str, exists: impl Fn(&str) -> bool, has_map: bool) -> Option<&'static str> {
    if init == OWN_INIT {
        return Some("a step of the runner");
    }
    let mark = MARKS.iter().find(|(path, _)| exists(path)).map(|(_, kind)| *kind);
    mark.or(has_map.then_some("a user namespace of somebody's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_name_the_container() {
        let with = |mark: &'static str| move |path: &str| path == mark;
        assert_eq!(kind("systemd", |_| false, false), None);
        assert_eq!(kind("systemd", |_| false, true), Some("a user namespace of somebody's"));
        assert_eq!(kind("sh", with("/.dockerenv"), false), Some("a container of Docker"));
        assert_eq!(kind("sh", with("/run/.containerenv"), true), Some("a container of Podman"));
        assert_eq!(kind("sh", with("/var/run/secrets/kubernetes.io"), false), Some("a Kubernetes pod"));
        assert_eq!(kind("runner-init", |_| true, true), Some("a step of the runner"));
    }
}
