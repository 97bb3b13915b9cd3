//! The network: a word, or rules.

use super::Checker;
use crate::codes::Code;
use crate::file::{At, NetworkField};
use crate::network::{AllowedHost, HostFault, NetworkRules};
use crate::plan::Network;
use crate::render::quote;

/// What can be done about an entry that cannot be read.
const FORMS: &str =
    "an entry is a host or address, with a port or without: `example.org:443`, `*.example.org`";

/// The words.
#[derive(Clone, Copy)]
enum Word {
    Full,
    None,
    Services,
    Host,
}

impl Checker<'_> {
    pub(super) fn network(&mut self, field: At<NetworkField>, place: &str) -> Option<Network> {
        let span = field.span;
        match field.value {
            NetworkField::Word(value) => {
                let words = [
                    ("full", Word::Full),
                    ("none", Word::None),
                    ("services", Word::Services),
                    ("host", Word::Host),
                ];
                let word = At { value, span };
                Some(match self.choice(&word, "network", place, &words)? {
                    Word::Full => Network::Full,
                    Word::None => Network::None,
                    Word::Services => Network::Services,
                    Word::Host => Network::Host,
                })
            }
            NetworkField::Rules { allow, record } => {
                let allow = match allow {
                    Some(list) => Some(self.allowed(&list.value)?),
                    None => None,
                };
                let record = record.is_none_or(|record| record.value);
                Some(Network::Rules(NetworkRules { allow, record }))
            }
        }
    }

    /// Every entry is looked at, so that all faults are told at once.
    fn allowed(&mut self, list: &[At<String>]) -> Option<Vec<AllowedHost>> {
        let entries: Vec<Option<AllowedHost>> = list.iter().map(|entry| self.allowed_host(entry)).collect();
        entries.into_iter().collect()
    }

    fn allowed_host(&mut self, entry: &At<String>) -> Option<AllowedHost> {
        match AllowedHost::parse(&entry.value) {
            Ok(host) => Some(host),
            Err(fault) => {
                let text = format!("{} is not a host that can be allowed: {fault}", quote(&entry.value));
                let hint = match fault {
                    HostFault::Star => "write `*.example.org` for every name below example.org",
                    HostFault::Url | HostFault::Port | HostFault::Name => FORMS,
                };
                self.problems.add(Code::AllowedHost, &entry.span, text).hint(hint);
                None
            }
        }
    }
}
