//! `seccomp`, `privileges`, `--untrusted`: each word opens or closes its own doors, and no others. In pairs, from inside.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fixtures::{Leftovers, Ran, TestContext, User, busybox, require};
use lab::{Lab, Run};
use serde_json::{Value, json};

/// One at a time, where tests are threads of one process: on a slow machine another's processes would count as left behind.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the probe printed as JSON.
#[track_caller]
fn told(run: &Run, index: usize) -> Value {
    let value = serde_json::from_slice(&run.log(index));
    assert!(value.is_ok(), "{value:?}: {}", run.text(index));
    value.unwrap()
}

/// Lets everything through but one call, and names one that no kernel has.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["memfd_create", "frobnicate"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
    {"names": ["sysinfo"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "includes": {"caps": ["CAP_SYS_CHROOT"]}}]}"#;

const WORDS: [&str; 7] = [
    "seccomp: default",
    "seccomp: strict",
    "seccomp: \"off\"",
    "seccomp: ./profile.json",
    "privileges: [CAP_SYS_CHROOT, CAP_SYS_NICE]",
    "privileges: nested",
    "seccomp: \"off\", privileges: nested",
];

/// What calls answer with each of the words. Where the filter lets one through, its arguments make the kernel's answer.
const ANSWERS: &[(&str, [&str; 7])] = &[
    ("getpid", ["ok"; 7]),
    ("ptrace_traceme", ["ok", "EPERM", "ok", "ok", "ok", "ok", "ok"]),
    ("socket_netlink_route", ["ok", "EAFNOSUPPORT", "ok", "ok", "ok", "ok", "ok"]),
    ("personality_no_randomize", ["ok", "EPERM", "ok", "ok", "ok", "ok", "ok"]),
    ("memfd_create", ["ok", "ok", "ok", "ENOSPC", "ok", "ok", "ok"]),
    ("chroot", ["EPERM", "EPERM", "EFAULT", "EFAULT", "EFAULT", "EFAULT", "EFAULT"]),
    ("mount", ["EPERM", "EPERM", "EFAULT", "EFAULT", "EPERM", "EFAULT", "EFAULT"]),
    ("keyctl", ["EPERM", "EPERM", "ok", "ok", "EPERM", "ok", "ok"]),
    ("unshare_user", ["EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "ok", "ok"]),
    ("clone_user", ["EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "ok", "ok"]),
    ("clone3", ["ENOSYS", "ENOSYS", "ENOSYS", "ENOSYS", "ENOSYS", "EINVAL", "EINVAL"]),
    ("ioctl_tiocsti", ["EPERM"; 7]),
    ("ioctl_tiocsti_high_bits", ["EPERM"; 7]),
    ("unknown_number", ["ENOSYS"; 7]),
];

/// Whoever starts the runner: a step's filter is its own.
fn doors(user: User) {
    let _turn = alone();
    let before = Leftovers::now();
    let lab = Lab::new(user);
    lab.context.write("profile.json", PROFILE);
    let step = |word: &&str| format!("  - {{run: [/opt/probe, facts, syscalls], {word}}}\n");
    let steps: String = WORDS.iter().map(step).collect();
    let run = lab.exec(&format!("workspace: copy\nsteps:\n{steps}"), 0);
    for (index, word) in WORDS.iter().enumerate() {
        let calls = &told(&run, index)["syscalls"];
        for (call, answers) in ANSWERS {
            // A machine with userspace keyrings of its own answers otherwise; what counts is the filter.
            assert_eq!(calls[call], answers[index], "{call} with {word}, {user:?}");
        }
        // 32-bit programs pass no filter of ours, so they do not run.
        #[cfg(target_arch = "x86_64")]
        assert_eq!(calls["i386_getpid"], json!({"killed": 31}), "{word}");
    }
    assert_eq!(run.step(0).get("rights"), None, "what every step has is not told");
    assert_eq!(run.step(1)["rights"], json!({"seccomp": "strict", "privileges": []}));
    assert_eq!(run.step(3)["rights"]["seccomp"], "./profile.json");
    assert_eq!(run.step(4)["rights"]["privileges"], json!(["CAP_SYS_CHROOT", "CAP_SYS_NICE"]));
    assert_eq!(run.step(6)["rights"], json!({"seccomp": "off", "privileges": ["nested"]}));
    let said = run.ran.stdout_text();
    assert!(said.contains("W441") && said.contains("frobnicate"), "{said}");
    before.assert_nothing_new();
}

#[test]
fn as_root_each_word_opens_and_closes_its_own_doors() {
    require!(Root, Cgroups, Busybox);
    doors(User::Current);
}

#[test]
fn with_subids_each_word_opens_and_closes_its_own_doors() {
    require!(UserNamespaces, Newuidmap, Busybox);
    doors(User::WithSubids);
}

#[test]
fn with_one_id_each_word_opens_and_closes_its_own_doors() {
    // Only root can become a user without subordinate ids.
    require!(Root, UserNamespaces, Busybox);
    doors(User::OneId);
}

#[test]
fn capabilities_are_those_that_are_named() {
    require!(Root, Cgroups, Busybox);
    let _turn = alone();
    let lab = Lab::new(User::Current);
    let show = "grep -h ^Cap /proc/self/status | tr -d \"\\n\"; echo; chroot / true";
    let run = lab.exec(
        &format!(
            "continue-on-error: true\nsteps:\n\
            \x20 - {{run: '{show}', user: \"0\", continue-on-error: true}}\n\
            \x20 - {{run: '{show}', user: \"0\", privileges: [CAP_SYS_CHROOT]}}\n\
            \x20 - {{run: '{show}', user: \"1000\", continue-on-error: true}}\n\
            \x20 - {{run: '{show}', user: \"1000\", privileges: [CAP_SYS_CHROOT]}}\n"
        ),
        0,
    );
    // Inheritable, permitted, effective, bounding, ambient.
    let sets = |index: usize| {
        let text = run.text(index);
        // What `chroot` says may stand before it: the streams are two.
        let line = text.lines().find(|line| line.starts_with("CapInh")).unwrap().replace("Cap", " ");
        let numbers = line.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok());
        numbers.collect::<Vec<_>>()
    };
    const ROOT: u64 = 0x5fb;
    const CHROOT: u64 = 1 << 18;
    assert_eq!(sets(0), [0, ROOT, ROOT, ROOT, 0], "{}", run.text(0));
    assert_eq!(sets(1), [0, ROOT | CHROOT, ROOT | CHROOT, ROOT | CHROOT, 0]);
    assert_eq!(sets(2), [0; 5]);
    assert_eq!(sets(3), [CHROOT; 5]);
    let outcomes: Vec<&str> = (0..4).map(|index| run.step(index)["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failure", "success", "failure", "success"]);
}

/// Shows the runner itself inside, as a step of the machine or of another step finds it.
const OUTER: &str = concat!("mounts: ['", env!("CARGO_BIN_EXE_runner"), ":/opt/runner']\n");
const INNER: &str = "mounts: ['/opt/runner:/opt/runner']\n";

const INNERMOST: &str =
    "image: host\nnetwork: none\nsteps: ['test $$ -lt 10 && touch made && echo innermost']\n";

/// The runner in a step of the runner in a step of the runner.
fn nested(user: User) {
    let _turn = alone();
    let before = Leftovers::now();
    let context = TestContext::with_user(env!("CARGO_BIN_EXE_runner"), user);
    context.write("innermost.yml", INNERMOST);
    context.write(
        "middle.yml",
        INNER.to_owned()
            + "image: host\nnetwork: none\nworkspace: copy\n\
        steps:\n\
        \x20 - {run: '/opt/runner exec innermost.yml', privileges: nested}\n\
        \x20 - 'test -e /proc/acpi && ! ls /proc/acpi/* 2>/dev/null; ls /sys/module | wc -l; cat /proc/self/uid_map'\n",
    );
    context.write(
        "job.yml",
        OUTER.to_owned()
            + "image: host\nnetwork: none\nworkspace: copy\n\
        steps:\n\
        \x20 - {run: '/opt/runner doctor; /opt/runner exec middle.yml', privileges: nested}\n",
    );
    let ran = context.run(&["exec", "job.yml"]).expect_code(0);
    let said = ran.stdout_text();
    assert!(said.contains("innermost\n"), "{said}");
    assert!(said.contains("this is a step of the runner"), "{said}");
    assert!(said.contains("jobs can run on this machine"), "{said}");
    before.assert_nothing_new();
}

#[test]
fn a_step_of_root_runs_the_runner() {
    require!(Root, Cgroups, Program("sh"));
    nested(User::Current);
}

#[test]
fn a_step_with_subids_runs_the_runner() {
    require!(UserNamespaces, Newuidmap, Program("sh"));
    nested(User::WithSubids);
}

#[test]
fn a_step_with_one_id_runs_the_runner() {
    require!(Root, UserNamespaces, Program("sh"));
    nested(User::OneId);
}

/// With cgroup v2 a step divides what it has, below its own limits, and cannot raise them.
#[test]
fn a_step_divides_its_cgroup() {
    require!(Cgroups, CgroupV2, Program("sh"));
    let _turn = alone();
    let before = Leftovers::now();
    let context = TestContext::with_user(env!("CARGO_BIN_EXE_runner"), User::Current);
    context.write(
        "middle.yml",
        "image: host\nnetwork: none\nworkspace: copy\nlimits: {pids: 20, memory: 64M}\nsteps:\n\
        \x20 - 'cat /proc/self/cgroup; i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i + 1)); done; wait'\n",
    );
    context.write(
        "job.yml",
        OUTER.to_owned()
            + "image: host\nnetwork: none\nworkspace: copy\nlimits: {pids: 200}\nsteps:\n\
        \x20 - {id: inner, run: '! echo max > /sys/fs/cgroup/pids.max; /opt/runner exec middle.yml', privileges: nested, expect-exit: 5}\n",
    );
    let said = context.run(&["exec", "job.yml"]).expect_code(0).stdout_text();
    assert!(said.contains("process limit of 20 met"), "{said}");
    before.assert_nothing_new();
}

/// A script in a step that may make sandboxes, beside a busybox root filesystem.
fn with_rootfs(script: &str) {
    let _turn = alone();
    let before = Leftovers::now();
    let context = TestContext::with_user(env!("CARGO_BIN_EXE_runner"), User::Current);
    let rootfs = context.work().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    busybox::write_to(&rootfs);
    let header =
        "image: host\nnetwork: none\nworkspace: copy\nprivileges: nested\nsteps:\n  - |\n    set -e\n";
    let prepare = "    mkdir -p /etc/containers /tmp/run\n\
        \x20   echo '{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}' > /etc/containers/policy.json\n\
        \x20   export HOME=$RUNNER_HOME XDG_RUNTIME_DIR=/tmp/run\n";
    context.write("job.yml", format!("{header}{prepare}    {script}\n"));
    let said = context.run(&["exec", "job.yml"]).expect_code(0).stdout_text();
    assert!(said.contains("| busybox inside"), "{said}");
    before.assert_nothing_new();
}

const GREETING: &str = "sh -c 'test $(id -u) = 0 && . /etc/os-release && echo $NAME inside'";

#[test]
fn bubblewrap_works_inside() {
    require!(Root, Cgroups, Busybox, Program("bwrap"));
    with_rootfs(&format!(
        "bwrap --unshare-all --uid 0 --gid 0 --bind rootfs / --proc /proc --dev /dev {GREETING}"
    ));
}

#[test]
fn podman_works_inside() {
    require!(Root, Cgroups, Busybox, Program("podman"));
    let place = "--root $HOME/storage --runroot /tmp/storage --storage-driver vfs";
    with_rootfs(&format!(
        "cp -a rootfs $HOME; podman {place} run --cgroups=disabled --network none --rootfs $HOME/rootfs {GREETING}"
    ));
}

#[test]
fn buildah_works_inside() {
    require!(Root, Cgroups, Busybox, Program("buildah"));
    let buildah = "buildah --root $HOME/storage --runroot /tmp/storage --storage-driver vfs";
    with_rootfs(&format!(
        "made=$({buildah} from scratch); {buildah} copy -q $made rootfs /; \
         {buildah} run --isolation chroot $made {GREETING}; {buildah} commit -q $made image"
    ));
}

/// The pair: without the word, the runner inside is told why it cannot.
#[test]
fn without_the_word_there_is_no_sandbox_inside() {
    require!(Root, Cgroups, Program("sh"));
    let _turn = alone();
    let context = TestContext::with_user(env!("CARGO_BIN_EXE_runner"), User::Current);
    context.write("innermost.yml", INNERMOST);
    context.write(
        "job.yml",
        OUTER.to_owned()
            + "image: host\nnetwork: none\nworkspace: copy\nsteps: ['RUNNER_HOME=/tmp/home /opt/runner exec innermost.yml']\n",
    );
    let ran = context.run(&["exec", "job.yml"]).expect_code(1);
    let said = ran.stdout_text();
    assert!(said.contains("cannot fork the zygote") && said.contains("privileges: nested"), "{said}");
}

/// `nested` shows its own /proc and /sys whole, or the kernel would grant no sandbox inside one; without, covers lie there.
#[test]
fn covers_lie_where_no_sandbox_is_to_be_made() {
    require!(Root, Cgroups, Busybox);
    let _turn = alone();
    let lab = Lab::new(User::Current);
    let count = "grep -c \" /proc/\" /proc/mounts; ls /sys/module | wc -l; echo 1 2>/dev/null > /proc/sys/vm/drop_caches";
    let run = lab.exec(
        &format!(
            "workspace: copy\nshell: [sh, \"{{0}}\"]\nsteps:\n\
            \x20 - {{run: '{count}', continue-on-error: true}}\n\
            \x20 - {{run: '{count}', privileges: nested, continue-on-error: true}}\n"
        ),
        0,
    );
    let numbers = |index: usize| {
        let text = run.text(index);
        text.lines().filter_map(|line| line.parse::<u32>().ok()).collect::<Vec<_>>()
    };
    let [plain, nested] = [numbers(0), numbers(1)];
    assert!(plain[0] > 5 && plain[1] == 0, "{plain:?}");
    assert!(nested[0] == 0 && nested[1] > 0, "{nested:?}");
    // What is the machine's stays so, covered or not.
    assert_eq!([0, 1].map(|index| run.step(index)["exit_code"].clone()), [json!(1), json!(1)]);
}

#[track_caller]
fn refused(ran: Ran, words: &[&str]) {
    let said = ran.expect_code(2).stderr_text();
    for word in words {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
}

#[test]
fn roots_files_and_sandboxes_inside_do_not_go_together() {
    require!(Root, Cgroups, Busybox);
    let _turn = alone();
    let lab = Lab::new(User::Current);
    let step = "steps: [{id: inner, run: 'touch made', privileges: nested}]\n";
    lab.write(step);
    refused(lab.context.run(&["exec", "job.yml"]), &["error[E242]", "step `inner`", "workspace: copy"]);
    assert!(!lab.context.work().join("made").exists());
    fs::create_dir(lab.context.work().join("shared")).unwrap();
    let job = format!(
        "image: ./rootfs.tar\nnetwork: none\nworkspace: copy\nmounts: ['./shared:/shared:rw']\n{step}"
    );
    lab.context.write("job.yml", job);
    refused(lab.context.run(&["exec", "job.yml"]), &["error[E242]", "shared"]);
    lab.exec(&format!("workspace: copy\n{step}"), 0);
}

#[test]
fn a_profile_that_is_wrong_is_told_with_its_place() {
    require!(Root, Cgroups, Busybox);
    let _turn = alone();
    let lab = Lab::new(User::Current);
    lab.write("seccomp: ./profile.json\nsteps: [touch made]\n");
    refused(
        lab.context.run(&["exec", "job.yml"]),
        &["error[E244]", "profile.json cannot be read: No such file"],
    );
    lab.context.write("profile.json", "{\"defaultAction\":\n\"SCMP_ACT_NOTHING\"}");
    refused(
        lab.context.run(&["exec", "job.yml"]),
        &[
            "error[E244]",
            "profile.json:2:18: unknown variant `SCMP_ACT_NOTHING`",
            "hint: a profile has the form",
        ],
    );
    assert!(!lab.context.work().join("made").exists());
    lab.context.write("profile.json", r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#);
    refused(lab.context.run(&["exec", "job.yml"]), &["error[E244]", "refuses `execve`"]);
}

/// The same file with and without anybody who vouches for it.
#[test]
fn what_nobody_vouches_for_leaves_nothing_and_looks_into_nothing() {
    require!(Root, Cgroups, Busybox);
    let _turn = alone();
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let job = "image: ./rootfs.tar\nnetwork: none\nsteps:\n  - 'touch made'\n  - {run: [/workspace/probe, facts, syscalls]}\n";
    lab.context.write("job.yml", job);
    let run = lab.finished(lab.context.run(&["exec", "--untrusted", "job.yml"]).expect_code(0));
    assert!(!lab.context.work().join("made").exists());
    let calls = &told(&run, 1)["syscalls"];
    assert_eq!([&calls["ptrace_traceme"], &calls["process_vm_readv"]], ["EPERM", "EPERM"]);
    assert_eq!(run.record["jobs"][0]["untrusted"], true);
    let run = lab.finished(lab.context.run(&["exec", "job.yml"]).expect_code(0));
    assert!(lab.context.work().join("made").exists());
    assert_eq!(told(&run, 1)["syscalls"]["ptrace_traceme"], "ok");
    assert_eq!(run.record["jobs"][0].get("untrusted"), None);
    // The header of other tests mounts the probe.
    lab.write("steps: ['true']\n");
    refused(lab.context.run(&["exec", "--untrusted", "job.yml"]), &["error[E248]", "`mounts`"]);
    lab.context.write("job.yml", job);
    let host = ["exec", "--untrusted", "--network", "host", "job.yml"];
    refused(lab.context.run(&host), &["command line: error[E248]"]);
    let ran = lab.context.run(&["run", "--untrusted", "./rootfs.tar", "--", "touch", "there"]).expect_code(0);
    assert!(!Path::new(&lab.context.work().join("there")).exists(), "{}", ran.stderr_text());
    before.assert_nothing_new();
}
