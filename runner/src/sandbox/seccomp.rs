//! Policy and a job's choice -> two seccomp filters as BPF. The kernel takes the stricter answer of the two. `build.rs`
//! makes those of the default policy, `filters` holds them.
//!
//! The allow list is libseccomp's: a binary tree over the numbers, which loads in a quarter of the time of a list
//! (80 us against 320). The checks of arguments are assembled here, because libseccomp can neither compare the low half
//! of an argument nor refuse "none of these values". Neither ever kills: that would write to the host's audit log.

use std::io::Read as _;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use thiserror::Error;

use super::policy::{
    Argument, CHECKS, Check, GROUPS, GUARDED, NESTED, NESTED_UNCHECKED, OPENINGS, STRICT, STRICT_CHECKS,
    Test, UNTRUSTED, Verdict,
};

/// The filters could not be made.
#[derive(Debug, Error)]
#[error("cannot make the system call filter: {what}")]
pub struct FilterError {
    what: String,
}

impl From<SeccompError> for FilterError {
    fn from(error: SeccompError) -> Self {
        Self { what: error.to_string() }
    }
}

/// What the filters of a step are made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// `seccomp: strict`.
    pub strict: bool,
    /// `--untrusted`.
    pub untrusted: bool,
    /// `privileges: nested`.
    pub nested: bool,
    /// The capabilities that the job names, a bit each.
    pub capabilities: u64,
}

impl Choice {
    /// What a call gets that the policy gives `verdict`. What closes is stronger than what opens.
    fn verdict(&self, call: &str, verdict: Verdict) -> Verdict {
        let closings = [(self.strict, STRICT), (self.untrusted, UNTRUSTED)];
        let mut closings = closings.iter().filter(|(holds, _)| *holds).flat_map(|(_, closings)| *closings);
        if let Some(closing) = closings.find(|closing| closing.calls.contains(&call)) {
            return closing.verdict;
        }
        let named = |capability: u32| self.capabilities & (1 << capability) != 0;
        let opened = |calls: &[&str]| calls.contains(&call);
        let opens = (self.nested && opened(NESTED))
            || OPENINGS.iter().any(|opening| named(opening.capability) && opened(opening.calls));
        if opens { Verdict::Allow } else { verdict }
    }

    /// Whether the checks of a call's arguments are made.
    fn is_checked(&self, call: &str) -> bool {
        !(self.nested && NESTED_UNCHECKED.contains(&call))
    }
}

/// Makes the filters of a step: the checks of arguments, then the allow list.
///
/// # Errors
/// Those of libseccomp; of writing its program to a memory file.
pub fn compile(choice: &Choice) -> Result<[Vec<u8>; 2], FilterError> {
    let strict = if choice.strict { STRICT_CHECKS } else { &[] };
    let checks = checks(strict.iter().chain(CHECKS), |call| choice.is_checked(call));
    Ok([checks, allow_list(choice)?])
}

/// Makes the filter that stays where a job brings its own, or none: native programs only, and no way out of what the
/// sandbox promises about ownership and terminals.
pub fn guard(choice: &Choice) -> Vec<u8> {
    let mut program = native_only();
    if !choice.nested
        && let Some(clone3) = number("clone3")
    {
        // Its flags are behind a pointer: libraries fall back to clone.
        program.extend(
            [
                instruction(LOAD, 0, 0, OFFSET_NUMBER),
                instruction(JUMP_EQUAL, 0, 1, clone3 as u32),
                instruction(RETURN, 0, 0, ERRNO | libc::ENOSYS as u32),
            ]
            .iter()
            .flat_map(bytes),
        );
    }
    program.extend(checks(CHECKS.iter(), |call| GUARDED.contains(&call) && choice.is_checked(call)));
    program
}

/// libseccomp's tree over system call numbers.
fn allow_list(choice: &Choice) -> Result<Vec<u8>, FilterError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::ENOSYS))?;
    // 32-bit programs get SIGSYS, which can be explained; ENOSYS would end them with a bare SIGSEGV.
    filter.set_act_badarch(ScmpAction::Trap)?;
    filter.set_ctl_optimize(2)?;
    for group in GROUPS {
        for name in group.calls {
            let action = match choice.verdict(name, group.verdict) {
                Verdict::Allow => ScmpAction::Allow,
                Verdict::Eperm => ScmpAction::Errno(libc::EPERM),
                Verdict::Enosys => continue,
            };
            if let Some(number) = number(name) {
                filter.add_rule(action, ScmpSyscall::from(number))?;
            }
        }
    }
    let mut program = preamble();
    program.extend(export(&filter)?);
    Ok(program)
}

