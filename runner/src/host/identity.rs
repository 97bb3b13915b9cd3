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

/// Looks at who is asking, and tries the maps that their steps would get. `can_try`: there are user namespaces.
pub(super) fn check(can_try: bool) -> Check {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let who = name.clone().unwrap_or_else(|| format!("uid {uid}"));
    if uid.is_root() {
        return Check::pass(NAME, "root: each job has 65536 ids of its own");
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
