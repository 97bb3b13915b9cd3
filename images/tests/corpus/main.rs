//! Every rule about archives, with archives that keep it and archives that break it.
//!
//! The tables are in the files beside this one; `case.rs` explains their lines. All of them are unpacked by root, by an
//! ordinary user, and inside user namespaces of many ids and of one, as the runner does it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod case;
mod check;
mod compression;
#[path = "../support/elsewhere.rs"]
mod elsewhere;
mod entries;
mod format;
mod layers;
mod links;
#[path = "../support/memory.rs"]
mod memory;
mod names;
mod sparse;
#[path = "../support/mod.rs"]
mod support;

use fixtures::tarballs::{Header, Tarball};
use fixtures::{User, require};
use images::Ownership;

use case::Rule;
use elsewhere::{Elsewhere, role};

/// Archives that the tables hold at least: fewer means that a table was lost.
const CASES_MIN: usize = 120;

fn tar() -> Tarball {
    Tarball::new()
}

/// A header with some fields changed.
fn header(kind: u8, name: &str, change: impl FnOnce(&mut Header)) -> Header {
    let mut header = Header::new(kind, name);
    change(&mut header);
    header
}

/// A header with some bytes overwritten.
fn patched(kind: u8, name: &str, patches: &[(usize, &[u8])]) -> Header {
    header(kind, name, |header| {
        header.patches = patches.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect();
    })
}

fn rules() -> Vec<Rule> {
    [
        names::rules(),
        links::rules(),
        entries::rules(),
        format::rules(),
        sparse::rules(),
        compression::rules(),
        layers::rules(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_rule_has_good_and_bad_archives() {
    let mut names = std::collections::HashSet::new();
    let mut cases = 0;
    for rule in rules() {
        assert!(rule.cases.iter().any(|case| case.is_good()), "{}: no good one", rule.says);
        assert!(rule.cases.iter().any(|case| !case.is_good()), "{}: no bad one", rule.says);
        for case in &rule.cases {
            assert!(names.insert((rule.says, case.name)), "{}: {} twice", rule.says, case.name);
            cases += 1;
        }
    }
    assert!(cases >= CASES_MIN, "{cases} archives");
}

/// Unpacks every archive with this ownership, in this process.
fn unpack_all(ownership: Ownership) {
    let mut failed = Vec::new();
    for rule in rules() {
        for case in &rule.cases {
            if let Err(error) = check::run(case, ownership) {
                failed.push(format!("{}: {}: {error}", rule.says, case.name));
            }
        }
    }
    assert!(failed.is_empty(), "{} archives:\n{}", failed.len(), failed.join("\n"));
}

/// Root keeps all owners. The other tests run this one as somebody else, whose ownership is its role.
#[test]
fn as_it_is() {
    unpack_all(role().unwrap_or_else(own));
}

/// What a user asks for who has these rights and no others.
fn own() -> Ownership {
    if rustix::process::geteuid().is_root() { Ownership::Keep } else { Ownership::Caller }
}

#[test]
fn under_a_closed_umask() {
    Elsewhere::closed_umask().run("as_it_is", own());
}

#[test]
fn as_an_ordinary_user() {
    require!(Root);
    Elsewhere::ordinary(User::OneId).run("as_it_is", Ownership::Caller);
}

#[test]
fn in_a_user_namespace_with_one_id() {
    require!(UserNamespaces, Program("unshare"));
    Elsewhere::in_namespace(User::OneId).run("as_it_is", Ownership::Caller);
}

#[test]
fn in_a_user_namespace_with_subids() {
    require!(UserNamespaces, Newuidmap, Program("unshare"));
    Elsewhere::in_namespace(User::WithSubids).run("as_it_is", Ownership::Mapped);
}
