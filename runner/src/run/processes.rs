//! What the processes of a step are doing, as text for its log: for a step that has fallen silent.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use jobs::units::format_duration;
use serde::Serialize;

use crate::cgroup::CgroupProcess;

/// Processes that are shown; the rest is counted.
const SHOWN_MAX: usize = 50;
/// Characters of a command line that are shown.
const COMMAND_CHARS_MAX: usize = 120;
/// Functions of the kernel that are shown of where a process waits.
const FRAMES_MAX: usize = 3;
/// What init calls itself; it only waits for the others.
const INIT_NAME: &str = "runner-init";

/// A process of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Portrait {
    /// Its pid as the host sees it.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its pid as the step sees it.
    pub inside: u32,
    /// As proc_pid_stat(5) has it: `R` runs, `S` sleeps, `D` waits for a disk, `Z` is dead.
    pub state: char,
    /// The kernel's innermost functions in which it waits.
    pub waits_in: String,
    /// Its command line, without control characters.
    pub command: String,
    /// How many of its ancestors are in the same list.
    pub depth: usize,
}

/// Looks at the processes of a step, children below their parents; at init, which only waits for the others, not.
pub fn portraits(processes: &[CgroupProcess]) -> Vec<Portrait> {
    let others = processes.iter().filter(|process| process.name != INIT_NAME);
    as_tree(&others.filter_map(|process| portrait(process.pid)).collect::<Vec<_>>())
}

/// Orders processes so that children follow their parents.
fn as_tree(found: &[Portrait]) -> Vec<Portrait> {
    let known: Vec<u32> = found.iter().map(|process| process.pid).collect();
    let roots = found.iter().rev().filter(|process| !known.contains(&process.parent));
    let mut left: Vec<(&Portrait, usize)> = roots.map(|process| (process, 0)).collect();
    let mut tree = Vec::with_capacity(found.len());
    while let Some((process, depth)) = left.pop() {
        tree.push(Portrait { depth, ..process.clone() });
        let children =
            found.iter().rev().filter(|child| child.parent == process.pid && child.pid != child.parent);
        left.extend(children.map(|child| (child, depth + 1)));
    }
    tree
}

/// Says that nothing was heard for so long, and what each process waits for, children below their parents.
pub fn picture(after: Duration, processes: &[CgroupProcess]) -> String {
    drawn(after, &portraits(processes))
}

fn drawn(after: Duration, found: &[Portrait]) -> String {
    let mut text = format!("\nrunner: no output for {}", format_duration(after));
    if found.is_empty() {
        text.push_str("; its processes cannot be seen without a cgroup\n");
        return text;
    }
    text.push_str("; its processes:\n");
    let _ = writeln!(text, "  {:>7} S  {:40} COMMAND", "PID", "WAITS IN");
    for Portrait { inside, state, waits_in, command, depth, .. } in found.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  {inside:>7} {state}  {waits_in:40} {}{command}", "  ".repeat(*depth));
    }
    if found.len() > SHOWN_MAX {
        let _ = writeln!(text, "  ... {} in all", found.len());
    }
    text
}

/// Looks at a process; `None` once it is gone.
fn portrait(pid: u32) -> Option<Portrait> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}"));
    let stat = String::from_utf8_lossy(&read("stat").ok()?).into_owned();
    // A name may contain parentheses and blanks; the last one ends it.
    let (head, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let command = command(&read("cmdline").unwrap_or_default());
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let command = if command.is_empty() { format!("[{}]", printable(name)) } else { command };
    let status = String::from_utf8_lossy(&read("status").unwrap_or_default()).into_owned();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inside = inside.and_then(|pids| pids.split_whitespace().last()?.parse().ok()).unwrap_or(pid);
    let stack = String::from_utf8_lossy(&read("stack").unwrap_or_default()).into_owned();
    let wchan = String::from_utf8_lossy(&read("wchan").unwrap_or_default()).into_owned();
    Some(Portrait { pid, parent, inside, state, waits_in: place(&stack, &wchan), command, depth: 0 })
}

/// Where a process waits in the kernel: the innermost functions of its stack where that may be read, else the one that
/// anybody may know.
fn place(stack: &str, wchan: &str) -> String {
    let function = |line: &str| Some(line.split_once("] ")?.1.split('+').next()?.trim().to_owned());
    let frames: Vec<String> = stack.lines().filter_map(function).take(FRAMES_MAX).collect();
    match (frames.is_empty(), wchan.trim()) {
        (false, _) => frames.join(" < "),
        (true, "" | "0") => "-".to_owned(),
        (true, wchan) => printable(wchan),
    }
}

/// A command line from its arguments, each ended by a NUL.
fn command(arguments: &[u8]) -> String {
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    let text = String::from_utf8_lossy(arguments).replace('\0', " ");
    let text = printable(&text);
    if text.chars().count() <= COMMAND_CHARS_MAX {
        return text;
    }
    let head: String = text.chars().take(COMMAND_CHARS_MAX - 1).collect();
    format!("{head}…")
}

/// Control characters and what turns the direction of text are replaced: the step chose these words.
fn printable(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, command: &str) -> Portrait {
        let (inside, waits_in) = (pid - 100, "do_wait".to_owned());
        Portrait { pid, parent, inside, state: 'S', waits_in, command: command.to_owned(), depth: 0 }
    }

    #[test]
    fn children_stand_below_their_parents() {
        let found = [
            process(102, 1, "make"),
            process(105, 102, "cc a.c"),
            process(103, 102, "sh"),
            process(104, 103, "sleep 9"),
        ];
        let text = drawn(Duration::from_secs(300), &as_tree(&found));
        let lines: Vec<&str> = text.lines().skip(3).map(|line| line.get(54..).unwrap_or("")).collect();
        assert!(text.starts_with("\nrunner: no output for 5m"), "{text}");
        assert_eq!(lines, ["make", "  cc a.c", "  sh", "    sleep 9"], "{text}");
    }

    #[test]
    fn many_are_counted_and_none_is_said() {
        let found: Vec<Portrait> = (200..300).map(|pid| process(pid, 1, "x")).collect();
        let text = drawn(Duration::from_secs(1), &found);
        assert_eq!(text.lines().count(), 3 + SHOWN_MAX + 1);
        assert!(text.ends_with("... 100 in all\n"), "{text}");
        assert!(drawn(Duration::from_secs(1), &[]).ends_with("cannot be seen without a cgroup\n"));
    }

    #[test]
    fn a_stack_is_its_innermost_functions() {
        let stack =
            "[<0>] do_wait+0x5e/0xe0\n[<0>] kernel_wait4+0xaf/0x140\n[<0>] c+0x1/0x2\n[<0>] d+0x1/0x2\n";
        assert_eq!(place(stack, "do_wait"), "do_wait < kernel_wait4 < c");
        assert_eq!(place("", "pipe_read"), "pipe_read");
        assert_eq!((place("", "0"), place("", "")), ("-".to_owned(), "-".to_owned()));
    }

    #[test]
    fn what_a_step_calls_itself_moves_no_cursor() {
        assert_eq!(command(b"a\0b\x1b[2J\0"), "a b\u{fffd}[2J");
        assert_eq!(command(&[b'x'; 500]).chars().count(), COMMAND_CHARS_MAX);
        let own = portrait(std::process::id()).map(|process| (process.pid, process.command.is_empty()));
        assert_eq!(own, Some((std::process::id(), false)));
    }
}
