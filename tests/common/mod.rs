//! What every step must find inside, whoever started the runner: judged on what the probe tells.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use fixtures::probe;
use serde_json::{Value, json};

/// The job's own mounts, besides those that every step has.
pub const OWN_MOUNTS: [&str; 3] = ["/opt/probe", SCRIPTS, "/workspace"];
/// Where scripts lie, in a job that has any.
const SCRIPTS: &str = "/run/runner/scripts";

/// Other words in place of a command's own, in its directory and environment.
pub fn instead(words: &[&str], command: &Command) -> Command {
    let mut other = Command::new(words[0]);
    other.args(&words[1..]).env_clear().stdin(Stdio::null());
    other.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            other.env(name, value);
        }
    }
    other
}

/// The command from a caller that leaks what it can: two descriptors, ignored and blocked signals, secrets in the
/// environment; and that has a tight umask.
pub fn from_a_leaky_caller(command: &Command) -> Command {
    const SCRIPT: &str = "umask 0077; exec \"$0\" \"$@\" 8</etc/passwd 9</";
    let words = ["env", "--ignore-signal=PIPE,USR1,QUIT", "--block-signal=USR2", "bash", "-c", SCRIPT];
    let mut leaky = instead(&words, command);
    leaky.arg(command.get_program()).args(command.get_args());
    leaky.env("SECRET_TOKEN", "leaked").env("BASH_ENV", "");
    leaky
}

/// What the probe tells outside: the other half of each comparison.
pub fn outside() -> Value {
    let ran = Command::new(probe()).arg("facts").output().unwrap();
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// What the probe told in a step.
#[track_caller]
pub fn told(text: &str) -> Value {
    let parsed = serde_json::from_str(text);
    assert!(parsed.is_ok(), "not what the probe tells: {text}");
    parsed.unwrap()
}

/// All walls that do not depend on the step's user.
#[track_caller]
pub fn assert_walls(facts: &Value, host: &Value) {
    alone(facts);
    namespaces(facts, host);
    nothing_of_pid_one(facts);
    mounts(facts);
    system_calls(facts, host);
    hidden(facts);
    devices(facts);
    clean_start(facts);
    limits(facts);
}

/// Two processes: init and the probe.
#[track_caller]
fn alone(facts: &Value) {
    let own = &facts["own_pid"];
    assert_eq!(
        facts["processes"],
        json!([{"pid": 1, "comm": "runner-init"}, {"pid": own, "comm": "probe"}]),
        "what /proc lists"
    );
    assert_eq!(facts["session"]["parent"], 1);
}

#[track_caller]
fn namespaces(facts: &Value, host: &Value) {
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let (inside, outside) = (&facts["namespaces"][name], &host["namespaces"][name]);
        assert!(inside.is_string() && inside != outside, "{name}: {inside} and {outside}");
    }
    let paths = facts["cgroup"].as_str().unwrap().lines();
    assert!(paths.clone().all(|line| line.ends_with(":/")), "cgroup paths: {}", facts["cgroup"]);
    let network = &facts["network"];
    assert_eq!(network["interfaces"], json!(["lo"]));
    assert_eq!(network["routes"], json!([]));
    assert_eq!(network["loopback_connects"], true);
    assert_eq!(network["port_80_binds"], true, "any port is the step's own");
}

/// No door to init is open, whatever capabilities the step has.
#[track_caller]
fn nothing_of_pid_one(facts: &Value) {
    let one = facts["pid_one"].as_object().unwrap();
    for (door, answer) in one {
        let expected: &[&str] = match door.as_str() {
            "comm" => &["runner-init"],
            // Overwritten: neither the keeper's arguments nor what follows them.
            "cmdline" => {
                let text = answer.as_str().unwrap();
                assert!(text.bytes().all(|byte| byte == 0), "cmdline {text:?}");
                continue;
            }
            // Readable by design; signals reach init's kernel side and stop there.
            "limits" | "signal_zero" => continue,
            "kcmp" => &["ENOSYS"],
            _ => &["EACCES", "EPERM"],
        };
        assert!(answer.as_str().is_some_and(|answer| expected.contains(&answer)), "/proc/1 {door}: {answer}");
    }
    let doors = ["environ", "exe", "exe_readable", "maps", "mem", "fd", "root", "root/", "cwd", "ns/mnt"];
    assert!(doors.iter().chain(&["ptrace_seize"]).all(|door| one.contains_key(*door)), "{one:?}");
}

