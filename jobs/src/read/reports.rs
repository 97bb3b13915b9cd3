//! `reports`: what is understood, and where it lies.

use super::{Place, REPORT_KEYS, Reader};
use crate::bounds::PATTERNS_MAX;
use crate::file::ReportField;
use crate::plan::ReportKind;
use crate::yaml::{Entry, Node};

impl Reader<'_> {
    pub(super) fn reports(&mut self, node: &Node, place: &str) -> Vec<ReportField> {
        let Some(map) = self.map(node, "reports", place) else { return Vec::new() };
        let within = format!(" in `reports`{place}");
        self.known_keys(map, REPORT_KEYS, Place { within: &within, ignored_prefix: None });
        let mut reports = Vec::new();
        for Entry { key, value, .. } in map {
            let Some(kind) = ReportKind::ALL.into_iter().find(|kind| kind.as_str() == key) else { continue };
            if let Some(paths) = self.texts(value, key, "patterns", &within) {
                self.at_most(paths.value.len(), PATTERNS_MAX, "patterns", &paths.span);
                reports.push(ReportField { kind, paths });
            }
        }
        reports
    }
}
