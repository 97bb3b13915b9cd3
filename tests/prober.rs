//! What the prober finds in a step: nothing critical, nothing high, everything an honest build needs; and the little
//! that remains is named here with its reason. Beside it, what the prober says of other sandboxes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::path::Path;
use std::process::Command;

use fixtures::{Leftovers, User, busybox, prober, require};
use lab::{Lab, Run};
use serde_json::{Value, json};

/// What may fail in a step, and why that is accepted. Nothing here is worse than medium.
const ACCEPTED: &[(&str, &str)] = &[
    ("mounts.paths", "a bind mount tells its source; whoever wrote the job file chose it"),
    ("leaks.disks", "names and sizes of disks, which `df` and `lsblk` of other sandboxes show too"),
    ("leaks.disk-load", "counters of disks: programs that measure themselves read them and fail without"),
    ("leaks.swaps", "size and use of swap, as `free` shows them"),
    ("leaks.modules", "names of drivers; their addresses are hidden from whoever is not the host's root"),
    (
        "limits.oom-score",
        "only a runner with CAP_SYS_RESOURCE can set a floor; the step's memory limit holds either way",
    ),
];

/// A lab with the prober in its workspace.
fn lab(user: User) -> Lab {
    let lab = Lab::new(user);
    let program = lab.context.write("prober", "");
    fs::copy(prober(), &program).unwrap();
    lab
}

/// What the prober said in the run's first step.
#[track_caller]
fn said(run: &Run) -> Value {
    let text = run.text(0);
    let parsed = serde_json::from_str(&text);
    assert!(parsed.is_ok(), "not what the prober says: {text}\n{}", run.ran.stderr_text());
    parsed.unwrap()
}

/// What the prober says of a job's first step, which fails by what is accepted.
#[track_caller]
fn judged(user: User, job: &str) -> Value {
    let before = Leftovers::now();
    let said = said(&lab(user).exec(job, 1));
    before.assert_nothing_new();
    said
}

/// Checks with this verdict.
fn with_verdict<'v>(said: &'v Value, verdict: &str) -> Vec<&'v Value> {
    said["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == verdict).collect()
}

