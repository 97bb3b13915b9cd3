//! Whose ids steps can have: root's private ranges, a user's subids, or one id.

use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use super::check::Check;
use crate::sys::probe::HeldNamespace;

const NAME: &str = "identity";
/// How many ids a step's map has: what images for containers expect.
const RANGE: u32 = 65_536;

/// A range of ids that subuid(5) or subgid(5) grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubidRange {
    /// First id on the host.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Returns the first range of at least `least` ids that a subuid or subgid file grants to a user, by name or by number.
pub fn subid_range(text: &str, name: Option<&str>, uid: u32, least: u32) -> Option<SubidRange> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (who, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let mine = name == Some(who) || who == uid.to_string();
        let range = SubidRange { first: first.trim().parse().ok()?, count: count.trim().parse().ok()? };
        (mine && range.count >= least).then_some(range)
    })
}

/// The ids besides 0 that a container has, when its root asks: the longest run of users and of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnIds {
    /// Users.
    pub users: SubidRange,
    /// Groups.
    pub groups: SubidRange,
}

/// Returns which ids this process can name besides 0. `None`: all of the machine's, or it cannot be told.
pub fn own_ids() -> Option<OwnIds> {
    let range = |file: &str| mapped(&std::fs::read_to_string(file).ok()?);
    Some(OwnIds { users: range("/proc/self/uid_map")?, groups: range("/proc/self/gid_map")? })
}

/// The longest run of ids from 1 on in a map of user_namespaces(7). `None` for the map that has everything.
fn mapped(map: &str) -> Option<SubidRange> {
    let mut runs = Vec::new();
    for line in map.lines() {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        if (inside, outside, count) == (0, 0, u32::MAX) {
            return None;
        }
        // 0 is the caller.
        let skipped = u32::from(inside == 0);
        runs.push(SubidRange { first: inside + skipped, count: count - skipped });
    }
    runs.into_iter().max_by_key(|range| range.count)
}

/// Looks at who is asking, and tries the maps that their steps would get. `can_try`: there are user namespaces.
pub(super) fn check(can_try: bool) -> Check {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let who = name.clone().unwrap_or_else(|| format!("uid {uid}"));
    if uid.is_root() {
        return match own_ids() {
            None => Check::pass(NAME, "root: each job has 65536 ids of its own"),
            Some(own) => in_container(own, can_try),
        };
    }
    let range = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        subid_range(&text, name.as_deref(), uid.as_raw(), RANGE)
    };
    let single = "steps have one id, yours, under any name: programs that change owner or user (apt, su) fail in them, \
                  and images cannot keep their files' owners";
    let (users, groups) = match (range("/etc/subuid"), range("/etc/subgid")) {
        (Some(users), Some(groups)) => (users, groups),
        (users, groups) => {
            let missing = match (users, groups) {
                (None, None) => "/etc/subuid and /etc/subgid",
                (None, Some(_)) => "/etc/subuid",
                _ => "/etc/subgid",
            };
            let found = format!("{who}, no range of {RANGE} ids in {missing}");
            return Check::warn(NAME, found, single).fixed_by(grant(&who, users.is_none(), groups.is_none()));
        }
    };
    let end = |range: SubidRange| u64::from(range.first) + u64::from(range.count) - 1;
    let found = format!("{who}, subids {}-{} and {}-{}", users.first, end(users), groups.first, end(groups));
    if !can_try {
        return Check::pass(NAME, format!("{found}, not tried"));
    }
    let tools = [("newuidmap", uid.as_raw(), users), ("newgidmap", gid.as_raw(), groups)];
    let tried = HeldNamespace::new()
        .map_err(|errno| (format!("unshare(CLONE_NEWUSER): {errno}"), None))
        .and_then(|held| tools.iter().try_for_each(|(tool, own, range)| map(tool, held.pid(), *own, *range)));
    match tried {
        Ok(()) => Check::pass(NAME, found),
        Err((why, fix)) => {
            let check = Check::warn(NAME, format!("{who}, subids that cannot be used: {why}"), single);
            match fix {
                Some(fix) => check.fixed_by(fix),
                None => check,
            }
        }
    }
}

