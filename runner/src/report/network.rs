//! `runner exec --suggest-network`: the list that a run needed, as a job file takes it.

use std::collections::BTreeSet;

use super::sink::Sink;

/// Prints the `network` key for a job file.
pub fn suggestion(sink: &mut Sink, hosts: &BTreeSet<String>) {
    if hosts.is_empty() {
        sink.line("network: none");
    } else {
        sink.line("network:");
        sink.line("  allow:");
        hosts.iter().for_each(|host| sink.line(&format!("    - \"{host}\"")));
    }
    sink.flush();
}
