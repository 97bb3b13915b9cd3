//! The walls of `sandbox`, with the runner started by an ordinary user: with subordinate ids, and with one id.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;
mod lab;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use common::{assert_user, assert_walls, from_a_leaky_caller, outside, told};
use fixtures::{Leftovers, User, require};
use lab::Lab;
use serde_json::json;

/// Root inside is the caller, or another user is: the same walls.
fn walls(user: User, uid: u32) {
    let before = Leftovers::now();
    let lab = Lab::new(user);
    let tries = common::TRIES.replace('\n', "\n      ");
    lab.write(&format!(
        "user: \"{uid}\"\n\
        steps:\n\
        \x20 - {{run: [/opt/probe, facts]}}\n\
        \x20 - run: |\n\x20     {tries}\n\
        \x20 - echo kept > kept; echo gone > /tmp/gone\n\
        \x20 - {{run: 'test \"$(cat ../kept)\" = kept; test ! -e /tmp/gone; touch made', workdir: sub}}\n"
    ));
    let mut command = from_a_leaky_caller(&lab.context.command(&["exec", "job.yml"]));
    let run = lab.finished(lab.context.finish(&mut command).expect_code(0));
    let facts = told(&run.text(0));
    assert_walls(&facts, &outside());
    assert_user(&facts, uid, uid == 0 || user == User::OneId);
    let map = facts["id_maps"]["uid_map"].as_str().unwrap();
    let ids: u64 =
        map.lines().map(|line| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(ids, if user == User::OneId { 1 } else { 65_536 }, "{map}");
    let denied = if user == User::OneId { "deny" } else { "allow" };
    assert_eq!(facts["id_maps"]["setgroups"], denied);
    let kept = fs::metadata(lab.context.work().join("kept")).unwrap();
    let owner = fs::metadata(lab.context.work()).unwrap();
    assert_eq!((kept.uid(), kept.gid()), (owner.uid(), owner.gid()), "the workspace is the caller's");
    before.assert_nothing_new();
}

#[test]
fn with_subids_root_inside_is_walled_in() {
    require!(UserNamespaces, Newuidmap, Busybox);
    walls(User::WithSubids, 0);
}

#[test]
fn with_subids_a_user_inside_is_walled_in() {
    require!(UserNamespaces, Newuidmap, Busybox);
    walls(User::WithSubids, 1000);
}

#[test]
fn with_one_id_root_inside_is_walled_in() {
    // Only root can become a user without subordinate ids.
    require!(Root, UserNamespaces, Busybox);
    walls(User::OneId, 0);
}

#[test]
fn with_one_id_a_user_inside_is_walled_in() {
    // Only root can become a user without subordinate ids.
    require!(Root, UserNamespaces, Busybox);
    walls(User::OneId, 1000);
}

/// With subordinate ids a step may give files away; they come back. With one id there is nobody to give them to.
#[test]
fn the_workspace_stays_the_callers() {
    require!(UserNamespaces, Newuidmap, Busybox);
    let before = Leftovers::now();
    let users = [(User::WithSubids, "chown 33:33"), (User::OneId, "! chown 33:33")];
    // Only root can become a user without subordinate ids.
    let users = if rustix::process::geteuid().is_root() { &users[..] } else { &users[..1] };
    for &(user, gives) in users {
        let lab = Lab::new(user);
        lab.exec(
            &format!(
                "steps:\n\
                \x20 - mkdir -p made/deep; echo text > made/deep/file; echo text > made/given\n\
                \x20 - '{gives} made/given'\n\
                \x20 - '{gives} made/deep'\n\
                \x20 - cp /bin/busybox made/set-id; chmod 6755 made/set-id\n"
            ),
            0,
        );
        let owner = fs::metadata(lab.context.work()).unwrap();
        for name in ["made", "made/deep", "made/deep/file", "made/given", "made/set-id"] {
            let found = fs::metadata(lab.context.work().join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (owner.uid(), owner.gid()), "{user:?}: {name}");
            assert!(!found.is_file() || found.mode() & 0o6000 == 0, "{user:?}: {name} is set-id");
        }
    }
    before.assert_nothing_new();
}

/// The pair of the loopback-only network.
#[test]
fn the_hosts_network_is_there_when_asked_for() {
    require!(UserNamespaces, Newuidmap, Busybox);
    let host = outside();
    for user in [User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        lab.write("steps:\n  - {run: [/opt/probe, facts, network, namespaces, masks, writable]}\n");
        let ran = lab.context.run(&["exec", "--network", "host", "job.yml"]).expect_code(0);
        let facts = told(&lab.finished(ran).text(0));
        assert_eq!(facts["network"]["interfaces"], host["network"]["interfaces"], "{user:?}");
        assert_eq!(facts["namespaces"]["net"], host["namespaces"]["net"], "{user:?}");
        assert_ne!(facts["namespaces"]["mnt"], host["namespaces"]["mnt"], "{user:?}");
        // /sys is then the host's, and shows as little.
        for (path, state) in facts["masks"].as_object().unwrap() {
            assert!(["absent", "null", "empty"].iter().any(|shut| state == shut), "{user:?} {path}: {state}");
        }
        assert_eq!(facts["writable"]["/sys"], json!({"errno": "EROFS"}), "{user:?}");
    }
}