/// Root of a container, whose other ids serve as subids.
fn in_container(own: OwnIds, can_try: bool) -> Check {
    let count = own.users.count.min(own.groups.count);
    let found = format!("root of a container with {} ids", u64::from(count) + 1);
    if count < RANGE - 1 {
        let means = "steps have one id, the container's root: programs that change owner or user (apt, su) fail in them";
        return Check::warn(NAME, found, means)
            .fixed_by("give the container 65536 ids, such as docker's userns-remap does");
    }
    let map = |range: SubidRange| format!("0 0 1\n1 {} {}\n", range.first, count.min(RANGE));
    let written = |held: &HeldNamespace| {
        let write = |file: &str, text: String| std::fs::write(format!("/proc/{}/{file}", held.pid()), text);
        write("uid_map", map(own.users)).and_then(|()| write("gid_map", map(own.groups)))
    };
    if !can_try {
        return Check::pass(NAME, format!("{found}, not tried"));
    }
    let tried = HeldNamespace::new().map_err(|errno| errno.to_string());
    match tried.and_then(|held| written(&held).map_err(|error| error.to_string())) {
        Ok(()) => Check::pass(NAME, format!("{found}: steps share them")),
        Err(why) => {
            Check::fail(NAME, format!("{found} that cannot be mapped: {why}"), "no sandbox can be made")
                .fixed_by("start the container with the capabilities SETFCAP, SETUID and SETGID")
        }
    }
}

/// The command that grants what is missing. The range is usermod's to check: it must overlap nobody's.
fn grant(who: &str, users: bool, groups: bool) -> String {
    let used = ["/etc/subuid", "/etc/subgid"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let first = used.iter().flat_map(|text| text.lines()).filter_map(end).max().unwrap_or(0).max(100_000);
    let range = format!("{first}-{}", first + u64::from(RANGE) - 1);
    let option = |wanted: bool, name: &str| if wanted { format!(" {name} {range}") } else { String::new() };
    format!("sudo usermod{}{} {who}", option(users, "--add-subuids"), option(groups, "--add-subgids"))
}

/// The first id behind a line's range.
fn end(line: &str) -> Option<u64> {
    let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u64>().ok());
    Some(fields.next()?? + fields.next()??)
}

/// Maps a range into the held namespace, as a run does.
fn map(tool: &str, pid: i32, own: u32, range: SubidRange) -> Result<(), (String, Option<String>)> {
    let numbers = [pid.to_string(), "0".into(), own.to_string(), "1".into(), "1".into()];
    let output = Command::new(tool).args(numbers).args([range.first.to_string(), RANGE.to_string()]).output();
    let output = output.map_err(|error| {
        let install = is_debian().then(|| "sudo apt-get install uidmap".to_owned());
        (format!("{tool}: {error}"), install)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // A copy of the system without file capabilities, or a set-uid bit lost on the way.
    let fix = said.contains("not permitted").then(|| format!("sudo chmod u+s $(command -v {tool})"));
    Err((said, fix))
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_ids_are_those_besides_root() {
        let range = |first, count| Some(SubidRange { first, count });
        assert_eq!(mapped("         0          0 4294967295\n"), None);
        assert_eq!(mapped("0 700000 65536\n"), range(1, 65_535));
        assert_eq!(mapped("0 1000 1\n1 100000 65536\n"), range(1, 65_536));
        assert_eq!(mapped("0 1 1000\n1000 0 1\n1001 1002 64535\n"), range(1001, 64_535));
        assert_eq!(mapped("0 1000 1\n"), range(1, 0));
        assert_eq!(mapped("nonsense\n"), None);
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "# none\njane:100000:1000\njane:165536:65536\n1001:300000:65536\nbroken:x:y\n";
        let range = |first, count| Some(SubidRange { first, count });
        assert_eq!(subid_range(text, Some("jane"), 1000, RANGE), range(165_536, 65_536));
        assert_eq!(subid_range(text, Some("jane"), 1000, 1), range(100_000, 1000));
        assert_eq!(subid_range(text, None, 1001, RANGE), range(300_000, 65_536));
        assert_eq!(subid_range(text, Some("joe"), 1002, 1), None);
        assert_eq!(subid_range(text, Some("broken"), 1003, 1), None);
        assert_eq!(end("jane:165536:65536"), Some(231_072));
    }
}