/// Mounts that every step has, where the machine knows the path: place, type, and the flags it must have.
const MOUNTS: &[(&str, &str, &[&str])] = &[
    ("/", "overlay", &["rw", "nosuid", "nodev"]),
    ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
    ("/proc/bus", "proc", &["ro", "nosuid", "nodev", "noexec"]),
    ("/proc/fs", "proc", &["ro", "nosuid", "nodev", "noexec"]),
    ("/proc/irq", "proc", &["ro", "nosuid", "nodev", "noexec"]),
    ("/proc/sys", "proc", &["ro", "nosuid", "nodev", "noexec"]),
    ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ("/dev", "tmpfs", &["nosuid", "noexec"]),
    ("/dev/full", "devtmpfs", &["nosuid"]),
    ("/dev/null", "devtmpfs", &["nosuid"]),
    ("/dev/random", "devtmpfs", &["nosuid"]),
    ("/dev/tty", "devtmpfs", &["nosuid"]),
    ("/dev/urandom", "devtmpfs", &["nosuid"]),
    ("/dev/zero", "devtmpfs", &["nosuid"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec"]),
    ("/dev/shm", "tmpfs", &["nosuid", "nodev"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
];

/// Covers that depend on what this kernel has.
const MAYBE_READ_ONLY: [&str; 2] = ["/proc/sysrq-trigger", "/proc/mtrr"];

/// What is told of the machine where the runner itself may not use all its processors.
fn is_told(path: &str) -> bool {
    ["/proc/cpuinfo", "/sys/devices/system/cpu/online"].contains(&path)
}

/// Exactly the mounts above, covers, and the job's own; none propagates, none honours set-uid bits.
#[track_caller]
fn mounts(facts: &Value) {
    let hidden: Vec<&str> = facts["masks"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut found: BTreeMap<&str, &Value> = BTreeMap::new();
    for mount in facts["mounts"].as_array().unwrap() {
        let path = mount["path"].as_str().unwrap();
        assert!(found.insert(path, mount).is_none(), "two mounts on {path}");
        assert_eq!(mount["propagation"], json!([]), "{path}");
        let flags = mount["flags"].as_array().unwrap();
        assert!(flags.contains(&json!("nosuid")), "{path}: {flags:?}");
        let is_cover =
            hidden.contains(&path) || (path.starts_with("/sys/") && path.ends_with("/thermal_throttle"));
        let known = MOUNTS.iter().any(|(place, ..)| *place == path);
        assert!(
            known
                || is_cover
                || OWN_MOUNTS.contains(&path)
                || MAYBE_READ_ONLY.contains(&path)
                || is_told(path),
            "an unknown mount: {mount}"
        );
        if is_cover {
            let (kind, root) = (mount["type"].as_str().unwrap(), mount["root"].as_str().unwrap());
            assert!([("devtmpfs", "/null"), ("tmpfs", "/empty")].contains(&(kind, root)), "{mount}");
        }
        if path.starts_with("/sys") || path == SCRIPTS || MAYBE_READ_ONLY.contains(&path) || is_told(path) {
            assert!(flags.contains(&json!("ro")), "{mount}");
        }
    }
    for (path, kind, flags) in MOUNTS {
        let mount = found.get(path).copied().unwrap_or(&Value::Null);
        assert_eq!(mount["type"], *kind, "{path}");
        let has = mount["flags"].as_array().unwrap();
        assert!(flags.iter().all(|flag| has.contains(&json!(flag))), "{mount}");
    }
}

/// What calls answer. The probe gives arguments to which an open kernel answers otherwise.
const ANSWERS: &[(&str, &[&str])] = &[
    (
        "ok",
        &[
            "getpid",
            "memfd_create",
            "unshare_files",
            "clone",
            "pidfd_open",
            "ptrace_traceme",
            "personality_query",
            "personality_no_randomize",
            "socket_unix",
            "socket_inet_stream",
            "socket_inet_datagram",
            "socket_inet_icmp",
            "socket_netlink_route",
        ],
    ),
    (
        "EPERM",
        &[
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "fsopen",
            "fsmount",
            "fsconfig",
            "fspick",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "setns",
            "unshare_user",
            "unshare_mount",
            "clone_user",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "fanotify_init",
            "keyctl",
            "add_key",
            "request_key",
            "pidfd_getfd",
            "open_by_handle_at",
            "reboot",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "swapon",
            "swapoff",
            "acct",
            "quotactl",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "syslog",
            "sethostname",
            "setdomainname",
            "personality_read_implies_exec",
            "ioctl_tiocsti",
            "ioctl_tiocsti_high_bits",
            "ioctl_tioclinux",
            "ioctl_tiocsetd",
            "socket_inet_raw",
            "socket_inet6_raw",
        ],
    ),
    (
        "ENOSYS",
        &[
            "unknown_number",
            "clone3",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "memfd_secret",
            "fanotify_mark",
            "statmount",
            "listmount",
            "name_to_handle_at",
            "kcmp",
            "process_madvise",
            "mbind",
            "set_mempolicy",
            "move_pages",
            "lookup_dcookie",
            "remap_file_pages",
        ],
    ),
    (
        "EAFNOSUPPORT",
        &[
            "socket_packet",
            "socket_key",
            "socket_rds",
            "socket_can",
            "socket_tipc",
            "socket_bluetooth",
            "socket_alg",
            "socket_vsock",
            "socket_xdp",
            "socketpair_tipc",
        ],
    ),
    (
        "EPROTONOSUPPORT",
        &["socket_inet_sctp", "socket_inet_mptcp", "socket_netlink_audit", "socket_netlink_netfilter"],
    ),
    ("ENOPROTOOPT", &["setsockopt_tcp_ulp"]),
    // Let through: the kernel's own objection to the probe's arguments.
    ("EBADF", &["ioctl_tcgets"]),
    ("EFAULT", &["socketpair_unix"]),
];

#[track_caller]
fn system_calls(facts: &Value, host: &Value) {
    assert_eq!(facts["no_new_privs"], 1);
    assert_eq!(facts["seccomp"], json!({"mode": 2, "filters": 2}));
    let answers = &facts["syscalls"];
    let mut wrong = Vec::new();
    for (expected, calls) in ANSWERS {
        for call in *calls {
            if answers[call] != *expected {
                wrong.push(format!("{call}: {} instead of {expected}", answers[call]));
            }
        }
    }
    // What the kernel has, it has inside too.
    for call in ["landlock_abi", "socket_inet6_stream"] {
        if answers[call] != host["syscalls"][call] {
            wrong.push(format!("{call}: {} instead of {}", answers[call], host["syscalls"][call]));
        }
    }
    if cfg!(target_arch = "x86_64") {
        const SIGSYS: i32 = 31;
        if answers["x32_getpid"] != "ENOSYS" {
            wrong.push(format!("x32_getpid: {}", answers["x32_getpid"]));
        }
        let expected = if host["syscalls"]["i386_getpid"] == "ok" {
            json!({ "killed": SIGSYS })
        } else {
            host["syscalls"]["i386_getpid"].clone()
        };
        if answers["i386_getpid"] != expected {
            wrong.push(format!("i386_getpid: {}", answers["i386_getpid"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Nothing of the host's memory, timers, keys and firmware; no switch of the kernel.
#[track_caller]
fn hidden(facts: &Value) {
    for (path, state) in facts["masks"].as_object().unwrap() {
        assert!(["absent", "null", "empty"].iter().any(|shut| state == shut), "{path}: {state}");
    }
    for (path, writable) in facts["proc_sys_writable"].as_object().unwrap() {
        let own = path == "/proc/self/oom_score_adj";
        assert!(own || *writable != true, "{path} can be written");
    }
    for (path, expected) in [("/sys", "EROFS"), ("/proc", "ENOENT")] {
        assert_eq!(facts["writable"][path], json!({"errno": expected}), "a new file in {path}");
    }
    for path in ["/workspace", "/tmp", "/dev/shm"] {
        assert_eq!(facts["writable"][path], true, "a new file in {path}");
    }
}

#[track_caller]
fn devices(facts: &Value) {
    let expected = json!({
        "fd": "link /proc/self/fd",
        "full": "character 1:7",
        "mqueue": "directory",
        "null": "character 1:3",
        "ptmx": "link pts/ptmx",
        "pts": "directory",
        "random": "character 1:8",
        "shm": "directory",
        "stderr": "link /proc/self/fd/2",
        "stdin": "link /proc/self/fd/0",
        "stdout": "link /proc/self/fd/1",
        "tty": "character 5:0",
        "urandom": "character 1:9",
        "zero": "character 1:5",
    });
    assert_eq!(facts["devices"], expected);
}

/// Three descriptors, a session of its own without a terminal, default signals, umask 022.
#[track_caller]
fn clean_start(facts: &Value) {
    let descriptors = facts["descriptors"].as_object().unwrap();
    assert_eq!(descriptors.keys().collect::<Vec<_>>(), ["0", "1", "2"], "{descriptors:?}");
    assert_eq!(descriptors["0"], "/dev/null");
    assert!(["1", "2"].iter().all(|number| descriptors[*number].as_str().unwrap().starts_with("pipe:")));
    let (own, session) = (&facts["own_pid"], &facts["session"]);
    assert_eq!([&session["session"], &session["group"]], [own, own]);
    assert_eq!(session["terminal"], 0);
    assert_eq!(session["dev_tty"], json!({"errno": "ENXIO"}));
    let none = "0000000000000000";
    assert_eq!(facts["signals"], json!({"blocked": none, "ignored": none, "caught": none}));
    assert_eq!(facts["umask"], "0022");
    assert_eq!(facts["cwd"], "/workspace");
    for name in ["SECRET_TOKEN", "BASH_ENV", "RUNNER_HOME"] {
        assert!(facts["env"].get(name).is_none(), "{name} comes from the caller");
    }
}

/// Limits of the policy, or the lower ones that the runner itself was given.
#[track_caller]
fn limits(facts: &Value) {
    let found = |name: &str| {
        let limit = &facts["rlimits"][name];
        (limit["soft"].as_i64().unwrap(), limit["hard"].as_i64().unwrap())
    };
    for name in ["Max core file size", "Max realtime priority", "Max nice priority"] {
        assert_eq!(found(name), (0, 0), "{name}");
    }
    for (name, soft, hard) in [
        ("Max open files", 1024, 65_536),
        ("Max locked memory", 8 << 20, 8 << 20),
        ("Max msgqueue size", 819_200, 819_200),
    ] {
        let (found_soft, found_hard) = found(name);
        assert!((0..=soft).contains(&found_soft), "{name}: soft {found_soft}");
        assert!((0..=hard).contains(&found_hard), "{name}: hard {found_hard}");
    }
    assert!(facts["oom_score_adj"].as_str().unwrap().parse::<i32>().unwrap() >= 500);
}

/// Nine capabilities for root inside, none for others; in the sets that an exec passes on, none for anybody.
///
/// `owns_image`: root inside does; and whoever is the only id that there is.
#[track_caller]
pub fn assert_user(facts: &Value, uid: u32, owns_image: bool) {
    assert_eq!(facts["ids"]["uid"], json!([uid, uid, uid, uid]));
    assert_eq!(facts["ids"]["gid"], json!([uid, uid, uid, uid]));
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE.
    let given = if uid == 0 { "00000000000005fb" } else { "0000000000000000" };
    let none = "0000000000000000";
    assert_eq!(
        facts["capabilities"],
        json!({
            "inheritable": none, "permitted": given, "effective": given, "bounding": given, "ambient": none,
        })
    );
    for path in ["/", "/etc", "/usr", "/root"] {
        let expected = if owns_image { json!(true) } else { json!({"errno": "EACCES"}) };
        assert_eq!(facts["writable"][path], expected, "a new file in {path}");
    }
}

/// Tries by ordinary commands; the step fails at the first that goes wrong. A refusal counts only when it is one of rights.
pub const TRIES: &str = "\
    set -e\n\
    refused() {\n\
      if said=$(\"$@\" 2>&1); then echo \"not refused: $*\"; exit 1; fi\n\
      case $said in *'not permitted'*|*'ermission denied'*) ;; *) echo \"$*: $said\"; exit 1 ;; esac\n\
    }\n\
    refused mount -t tmpfs none /tmp\n\
    refused umount /workspace\n\
    refused mknod /tmp/disk b 254 0\n\
    refused unshare -U true\n\
    refused chroot / true\n\
    refused hostname other\n\
    refused cat /proc/1/environ\n\
    refused ls /proc/1/root/\n\
    refused ip link set lo down\n\
    kill -9 1 2>/dev/null || :\n\
    test -d /proc/1\n\
    : > /dev/mqueue/queue; test -e /dev/mqueue/queue\n\
    echo shared > /dev/shm/file; test \"$(cat /dev/shm/file)\" = shared\n\
    echo x > /dev/null; test \"$(head -c 8 /dev/urandom | wc -c)\" = 8\n";
