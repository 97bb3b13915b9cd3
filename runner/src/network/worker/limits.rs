//! What a job may make the worker hold. Each bound is on our memory, descriptors or time, not on the job's bytes.

use std::time::Duration;

/// Connections at once, with their two sockets each.
pub const FLOWS_MAX: usize = 1024;
/// Connections that wait for the world's answer. More are told to ask again: their first segment is dropped.
pub const CONNECTING_MAX: usize = 256;
/// Ended connections whose last packets still pass. The oldest makes room.
pub const CLOSED_MAX: usize = 8192;
/// Datagram conversations at once; the one that was silent longest makes room.
pub const ASSOCIATIONS_MAX: usize = 1024;
/// Questions to the resolver at once; further ones are dropped and asked again.
pub const QUERIES_MAX: usize = 256;
/// Descriptors for all of these: two and two pipes a flow, one an association or query, some of our own.
pub const DESCRIPTORS: u64 = 8192;

/// How long a connection may take to be accepted behind the gate: the kernel beside us does it.
pub const ACCEPT_PATIENCE: Duration = Duration::from_secs(15);
/// How long the world may take to answer a connection: a little longer than the kernel tries.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(150);
/// How long the last packets of a connection may take when both sides have said goodbye.
pub const GOODBYE: Duration = Duration::from_secs(2);
/// The same when one has not: its kernel still sends what was written before.
pub const SILENCE_CLOSED: Duration = Duration::from_secs(60);
/// How long a datagram conversation may be silent.
pub const SILENCE_UDP: Duration = Duration::from_secs(30);
/// How long the resolver may take.
pub const SILENCE_DNS: Duration = Duration::from_secs(10);
/// How often what has outlived its time is looked for.
pub const SWEEP: Duration = Duration::from_secs(1);
/// How long the last bytes of a job may take to leave when its steps are over.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// Bytes read from a connection at once: what a stalled one can make us keep, twice.
pub const READ_BYTES: usize = 64 << 10;
/// Bytes after which a direction is moved by the kernel alone, through a pipe.
pub const SPLICE_AFTER_BYTES: u64 = 256 << 10;
/// Room in such a pipe. Where the user's pipe memory is used up, it stays at the system's 64 KiB.
pub const PIPE_BYTES: usize = 512 << 10;
/// Connections that may have such pipes: within the 64 MiB of pipe memory of an ordinary user.
pub const SPLICED_MAX: usize = 64;
/// Bytes moved of one connection before the others have their turn.
pub const TURN_BYTES: u64 = 1 << 20;
/// Packets read from an interface before the connections have their turn.
pub const TURN_PACKETS: usize = 64;
/// Packets read at the end of a step: all that wait, since nobody makes new ones.
pub const SETTLE_PACKETS: usize = 1 << 16;
/// Datagrams read from a conversation at once.
pub const TURN_DATAGRAMS: usize = 32;
/// With a bandwidth cap: no fewer bytes at a time than this, or all that may be saved up.
pub const CAPPED_BYTES_MIN: u64 = 4 << 10;