#[track_caller]
fn assert_walled_in(said: &Value) {
    let checks = said["checks"].as_array().unwrap();
    assert!(checks.len() >= 150, "{} checks", checks.len());
    let failed = with_verdict(said, "fail");
    let bad: Vec<_> = failed
        .iter()
        .filter(|check| {
            ["critical", "high", "must-work"].iter().any(|severity| check["severity"] == *severity)
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let unknown: Vec<_> =
        failed.iter().filter(|check| !ACCEPTED.iter().any(|(id, _)| check["id"] == *id)).collect();
    assert!(unknown.is_empty(), "nobody accepted {unknown:#?}");
    // A check that looks at nothing would pass as well: this one must see the workspace.
    assert!(failed.iter().any(|check| check["id"] == "mounts.paths"), "{said:#}");
}

fn step(user: u32) -> String {
    format!("steps:\n  - {{run: [/workspace/prober, --json], user: \"{user}\"}}\n")
}

#[test]
fn root_starts_the_runner_and_is_root_inside() {
    require!(Root, Cgroups, Busybox);
    assert_walled_in(&judged(User::Current, &step(0)));
}

#[test]
fn root_starts_the_runner_and_a_user_is_inside() {
    require!(Root, Cgroups, Busybox);
    assert_walled_in(&judged(User::Current, &step(1000)));
}

#[test]
fn limits_open_nothing() {
    require!(Root, Cgroups, Busybox);
    let limits = "limits: {cpus: 1, memory: 256MiB, pids: 512}\n";
    assert_walled_in(&judged(User::Current, &(limits.to_owned() + &step(0))));
}

#[test]
fn a_user_with_subids_starts_the_runner() {
    require!(UserNamespaces, Newuidmap, Busybox);
    for user in [0, 1000] {
        assert_walled_in(&judged(User::WithSubids, &step(user)));
    }
}

#[test]
fn a_user_with_one_id_starts_the_runner() {
    // Only root can become a user without subordinate ids.
    require!(Root, UserNamespaces, Busybox);
    for user in [0, 1000] {
        assert_walled_in(&judged(User::OneId, &step(user)));
    }
}

/// The pair: the prober says so where a wall is taken away on purpose, and only of that wall.
#[test]
fn the_hosts_network_is_found() {
    require!(Root, Cgroups, Busybox);
    let lab = lab(User::Current);
    lab.write(&step(0));
    let said = said(&lab.finished(lab.context.run(&["exec", "--network", "host", "job.yml"]).expect_code(1)));
    let failed = with_verdict(&said, "fail");
    // A machine with nothing but `lo` cannot be told from a sandbox by its interfaces.
    let connected = std::fs::read_dir("/sys/class/net").unwrap().count() > 1;
    assert!(!connected || failed.iter().any(|check| check["id"] == "namespaces.net"), "{failed:#?}");
    // What the host's network shows depends on the machine; what works there, on its settings.
    let groups = ["network", "leaks", "loopback", "sockets"];
    let other: Vec<_> = failed
        .iter()
        .filter(|check| {
            check["id"] != "namespaces.net" && !groups.iter().any(|group| check["group"] == *group)
        })
        .filter(|check| !ACCEPTED.iter().any(|(id, _)| check["id"] == *id))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
}

/// What a step that may make sandboxes has besides, and nothing else worse than low: its words are for whoever is trusted.
const NESTED: &[(&str, &str)] = &[
    ("namespaces.unshare-user", "this is what it is for"),
    ("namespaces.clone-user", "the same"),
    ("namespaces.clone3-user", "the same"),
    ("capabilities.setfcap", "without it the kernel lets nobody map root into a namespace"),
    ("files.capability-xattr", "what that capability does; root's files are kept out of reach (E242)"),
    ("cgroup.writable", "its own cgroup, to divide; the limits stand above it"),
    ("proc.sysctls", "kernel.pid_max is of its own pid namespace since Linux 6.14"),
    ("proc.keys", "nothing of /proc is covered; it lists the step's own keys"),
    ("calls.keyctl", "runtimes give each container a keyring"),
    ("dev.tun", "the networks of runners inside; only where everybody on the machine may open it"),
];

#[test]
fn sandboxes_inside_open_what_is_known_and_no_more() {
    require!(Root, Cgroups, Busybox);
    let job = format!("workspace: copy\nprivileges: nested\n{}", step(0));
    let lab = lab(User::Current);
    lab.write(&job);
    let said = said(&lab.finished(lab.context.run(&["exec", "job.yml"]).expect_code(1)));
    let failed = with_verdict(&said, "fail");
    assert!(failed.iter().any(|check| check["id"] == "namespaces.unshare-user"), "{said:#}");
    let bad: Vec<_> = failed
        .iter()
        .filter(|check| check["severity"] != "low" && !NESTED.iter().any(|(id, _)| check["id"] == *id))
        .collect();
    assert!(bad.is_empty(), "nobody accepted {bad:#?}");
}

/// A root filesystem and the prober, for other programs.
fn bundle() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let rootfs = place.path().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    busybox::write_to(&rootfs);
    fs::copy(prober(), rootfs.join("prober")).unwrap();
    place
}

/// Prints the score of another sandbox, in which the prober must find something.
#[track_caller]
fn show(name: &str, command: &mut Command) {
    let ran = command.output().unwrap();
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(
        |error| json!({"error": error.to_string(), "stderr": String::from_utf8_lossy(&ran.stderr)}),
    );
    let failed = said["checks"].as_array().map_or(0, |_| with_verdict(&said, "fail").len());
    assert!(failed > ACCEPTED.len(), "{name}: {said:#}");
    use std::io::Write as _;
    let _unheard = writeln!(std::io::stderr(), "{name}: {}", said["score"].as_str().unwrap());
}

#[test]
fn without_a_sandbox_doors_are_open() {
    require!(Root);
    show("host", Command::new(prober()).arg("--json"));
}

#[test]
fn the_score_of_bubblewrap() {
    require!(Root, Program("bwrap"), Busybox);
    let place = bundle();
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]);
    command.arg("--bind").arg(place.path().join("rootfs")).args(["/", "--proc", "/proc", "--dev", "/dev"]);
    command.args(["--tmpfs", "/tmp", "--chdir", "/tmp", "--", "/prober", "--json"]);
    show("bubblewrap", &mut command);
}

/// `runc spec` as it comes, with our command and a root that can be written.
#[test]
fn the_score_of_runc() {
    require!(Root, Cgroups, Program("runc"), Busybox);
    let place = bundle();
    let made = Command::new("runc").arg("spec").current_dir(place.path()).status().unwrap();
    assert!(made.success());
    let path = place.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["args"] = json!(["/prober", "--json"]);
    config["process"]["terminal"] = json!(false);
    config["root"]["readonly"] = json!(false);
    fs::write(&path, config.to_string()).unwrap();
    let name = format!("prober-{}", std::process::id());
    let mut command = Command::new("runc");
    command.arg("--root").arg(place.path().join("state")).args(["run", &name]).current_dir(place.path());
    show("runc", &mut command);
    assert!(!Path::new("/sys/fs/cgroup/pids").join(&name).exists());
}
