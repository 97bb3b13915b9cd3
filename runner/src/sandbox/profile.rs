//! A seccomp profile in OCI's form (runtime-spec, config-linux.md "Seccomp"; the form of Docker's default.json too) -> filter.
//!
//! Read with the places of mistakes; compiled by libseccomp, as OCI runtimes do. Only the native architecture is filtered:
//! the guard that is loaded beside the profile ends foreign programs.

use std::collections::BTreeSet;

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use serde::Deserialize;
use thiserror::Error;

use super::seccomp::{self, FilterError};

/// Largest profile in bytes: Docker's is 16 KiB.
pub const PROFILE_BYTES_MAX: u64 = 1 << 20;
/// Most names and conditions of a profile together: the kernel takes 4,096 instructions in one filter (BPF_MAXINSNS).
const RULES_MAX: usize = 4096;

/// A profile cannot be used.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// It is not JSON, or not of this form.
    #[error("{line}:{column}: {what}")]
    Form {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// It is of the form, but cannot be done.
    #[error("{what}")]
    Meaning {
        /// What; stands behind the file's name and a colon.
        what: String,
    },
    /// No filter can be made of it.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// One argument's condition.
#[derive(Debug, Deserialize)]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default, rename = "valueTwo")]
    value_two: u64,
    op: Operator,
}

/// When a rule counts: Docker's addition. All that is given must hold.
#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(rename = "minKernel")]
    min_kernel: Option<String>,
}

