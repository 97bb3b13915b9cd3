//! The mounts.

use std::collections::HashMap;

use super::Checker;
use crate::codes::Code;
use crate::file::MountField;
use crate::mount::{Mount, MountError};
use crate::render::quote;
use crate::source::Span;

impl Checker<'_> {
    pub(super) fn mounts(&mut self, fields: Vec<MountField>) -> Vec<Mount> {
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut mounts = Vec::with_capacity(fields.len());
        for field in fields {
            let (result, host_span, path_span) = match field {
                MountField::Short(text) => (text.value.parse::<Mount>(), text.span.clone(), text.span),
                MountField::Long { host, path, read_only } => {
                    (Mount::new(&host.value, &path.value, read_only), host.span, path.span)
                }
            };
            match result {
                Ok(mount) => {
                    if let Some(first) = seen.get(&mount.path) {
                        let text = format!("two mounts have the path {} inside", quote(&mount.path));
                        self.problems.add(Code::DuplicateMount, path_span, text).refer_to(first);
                        continue;
                    }
                    seen.insert(mount.path.clone(), path_span);
                    mounts.push(mount);
                }
                Err(error) => self.mount_fault(&error, host_span, path_span),
            }
        }
        mounts
    }

    fn mount_fault(&mut self, error: &MountError, host: Span, path: Span) {
        let (code, span) = match error.is_about_inside() {
            true => (Code::MountPath, path),
            false => (Code::Mount, host),
        };
        let hint = match error {
            MountError::Tilde => Some("write the whole path"),
            MountError::Shape => Some("a host path with a colon in it is given as {host: ..., path: ...}"),
            MountError::Mode
            | MountError::NoHost
            | MountError::Long
            | MountError::Relative
            | MountError::Root
            | MountError::Parent
            | MountError::Kernel => None,
        };
        let problem = self.problems.add(code, span, format!("this mount is not accepted: {error}"));
        if let Some(hint) = hint {
            problem.hint(hint);
        }
    }
}