/// The program that libseccomp makes of a filter.
pub(super) fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, FilterError> {
    let io = |error: std::io::Error| FilterError { what: format!("export to a memory file: {error}") };
    let file = rustix::fs::memfd_create(c"runner-filter", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(std::io::Error::from)
        .map_err(io)?;
    filter.export_bpf(&file)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(std::io::Error::from).map_err(io)?;
    let mut program = Vec::new();
    std::fs::File::from(file).read_to_end(&mut program).map_err(io)?;
    Ok(program)
}

/// Calls that libseccomp 2.5.4 does not know by name. From 403 on numbers are the same on every architecture here
/// (asm-generic/unistd.h).
const NEWER: [(&str, i32); 14] = [
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("futex_waitv", 449),
    ("quotactl_fd", 443),
    ("uretprobe", 335),
];

/// The native number of a call; `None` where the architecture has none.
pub(super) fn number(name: &str) -> Option<i32> {
    if let Ok(found) = ScmpSyscall::from_name(name) {
        // Calls of other architectures have negative pseudo numbers.
        return Some(i32::from(found)).filter(|number| *number >= 0);
    }
    let listed = NEWER.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    listed.filter(|_| name != "uretprobe" || cfg!(target_arch = "x86_64"))
}

/// One instruction (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;

/// Offsets in `struct seccomp_data`, little endian.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;
/// On x86_64, numbers from here on are x32's: refused as on a kernel built without it. 0xffffffff is not one of them:
/// a tracer that skips a call sets it, and nothing runs.
const X32: u32 = 0x4000_0000;

const fn instruction(code: u16, jump_true: u8, jump_false: u8, value: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

/// What precedes the tree: libseccomp can express neither. Jumps are relative, so prepending is sound.
fn preamble() -> Vec<u8> {
    if cfg!(not(target_arch = "x86_64")) {
        return Vec::new();
    }
    let program = [
        instruction(LOAD, 0, 0, OFFSET_NUMBER),
        instruction(JUMP_EQUAL, 0, 1, u32::MAX),
        instruction(RETURN, 0, 0, ALLOW),
        instruction(JUMP_AT_LEAST, 0, 1, X32),
        instruction(RETURN, 0, 0, ERRNO | libc::ENOSYS as u32),
    ];
    program.iter().flat_map(bytes).collect()
}

/// `AUDIT_ARCH_*` of this machine (linux/audit.h): the ELF machine, 64 bits, little endian.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
/// `AUDIT_ARCH_*` of this machine (linux/audit.h): the ELF machine, 64 bits, little endian.
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;

/// What the allow list does by itself: foreign programs get SIGSYS, x32 is absent. Falls through to what follows.
fn native_only() -> Vec<u8> {
    let program = [
        instruction(LOAD, 0, 0, OFFSET_ARCHITECTURE),
        instruction(JUMP_EQUAL, 1, 0, NATIVE),
        instruction(RETURN, 0, 0, TRAP),
    ];
    program.iter().flat_map(bytes).chain(preamble()).collect()
}

/// Assembles the checks: a block per check that falls through to the next; allowed at the end. Another filter, or what
/// precedes it, looks at the architecture.
fn checks<'c>(checks: impl Iterator<Item = &'c Check>, made: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut program = vec![instruction(LOAD, 0, 0, OFFSET_NUMBER)];
    for check in checks {
        for name in check.calls.iter().filter(|name| made(name)) {
            if let Some(number) = number(name) {
                program.extend(block(check, number as u32));
            }
        }
    }
    program.push(instruction(RETURN, 0, 0, ALLOW));
    program.iter().flat_map(bytes).collect()
}

/// One check of one call. The accumulator holds the call's number before it, and again after it.
fn block(check: &Check, number: u32) -> Vec<Instruction> {
    let mut body: Vec<Instruction> = Vec::new();
    for argument in check.arguments {
        body.extend(condition(argument));
    }
    body.push(instruction(RETURN, 0, 0, ERRNO | check.errno as u32));
    // A condition that does not hold jumps behind the body: written as u8::MAX until the length is known.
    let length = body.len();
    for (index, one) in body.iter_mut().enumerate() {
        let behind = (length - index - 1) as u8;
        for jump in [&mut one.jump_true, &mut one.jump_false] {
            if *jump == u8::MAX {
                *jump = behind;
            }
        }
    }
    let mut block = vec![instruction(JUMP_EQUAL, 0, length as u8 + 1, number)];
    block.extend(body);
    block.push(instruction(LOAD, 0, 0, OFFSET_NUMBER));
    block
}

/// Goes on when the argument's test holds, else jumps behind the body.
fn condition(argument: &Argument) -> Vec<Instruction> {
    let mut code = vec![instruction(LOAD, 0, 0, OFFSET_ARGUMENTS + 8 * argument.index)];
    if argument.mask != u32::MAX {
        code.push(instruction(AND, 0, 0, argument.mask));
    }
    match &argument.test {
        Test::AnyBit(bits) => code.push(instruction(JUMP_ANY_BIT, 0, u8::MAX, *bits)),
        Test::NotIn(values) => {
            code.extend(values.iter().map(|value| instruction(JUMP_EQUAL, u8::MAX, 0, *value)));
        }
        Test::In(values) => {
            for (index, value) in values.iter().enumerate() {
                let left = (values.len() - index - 1) as u8;
                code.push(instruction(JUMP_EQUAL, left, if left == 0 { u8::MAX } else { 0 }, *value));
            }
        }
    }
    code
}

fn bytes(one: &Instruction) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (one.code.to_ne_bytes(), one.value.to_ne_bytes());
    [a, b, one.jump_true, one.jump_false, c, d, e, f]
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Runs a program as the kernel does, on a call and its arguments.
    fn verdict(program: &[u8], number: u32, arguments: &[u64]) -> u32 {
        let word = |offset: u32| match offset {
            0 => number,
            4 => 0xC000_003E,
            _ => {
                let at = (offset - OFFSET_ARGUMENTS) as usize;
                let value = arguments.get(at / 8).copied().unwrap_or(0);
                if at.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 }
            }
        };
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let one = &program[at * 8..at * 8 + 8];
            let code = u16::from_ne_bytes([one[0], one[1]]);
            let (yes, no) = (one[2] as usize, one[3] as usize);
            let value = u32::from_ne_bytes([one[4], one[5], one[6], one[7]]);
            at += 1;
            match code {
                LOAD => accumulator = word(value),
                AND => accumulator &= value,
                JUMP_EQUAL => at += if accumulator == value { yes } else { no },
                JUMP_ANY_BIT => at += if accumulator & value != 0 { yes } else { no },
                JUMP_AT_LEAST => at += if accumulator >= value { yes } else { no },
                0x25 => at += if accumulator > value { yes } else { no },
                0x05 => at += value as usize,
                RETURN => return value,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// The answer of the default filters.
    fn answer(name: &str, arguments: &[u64]) -> i32 {
        of(&compile(&Choice::default()).unwrap(), name, arguments)
    }

    /// The answer of all filters together: the strictest one.
    pub fn of(programs: &[Vec<u8>], name: &str, arguments: &[u64]) -> i32 {
        let number = number(name).unwrap_or_else(|| panic!("no number of {name}")) as u32;
        let answers = programs.iter().map(|program| verdict(program, number, arguments));
        let strictest =
            answers.min_by_key(|answer| if *answer == ALLOW { u32::MAX } else { *answer }).unwrap();
        if strictest == ALLOW { 0 } else { (strictest & 0xffff) as i32 }
    }

    #[test]
    fn every_call_gets_what_its_group_says() {
        let program = allow_list(&Choice::default()).unwrap();
        for group in GROUPS {
            for name in group.calls {
                let Some(number) = number(name) else { continue };
                let expected = match group.verdict {
                    Verdict::Allow => ALLOW,
                    Verdict::Eperm => ERRNO | libc::EPERM as u32,
                    Verdict::Enosys => ERRNO | libc::ENOSYS as u32,
                };
                assert_eq!(verdict(&program, number as u32, &[]), expected, "{name} of {}", group.name);
            }
        }
        assert_eq!(verdict(&program, 9999, &[]), ERRNO | libc::ENOSYS as u32);
    }

    #[test]
    fn a_call_stands_in_one_group_only() {
        let mut seen = HashSet::new();
        for name in GROUPS.iter().flat_map(|group| group.calls) {
            assert!(seen.insert(name), "{name} stands twice");
        }
    }

    #[test]
    fn arguments_decide() {
        let high = 1u64 << 32;
        for (name, arguments, expected) in [
            ("clone", vec![0x11], 0),
            ("clone", vec![0x1000_0000], libc::EPERM),
            ("clone", vec![0x1000_0000 | high], libc::EPERM),
            ("unshare", vec![0x400], 0),
            ("unshare", vec![0x2_0000], libc::EPERM),
            ("ioctl", vec![1, 0x5413], 0),
            ("ioctl", vec![1, 0x5412], libc::EPERM),
            ("ioctl", vec![1, 0x5412 | high], libc::EPERM),
            ("socket", vec![1, 1, 0], 0),
            ("socket", vec![2, 1, 6], 0),
            ("socket", vec![2, 0x80001, 0], 0),
            ("socket", vec![2, 3, 1], libc::EPERM),
            ("socket", vec![2, 1, 132], libc::EPROTONOSUPPORT),
            ("socket", vec![16, 3, 0], 0),
            ("socket", vec![16, 3, 9], libc::EPROTONOSUPPORT),
            ("socket", vec![38, 5, 0], libc::EAFNOSUPPORT),
            ("socket", vec![40, 1, 0], libc::EAFNOSUPPORT),
            ("setsockopt", vec![3, 6, 31], libc::ENOPROTOOPT),
            ("setsockopt", vec![3, 6, 1], 0),
            ("personality", vec![0xffff_ffff], 0),
            ("personality", vec![u64::MAX], 0),
            ("personality", vec![0x40_0000], libc::EPERM),
        ] {
            assert_eq!(answer(name, &arguments), expected, "{name} {arguments:x?}");
        }
    }

    #[test]
    fn a_jobs_choice_opens_and_closes() {
        let plain = Choice::default();
        let strict = Choice { strict: true, ..plain };
        let untrusted = Choice { untrusted: true, ..plain };
        let nested = Choice { nested: true, ..plain };
        let named = |number: u32| Choice { capabilities: 1 << number, ..plain };
        let (refused, absent) = (libc::EPERM, libc::ENOSYS);
        for (name, arguments, choice, without, with) in [
            ("ptrace", vec![], strict, 0, refused),
            ("ptrace", vec![], untrusted, 0, refused),
            ("io_setup", vec![], strict, 0, absent),
            ("msgget", vec![], strict, 0, absent),
            ("socket", vec![16, 3, 0], strict, 0, libc::EAFNOSUPPORT),
            ("personality", vec![0x4_0000], strict, 0, refused),
            ("personality", vec![0xffff_ffff], strict, 0, 0),
            ("mount", vec![], nested, refused, 0),
            ("clone", vec![0x1000_0000], nested, refused, 0),
            ("unshare", vec![0x1000_0000], nested, refused, 0),
            ("clone3", vec![], nested, absent, 0),
            ("bpf", vec![], nested, refused, refused),
            ("ioctl", vec![1, 0x5412], nested, refused, refused),
            ("chroot", vec![], named(18), refused, 0),
            ("chroot", vec![], named(19), refused, refused),
            ("kcmp", vec![], named(19), absent, 0),
            ("mbind", vec![], named(23), absent, 0),
            ("perf_event_open", vec![], named(38), refused, 0),
            ("pidfd_getfd", vec![], Choice { strict: true, ..named(19) }, refused, 0),
            ("ptrace", vec![], Choice { strict: true, ..named(19) }, 0, refused),
        ] {
            let answer = |choice: &Choice| of(&compile(choice).unwrap(), name, &arguments);
            assert_eq!(answer(&plain), without, "{name} {arguments:x?} without");
            assert_eq!(answer(&choice), with, "{name} {arguments:x?} with {choice:?}");
        }
    }

    #[test]
    fn the_guard_stays_whatever_the_job_says() {
        let guard =
            |choice: &Choice, name: &str, arguments: &[u64]| of(&[super::guard(choice)], name, arguments);
        let plain = Choice::default();
        let nested = Choice { nested: true, ..plain };
        for (name, arguments, without, with) in [
            ("unshare", vec![0x1000_0000], libc::EPERM, 0),
            ("clone", vec![0x1000_0000], libc::EPERM, 0),
            ("clone3", vec![], libc::ENOSYS, 0),
            ("ioctl", vec![1, 0x5412], libc::EPERM, libc::EPERM),
            ("ioctl", vec![1, 0x5413], 0, 0),
            ("bpf", vec![], 0, 0),
            ("socket", vec![38, 5, 0], 0, 0),
        ] {
            assert_eq!(guard(&plain, name, &arguments), without, "{name}");
            assert_eq!(guard(&nested, name, &arguments), with, "{name} nested");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_is_absent_and_a_tracers_skip_passes() {
        let program = allow_list(&Choice::default()).unwrap();
        assert_eq!(verdict(&program, X32 | 1, &[]), ERRNO | libc::ENOSYS as u32);
        assert_eq!(verdict(&program, u32::MAX, &[]), ALLOW);
        let guard = guard(&Choice::default());
        assert_eq!(verdict(&guard, X32 | 1, &[]), ERRNO | libc::ENOSYS as u32);
        assert_eq!(verdict(&guard, u32::MAX, &[]), ALLOW);
    }
}