/// One rule.
#[derive(Debug, Deserialize)]
struct Rule {
    /// OCI's form.
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old form.
    name: Option<String>,
    action: Action,
    #[serde(default, rename = "errnoRet")]
    errno: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

/// A profile.
#[derive(Debug, Deserialize)]
pub struct Profile {
    #[serde(rename = "defaultAction")]
    default: Action,
    #[serde(default, rename = "defaultErrnoRet")]
    default_errno: Option<u32>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

/// What conditions of a profile look at.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The step's capabilities, by name: `CAP_CHOWN`.
    pub capabilities: Vec<&'static str>,
    /// Version of the kernel: major, minor.
    pub kernel: (u32, u32),
}

/// A filter, and the names in the profile that this machine does not have.
#[derive(Debug)]
pub struct Compiled {
    /// `sock_filter` bytes.
    pub filter: Vec<u8>,
    /// Sorted, each once.
    pub unknown: Vec<String>,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError::Form`] with the place.
    pub fn parse(text: &[u8]) -> Result<Self, ProfileError> {
        serde_json::from_slice(text).map_err(|error| {
            let what = error.to_string();
            // The place stands in the text, too.
            let what = what.split(" at line ").next().unwrap_or_default().to_owned();
            ProfileError::Form { line: error.line(), column: error.column(), what }
        })
    }

    /// Makes the filter.
    ///
    /// # Errors
    /// [`ProfileError::Meaning`] for what no filter can say; those of libseccomp.
    pub fn compile(&self, around: &Circumstances) -> Result<Compiled, ProfileError> {
        let default = action(self.default, self.default_errno)?;
        let mut filter = ScmpFilterContext::new(default).map_err(FilterError::from)?;
        // The guard beside it ends foreign programs.
        filter.set_act_badarch(ScmpAction::Allow).map_err(FilterError::from)?;
        filter.set_ctl_optimize(2).map_err(FilterError::from)?;
        let rules = self.syscalls.as_deref().unwrap_or_default();
        let count: usize =
            rules.iter().map(|rule| rule.names.len() + rule.args.as_ref().map_or(0, Vec::len)).sum();
        if count > RULES_MAX {
            return Err(meaning(format!(" {count} names and conditions; at most {RULES_MAX} are accepted")));
        }
        for name in NEEDED {
            if !self.lets(name, around) {
                return Err(meaning(format!(" it refuses `{name}`, without which no command can run")));
            }
        }
        let mut unknown = BTreeSet::new();
        for rule in rules.iter().filter(|rule| rule.counts(around)) {
            rule.add_to(&mut filter, default, &mut unknown)?;
        }
        let filter = seccomp::export(&filter)?;
        Ok(Compiled { filter, unknown: unknown.into_iter().collect() })
    }
}

/// What every command begins and ends with.
const NEEDED: [&str; 2] = ["execve", "exit_group"];

impl Profile {
    /// Whether a call gets through, whatever its arguments are.
    fn lets(&self, name: &str, around: &Circumstances) -> bool {
        let passes = |action: Action| matches!(action, Action::Allow | Action::Log | Action::Trace);
        let about = |rule: &&Rule| {
            let plain = rule.args.as_ref().is_none_or(Vec::is_empty);
            plain && rule.counts(around) && rule.names.iter().chain(&rule.name).any(|one| one == name)
        };
        let mut rules = self.syscalls.as_deref().unwrap_or_default().iter().filter(about).peekable();
        match rules.peek() {
            None => passes(self.default),
            Some(_) => rules.all(|rule| passes(rule.action)),
        }
    }
}

impl Rule {
    fn counts(&self, around: &Circumstances) -> bool {
        let native = |arch: &String| {
            let names: &[&str] = match std::env::consts::ARCH {
                "x86_64" => &["amd64", "x86_64", "SCMP_ARCH_X86_64"],
                "aarch64" => &["arm64", "aarch64", "SCMP_ARCH_AARCH64"],
                other => &[other],
            };
            names.contains(&arch.as_str())
        };
        let has = |name: &String| around.capabilities.contains(&name.as_str());
        let reached = |version: &String| kernel(version).is_none_or(|least| around.kernel >= least);
        let included = self.includes.as_ref().is_none_or(|only| {
            only.caps.iter().all(has)
                && (only.arches.is_empty() || only.arches.iter().any(native))
                && only.min_kernel.as_ref().is_none_or(reached)
        });
        let excluded = self.excludes.as_ref().is_some_and(|not| {
            not.caps.iter().any(has)
                || not.arches.iter().any(native)
                || not.min_kernel.as_ref().is_some_and(reached)
        });
        included && !excluded
    }

    fn add_to(
        &self,
        filter: &mut ScmpFilterContext,
        default: ScmpAction,
        unknown: &mut BTreeSet<String>,
    ) -> Result<(), ProfileError> {
        let action = action(self.action, self.errno)?;
        if action == default {
            // Nothing to say, and libseccomp refuses to.
            return Ok(());
        }
        let conditions = conditions(self.args.as_deref().unwrap_or_default())?;
        for name in self.names.iter().chain(&self.name) {
            let Some(number) = seccomp::number(name) else {
                unknown.insert(name.clone());
                continue;
            };
            let call = ScmpSyscall::from(number);
            if repeats(self.args.as_deref().unwrap_or_default()) {
                // Several conditions on one argument: any of them, as OCI runtimes have it.
                for condition in &conditions {
                    filter
                        .add_rule_conditional(action, call, std::slice::from_ref(condition))
                        .map_err(FilterError::from)?;
                }
            } else {
                filter.add_rule_conditional(action, call, &conditions).map_err(FilterError::from)?;
            }
        }
        Ok(())
    }
}

/// Whether two conditions are about the same argument: libseccomp cannot join them.
fn repeats(arguments: &[Argument]) -> bool {
    let mut seen = BTreeSet::new();
    arguments.iter().any(|argument| !seen.insert(argument.index))
}

fn conditions(arguments: &[Argument]) -> Result<Vec<ScmpArgCompare>, ProfileError> {
    let condition = |argument: &Argument| {
        if argument.index > 5 {
            return Err(meaning(format!(" argument {} of a call: there are 0 to 5", argument.index)));
        }
        let (operator, value) = match argument.op {
            Operator::NotEqual => (ScmpCompareOp::NotEqual, argument.value),
            Operator::Less => (ScmpCompareOp::Less, argument.value),
            Operator::LessOrEqual => (ScmpCompareOp::LessOrEqual, argument.value),
            Operator::Equal => (ScmpCompareOp::Equal, argument.value),
            Operator::GreaterOrEqual => (ScmpCompareOp::GreaterEqual, argument.value),
            Operator::Greater => (ScmpCompareOp::Greater, argument.value),
            Operator::MaskedEqual => (ScmpCompareOp::MaskedEqual(argument.value), argument.value_two),
        };
        Ok(ScmpArgCompare::new(argument.index, operator, value))
    };
    arguments.iter().map(condition).collect()
}

/// Errno of a refused call, if the profile names none.
const DEFAULT_ERRNO: u32 = libc::EPERM as u32;
/// Greatest errno that the kernel passes on (linux/err.h).
const ERRNO_MAX: u32 = 4095;

fn action(action: Action, errno: Option<u32>) -> Result<ScmpAction, ProfileError> {
    Ok(match action {
        Action::Allow => ScmpAction::Allow,
        Action::Errno => match errno.unwrap_or(DEFAULT_ERRNO) {
            errno @ 0..=ERRNO_MAX => ScmpAction::Errno(errno as i32),
            errno => {
                return Err(meaning(format!(
                    " `errnoRet` {errno}: the greatest error number is {ERRNO_MAX}"
                )));
            }
        },
        Action::Kill => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Trace => {
            let message = errno.unwrap_or(DEFAULT_ERRNO);
            let short = u16::try_from(message);
            ScmpAction::Trace(short.map_err(|_| meaning(format!(" `errnoRet` {message} is too large")))?)
        }
        Action::Log => ScmpAction::Log,
    })
}

fn meaning(what: String) -> ProfileError {
    ProfileError::Meaning { what }
}

/// Reads `4.8`, or the release of a kernel.
pub fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Circumstances {
        Circumstances { capabilities: vec!["CAP_SYS_CHROOT"], kernel: (6, 1) }
    }

    fn compile(text: &str) -> Result<Compiled, String> {
        let profile = Profile::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        profile.compile(&around()).map_err(|error| error.to_string())
    }

    fn answer(text: &str, name: &str, arguments: &[u64]) -> i32 {
        let compiled = compile(text).unwrap_or_else(|error| panic!("{error}"));
        seccomp::tests::of(&[compiled.filter], name, arguments)
    }

    #[test]
    fn rules_decide_by_name_argument_and_circumstance() {
        let allowing =
            |rules: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rules}]}}"#);
        let refuse =
            |rest: &str| allowing(&format!(r#"{{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"{rest}}}"#));
        for (rest, arguments, expected) in [
            ("", vec![], libc::EPERM),
            (r#", "errnoRet": 38"#, vec![], 38),
            (r#", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]"#, vec![7], libc::EPERM),
            (r#", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]"#, vec![8], 0),
            (
                r#", "args": [{"index": 0, "value": 6, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]"#,
                vec![3],
                libc::EPERM,
            ),
            (
                r#", "args": [{"index": 0, "value": 6, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]"#,
                vec![4],
                0,
            ),
            (r#", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}]"#, vec![1 << 40], libc::EPERM),
            (
                r#", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]"#,
                vec![2],
                libc::EPERM,
            ),
            (r#", "includes": {"caps": ["CAP_SYS_CHROOT"]}"#, vec![], libc::EPERM),
            (r#", "includes": {"caps": ["CAP_SYS_ADMIN"]}"#, vec![], 0),
            (r#", "excludes": {"caps": ["CAP_SYS_CHROOT"]}"#, vec![], 0),
            (r#", "excludes": {"caps": ["CAP_SYS_ADMIN"]}"#, vec![], libc::EPERM),
            (r#", "includes": {"minKernel": "6.1"}"#, vec![], libc::EPERM),
            (r#", "includes": {"minKernel": "6.2"}"#, vec![], 0),
            (r#", "includes": {"arches": ["mips"]}"#, vec![], 0),
        ] {
            assert_eq!(answer(&refuse(rest), "chroot", &arguments), expected, "{rest} {arguments:?}");
            assert_eq!(answer(&refuse(rest), "getpid", &[]), 0, "{rest}");
        }
        let listed = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "syscalls": [{"names": ["execve", "exit_group", "getpid"], "action": "SCMP_ACT_ALLOW"}, {"name": "getuid", "action": "SCMP_ACT_ALLOW"}]}"#;
        assert_eq!(["getpid", "getuid", "chroot"].map(|name| answer(listed, name, &[])), [0, 0, 38]);
    }

    #[test]
    fn unknown_names_are_told_and_mistakes_have_a_place() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls":
            [{"names": ["execve", "exit_group", "frobnicate", "frobnicate"], "action": "SCMP_ACT_ALLOW"}]}"#;
        assert_eq!(compile(text).unwrap().unknown, ["frobnicate"]);
        for (text, expected) in [
            (r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#, " it refuses `execve`"),
            ("{", "1:1: EOF while parsing an object"),
            ("{}", "1:2: missing field `defaultAction`"),
            ("{\"defaultAction\":\n\"ALLOW\"}", "2:7: unknown variant `ALLOW`"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
                "1:96: unknown variant `SCMP_ACT_NOTIFY`",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]}"#,
                " `errnoRet` 5000",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
                " argument 6",
            ),
        ] {
            let error = compile(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
