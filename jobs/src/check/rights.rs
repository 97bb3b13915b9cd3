//! The filter of system calls, and rights.

use super::Checker;
use crate::bounds::PATH_BYTES_MAX;
use crate::codes::Code;
use crate::diagnostic::Origin;
use crate::file::{At, JobFile, NetworkField, PrivilegesField, Required};
use crate::render::quote;
use crate::rights::{Capability, CapabilityFault, Privileges, Seccomp, given_names};
use crate::suggest::nearest;

/// The words; anything with a slash or a dot is a file.
const FILTERS: &[(&str, Filter)] =
    &[("default", Filter::Default), ("strict", Filter::Strict), ("off", Filter::Off)];

#[derive(Clone, Copy)]
enum Filter {
    Default,
    Strict,
    Off,
}

impl Checker<'_> {
    pub(super) fn seccomp(&mut self, field: &At<String>, place: &str) -> Option<Seccomp> {
        let seccomp = if field.value.contains(['/', '.']) {
            if field.value.len() >= PATH_BYTES_MAX {
                let text = format!("`seccomp`{place} is longer than any path can be");
                self.problems.add(Code::TooLong, &field.span, text);
                return None;
            }
            Seccomp::File(field.value.clone())
        } else {
            let names: Vec<&str> = FILTERS.iter().map(|(name, _)| *name).collect();
            let Some((_, filter)) = FILTERS.iter().find(|(name, _)| *name == field.value) else {
                let mut text = format!("`seccomp`{place} cannot be {}", quote(&field.value));
                if let Some(similar) = nearest(&field.value, &names) {
                    text.push_str(&format!("; did you mean `{similar}`?"));
                }
                let hint =
                    "it is one of `default`, `strict`, `off`, or the path of a profile: `./seccomp.json`";
                self.problems.add(Code::NotAChoice, &field.span, text).hint(hint);
                return None;
            };
            match filter {
                Filter::Default => Seccomp::Default,
                Filter::Strict => Seccomp::Strict,
                Filter::Off => Seccomp::Off,
            }
        };
        if seccomp == Seccomp::Off {
            let text = format!("`seccomp: off`{place}: every system call reaches the kernel");
            let hint = "name what is needed in a profile of your own: `seccomp: ./seccomp.json`";
            self.problems.add(Code::SeccompOff, &field.span, text).hint(hint);
        }
        Some(seccomp)
    }

    pub(super) fn privileges(&mut self, field: &At<PrivilegesField>, place: &str) -> Option<Privileges> {
        match &field.value {
            PrivilegesField::Word(word) => {
                let word = At { value: word.clone(), span: field.span.clone() };
                let nested =
                    self.choice(&word, "privileges", place, &[("default", false), ("nested", true)])?;
                Some(if nested { Privileges::Nested } else { Privileges::Default })
            }
            PrivilegesField::Capabilities(names) => {
                // Every one is looked at, so that all faults are told at once.
                let found: Vec<_> = names.iter().map(|name| self.capability(name, place)).collect();
                let mut capabilities: Vec<Capability> = found.into_iter().collect::<Option<_>>()?;
                capabilities.sort_unstable();
                capabilities.dedup();
                Some(match capabilities.is_empty() {
                    true => Privileges::Default,
                    false => Privileges::Capabilities(capabilities),
                })
            }
        }
    }

    /// Refuses what reaches beyond the sandbox, in a file that nobody vouches for. `workspace: .` is none of it: it becomes a copy.
    pub(super) fn within_the_sandbox(&mut self, file: &JobFile, untrusted: bool) {
        if !untrusted {
            return;
        }
        if let Some(mounts) = file.mounts.as_ref().filter(|mounts| !mounts.value.is_empty()) {
            self.refuse_untrusted("`mounts`", &mounts.span);
        }
        if let Some(At { value: NetworkField::Word(word), span }) = &file.network
            && word == "host"
        {
            self.refuse_untrusted("`network: host`", span);
        }
        for setup in &file.setup {
            if let Some(At { value: NetworkField::Word(word), span }) = &setup.network
                && word == "host"
            {
                self.refuse_untrusted("`network: host`", span);
            }
        }
        for service in &file.services {
            if let Some(mounts) = service.mounts.as_ref().filter(|mounts| !mounts.value.is_empty()) {
                self.refuse_untrusted("`mounts` of a service", &mounts.span);
            }
            if let Some(port) = service.ports.first() {
                self.refuse_untrusted("`ports` of a service", &port.span);
            }
        }
        let steps = match &file.steps {
            Required::Given(steps) => steps.value.as_slice(),
            Required::Absent | Required::Unreadable => &[],
        };
        let filters = steps.iter().map(|step| &step.seccomp);
        for filter in std::iter::once(&file.seccomp).chain(filters).flatten() {
            // A profile of its own can let through as much as none at all.
            if !matches!(filter.value.as_str(), "default" | "strict") {
                self.refuse_untrusted("`seccomp` other than `default` and `strict`", &filter.span);
            }
        }
        let rights = steps.iter().map(|step| &step.privileges);
        for rights in std::iter::once(&file.privileges).chain(rights).flatten() {
            if !matches!(&rights.value, PrivilegesField::Word(word) if word == "default") {
                self.refuse_untrusted("`privileges`", &rights.span);
            }
        }
    }

    pub(super) fn refuse_untrusted(&mut self, what: &str, at: impl Into<Origin>) {
        let text = format!("{what} is refused with `--untrusted`");
        let hint = "leave it out, or vouch for the file by running it without `--untrusted`";
        self.problems.add(Code::Untrusted, at, text).hint(hint);
    }

    fn capability(&mut self, name: &At<String>, place: &str) -> Option<Capability> {
        let (text, hint) = match Capability::parse(&name.value) {
            Ok(capability) => return Some(capability),
            Err(CapabilityFault::Never(why)) => {
                (format!("no step can have {}{place}: {why}", name.value), None)
            }
            Err(CapabilityFault::Unknown) => {
                let mut text = format!("{}{place} is not a capability", quote(&name.value));
                let names = given_names();
                let full = format!("CAP_{}", name.value.to_ascii_uppercase());
                let similar = names.iter().copied().find(|known| *known == full);
                if let Some(similar) = similar.or_else(|| nearest(&name.value.replace('_', "-"), &names)) {
                    text.push_str(&format!("; did you mean `{similar}`?"));
                }
                (text, Some(format!("those that steps can have are {}", names.join(", "))))
            }
        };
        let problem = self.problems.add(Code::Capability, &name.span, text);
        if let Some(hint) = hint {
            problem.hint(hint);
        }
        None
    }
}
