//! How the other tools are told to run one program in a fresh sandbox on the same root filesystem.

use crate::compare::{Contender, Measured};
use crate::lab::Lab;
use serde_json::json;
use std::fs;

/// Whoever can run `program` with a root filesystem; each turn is `count` runs, each after a pause.
pub fn all<'l>(
    lab: &'l Lab,
    count: usize,
    pause_ms: usize,
    program: &'static [&'static str],
) -> Vec<Contender<'l>> {
    write_bundle(lab, program);
    vec![
        Contender::new(
            "bubblewrap",
            "6 namespaces, bind root; no cgroup, no filter, no network but lo",
            move || lab.time(count, pause_ms, &words(&bubblewrap(lab), program)),
        ),
        Contender::new("nsjail", "7 namespaces, bind root, rlimits; no cgroup", move || {
            let root = lab.root.display().to_string();
            let fixed =
                ["nsjail", "--mode", "o", "--quiet", "--chroot", &root, "--rw", "--"].map(str::to_owned);
            lab.time(count, pause_ms, &words(&fixed, program))
        }),
        Contender::new("crun", "7 namespaces, cgroup, masks, filter", move || {
            runtime(lab, "crun", count, pause_ms)
        }),
        Contender::new("runc", "7 namespaces, cgroup, masks, filter", move || {
            runtime(lab, "runc", count, pause_ms)
        }),
        Contender::new("podman run", "crun with records, an overlay, conmon", move || {
            podman(lab, count.min(5), pause_ms, program)
        }),
    ]
}

/// The command line of a comparable sandbox.
fn bubblewrap(lab: &Lab) -> Vec<String> {
    let root = lab.root.display().to_string();
    let line = format!(
        "bwrap --unshare-all --unshare-user --uid 0 --gid 0 --hostname floor --new-session --die-with-parent --cap-drop ALL \
         --bind {root} / --proc /proc --dev /dev --tmpfs /tmp --clearenv --setenv PATH /usr/bin:/bin"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

fn words<'w>(fixed: &'w [String], program: &[&'w str]) -> Vec<&'w str> {
    fixed.iter().map(String::as_str).chain(program.iter().copied()).collect()
}

/// crun refuses a machine with both cgroup versions, so it sees it without the second: in a mount namespace of its own.
fn without_unified<'w>(command: &[&'w str]) -> Vec<&'w str> {
    const HIDE: &str = "umount -l /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    [&["unshare", "--mount", "--propagation", "private", "sh", "-c", HIDE, "sh"], command].concat()
}

/// The loop of C inside the mount namespace, so that making the namespace is not measured.
fn time_without_unified(lab: &Lab, count: usize, pause_ms: usize, command: &[&str]) -> Measured {
    let (floor, out) = (lab.floor.display().to_string(), lab.on_disk("times"));
    let (count, pause, out_text) = (count.to_string(), pause_ms.to_string(), out.display().to_string());
    let timed = [&[floor.as_str(), "time", &count, &pause, &out_text], command].concat();
    let all = without_unified(&timed);
    crate::lab::finish(std::process::Command::new(all[0]).args(&all[1..]))?;
    crate::lab::first_column(&out)
}

fn runtime(lab: &Lab, name: &str, count: usize, pause_ms: usize) -> Measured {
    let bundle = lab.on_disk("bundle").display().to_string();
    time_without_unified(lab, count, pause_ms, &[name, "run", "--bundle", &bundle, "bench-{}"])
}

fn podman(lab: &Lab, count: usize, pause_ms: usize, program: &[&str]) -> Measured {
    let root = lab.root.display().to_string();
    let line = "podman --cgroup-manager cgroupfs run --rm --network none --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 --rootfs";
    let fixed: Vec<String> = line.split(' ').map(str::to_owned).chain([root]).collect();
    time_without_unified(lab, count, pause_ms, &words(&fixed, program))
}

/// An OCI bundle that asks for what a step has.
fn write_bundle(lab: &Lab, program: &[&str]) {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let ids = json!([{"containerID": 0, "hostID": 805_306_368, "size": 65_536}]);
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.0",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": program, "env": ["PATH=/usr/bin:/bin"], "cwd": "/",
            "noNewPrivileges": true, "capabilities": {},
        },
        "root": {"path": lab.root, "readonly": false},
        "hostname": "floor",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "nodev", "noexec"]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=1m"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
            mount("/sys", "sysfs", &["nosuid", "nodev", "noexec", "ro"]),
            mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", "size=64m"]),
        ],
        "linux": {
            "uidMappings": ids, "gidMappings": ids,
            "namespaces": namespaces,
            "resources": {"memory": {"limit": 1_073_741_824_u64}, "pids": {"limit": 4096}, "cpu": {"quota": 200_000, "period": 100_000}},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"action": "SCMP_ACT_ERRNO", "errnoRet": 1, "names": [
                    "mount", "umount2", "pivot_root", "setns", "unshare", "bpf", "perf_event_open", "keyctl", "add_key", "reboot",
                ]}],
            },
        },
    });
    fs::create_dir_all(lab.on_disk("bundle")).expect("the place is ours");
    fs::write(lab.on_disk("bundle/config.json"), config.to_string()).expect("the place is ours");
}
