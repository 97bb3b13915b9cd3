//! Unpacks an archive of the tables and compares everything that can be seen afterwards.
//!
//! A tree is written as one line for each path, sorted: `d/` a directory, `a = text` a file (`*`: content not
//! compared), `l -> target` a link, `f |` a fifo. What stands in braces is compared too: `{mode 4755}`, `{mtime 5}` or
//! `{mtime 5.250000000}`, `{links 2}`, `{size 9}`, `{owner 1000:1001}`, `{abc at 1000}` (and zeros elsewhere),
//! `{xattrs none}`. `./` is the root itself and may be left out.

use std::os::fd::AsFd as _;

use images::{Ownership, UnpackError, UnpackFault, UnpackOptions, UnpackSummary, unpack};

use crate::case::{Case, Kind, Want};
use crate::memory::Peak;
use crate::support::{Found, Playground};

/// What unpacking may take, whatever the archive says, beside the window that a format asks for.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Characters of a tree that a failure shows.
const SHOWN_CHARS_MAX: usize = 300;

/// Returns what is wrong with the outcome of a case.
pub fn run(case: &Case, ownership: Ownership) -> Result<(), String> {
    let playground = Playground::new();
    let options = case.options(ownership);
    if let Some(lower) = &case.lower {
        unpack_into(&playground, lower, &options).map_err(|error| format!("the layer below: {error}"))?;
    }
    let options = UnpackOptions { layer: case.lower.is_some(), ..options };
    let peak = Peak::start();
    let result = unpack_into(&playground, &case.archive, &options);
    let grown = peak.bytes();
    let max = MEMORY_BYTES_MAX + case.window_bytes;
    if grown > max {
        return Err(format!("{grown} bytes of memory: expected at most {max}"));
    }
    playground.assert_nothing_outside();
    match (&case.want, result) {
        (Want::Tree(_), Err(error)) => Err(format!("refused: {error}")),
        (Want::Error(..), Ok(_)) => Err("unpacked".to_owned()),
        (Want::Tree(tree), Ok(summary)) => {
            if summary.notes != case.notes {
                return Err(format!("notes {:?}: expected {:?}", summary.notes, case.notes));
            }
            compare(tree, &playground, ownership)
        }
        (Want::Error(kind, words), Err(error)) => {
            let found = kind_of(&error.fault);
            let text = error.to_string();
            if found != *kind {
                return Err(format!("{found:?}: {text}: expected {kind:?}"));
            }
            let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} is not in {text:?}")) }
        }
    }
}

fn unpack_into(
    playground: &Playground,
    archive: &[u8],
    options: &UnpackOptions,
) -> Result<UnpackSummary, UnpackError> {
    let root = std::fs::File::open(playground.root()).unwrap();
    unpack(archive, root.as_fd(), options)
}

fn kind_of(fault: &UnpackFault) -> Kind {
    match fault {
        UnpackFault::Malformed { .. } => Kind::Malformed,
        UnpackFault::Refused { .. } => Kind::Refused,
        UnpackFault::Limit { max, .. } => Kind::Limit(*max),
        UnpackFault::System { .. } => Kind::System,
        UnpackFault::Source { what } => panic!("the source cannot fail here: {what}"),
    }
}

fn compare(tree: &[String], playground: &Playground, ownership: Ownership) -> Result<(), String> {
    let found = playground.tree();
    let mut expected: Vec<(&str, Vec<&str>)> = tree.iter().map(|line| taken_apart(line)).collect();
    if let Some(("./", facts)) = expected.first().map(|(line, facts)| (*line, facts.clone())) {
        hold(&facts, &playground.root_found(), ownership).map_err(|error| format!("the root: {error}"))?;
        expected.remove(0);
    }
    expected.sort();
    let lines: Vec<String> = found.iter().map(Found::line).collect();
    let missing = expected.iter().find(|(wanted, _)| !lines.iter().any(|line| matches_line(line, wanted)));
    if let Some((wanted, _)) = missing {
        return Err(format!("expected {}, found {}", shown(wanted), shown(&lines.join(", "))));
    }
    if lines.len() != expected.len() {
        return Err(format!("expected {} lines, found {}", expected.len(), shown(&lines.join(", "))));
    }
    for (found, (line, facts)) in found.iter().zip(&expected) {
        hold(facts, found, ownership).map_err(|error| format!("{line}: {error}"))?;
    }
    Ok(())
}

/// Returns the beginning of a text that may be very long.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// Takes the facts in braces off a line.
fn taken_apart(line: &str) -> (&str, Vec<&str>) {
    match line.strip_suffix('}').and_then(|line| line.rsplit_once(" {")) {
        Some((line, facts)) => (line, facts.split(", ").collect()),
        None => (line, Vec::new()),
    }
}

fn matches_line(found: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => found.starts_with(start),
        None => found == wanted,
    }
}

fn hold(facts: &[&str], found: &Found, ownership: Ownership) -> Result<(), String> {
    for fact in facts {
        let (what, value) = fact.split_once(' ').unwrap();
        let is = match what {
            "mode" => format!("{:o}", found.stat.st_mode & 0o7777),
            "mtime" if value.contains('.') => {
                format!("{}.{:09}", found.stat.st_mtime, found.stat.st_mtime_nsec)
            }
            "mtime" => found.stat.st_mtime.to_string(),
            "links" => found.stat.st_nlink.to_string(),
            "size" => found.stat.st_size.to_string(),
            // Whoever unpacks for himself owns everything.
            "owner" if ownership == Ownership::Caller => value.to_owned(),
            "owner" => format!("{}:{}", found.stat.st_uid, found.stat.st_gid),
            "xattrs" => found.xattrs.clone(),
            text => match value.strip_prefix("at ").and_then(|at| at.parse().ok()) {
                Some(at) if found.holds_only(text, at) => value.to_owned(),
                _ => "elsewhere or not alone".to_owned(),
            },
        };
        let squashed = what == "owner" && ownership == Ownership::Mapped && is_squashed(&is, value);
        if is != value && !squashed {
            return Err(format!("{what} is {is}: expected {value}"));
        }
    }
    Ok(())
}

/// Whether the ids that a user namespace lacks became nobody's: with one id mapped, all but root's.
fn is_squashed(is: &str, wanted: &str) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let mapped: u64 =
        map.lines().map(|line| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()).sum();
    let squash =
        |id: &str| if id.parse::<u64>().unwrap() < mapped { id.to_owned() } else { "65534".to_owned() };
    let (uid, gid) = wanted.split_once(':').unwrap();
    is == format!("{}:{}", squash(uid), squash(gid))
}
