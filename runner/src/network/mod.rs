//! A job's way to the world: one interface, a gate behind it, and a worker process that lets connections through.
//!
//! The job's network namespace and the gate's are joined by nothing but the worker, which reads packets from one tun
//! device and writes them to the other with other addresses: the kernel is the TCP peer on both sides. `link` is the
//! stage's part, `worker` the process, `control` how keeper and worker talk. Who may go where is `policy`'s.
//! Nothing of the host is changed: no forwarding, no firewall rule, no program. docs/network.md says what users see.

mod address;
mod answer;
mod bucket;
mod checksum;
pub mod control;
mod dns;
mod filter;
pub mod ledger;
pub mod link;
mod netlink;
mod packet;
pub mod policy;
pub mod reach;
mod sniff;
pub mod worker;

pub use address::{Addresses, resolvers};
pub use control::Settings;
pub use filter::{WorkerFilterError, filter};
pub use policy::{Policy, Rule, Target};
