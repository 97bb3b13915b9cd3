//! Cgroups for real: limits that bite, usage that counts, kills that reach everybody, nothing left.
//!
//! As root on v1 and hybrid hosts; as root and as an ordinary user in a delegated cgroup on v2. What cannot be made
//! here is named and skipped; in CI (`CI=true`) that is a failure but for users on v1.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![expect(clippy::print_stderr, reason = "helpers of tests say what they skip")]

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runner::cgroup::{
    BlockDevice, Cgroup, CgroupError, CgroupLimits, Controller, Hierarchy, IoLimits, Kind, KmsgCursor, Limit,
    RunCgroup,
};
use rustix::event::{PollFd, PollFlags, poll};

const MIB: u64 = 1024 * 1024;
/// How long a condition may take before the test gives up on it; no test waits that long when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// A run of a test's own, and what it is made below.
struct Fixture {
    hierarchy: Hierarchy,
    run: RunCgroup,
    paths: Vec<PathBuf>,
}

impl Fixture {
    /// `None`, and a line that says why, where these caps cannot be had.
    fn with(limits: &[Limit]) -> Option<Self> {
        let hierarchy = Hierarchy::discover().unwrap();
        for limit in limits {
            if let Err(error) = hierarchy.supports(*limit) {
                // v1 cgroups are root's: that kind of machine may skip, any other is a failure there.
                let v1_user = hierarchy.describe().kind != Kind::V2 && !rustix::process::geteuid().is_root();
                let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
                assert!(!in_ci || v1_user, "missing in CI: {error}");
                eprintln!("skipped: {error}");
                return None;
            }
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let paths = hierarchy.paths(&id).unwrap();
        let run = hierarchy.open_run(&id).unwrap();
        assert_eq!(run.paths(), paths);
        Some(Self { hierarchy, run, paths })
    }

    /// Removes the run and checks that nothing of it is left.
    fn end(self) {
        self.run.remove().unwrap();
        for path in self.paths {
            assert!(!path.exists(), "{} is left", path.display());
        }
    }
}

/// A shell that waits for a line before it does anything, so that it can be put into a cgroup first.
fn shell(cgroup: &Cgroup, script: &str) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("read -r go; {script}")]).stdin(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    cgroup.admit(child.id()).unwrap();
    child
}

/// Lets a waiting shell go on.
fn go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

#[test]
fn a_memory_hog_is_killed_counted_and_named() {
    let Some(fixture) = Fixture::with(&[Limit::Memory]) else { return };
    let limits = CgroupLimits { memory_bytes: Some(32 * MIB), ..CgroupLimits::default() };
    let cgroup = fixture.run.create("hog", &limits).unwrap();
    let mut kmsg = KmsgCursor::open();
    let mut watch = cgroup.watch_oom().unwrap();
    assert_eq!(cgroup.events().oom_kills, 0);
    // It looks for the last lines of something that has none: all of it stays in memory.
    let mut hog = shell(&cgroup, "exec tail /dev/zero");
    go(&mut hog);
    let mut fired = false;
    until("an OOM kill", || {
        let mut readable = [PollFd::new(&watch, PollFlags::IN)];
        let tick = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        fired |= poll(&mut readable, Some(&tick)).unwrap() > 0;
        // At every tick too, as a run does that shows live usage: an event can come after the kill.
        watch.acknowledge(&cgroup);
        cgroup.events().oom_kills > 0
    });
    until("the event", || {
        let mut readable = [PollFd::new(&watch, PollFlags::IN)];
        fired |= poll(&mut readable, Some(&Default::default())).unwrap() > 0;
        fired
    });
    let status = hog.wait().unwrap();
    assert!(killed(status), "{status}");
    let (usage, events) = (cgroup.usage(), cgroup.events());
    assert_eq!(events.oom_kills, 1, "{events:?}");
    if let Some(peak) = usage.mem_peak {
        assert!((24 * MIB..=32 * MIB).contains(&peak), "{peak}");
    }
    let seen = watch.largest();
    let told = kmsg.as_mut().and_then(|kmsg| cgroup.victim(Some(kmsg), None));
    eprintln!("the watch saw {seen:?}; the kernel's log has {told:?}; {usage:?} {events:?}");
    for victim in [seen, told.clone()].into_iter().flatten() {
        assert_eq!((victim.name.as_str(), victim.pid), ("tail", Some(hog.id())));
        assert!(victim.rss_bytes.is_none_or(|bytes| bytes <= 64 * MIB));
    }
    assert!(told.is_some() || kmsg.is_none(), "the kernel's log is readable and has no line");
    assert!(cgroup.victim(kmsg.as_mut(), Some(&watch)).is_some());
    cgroup.remove().unwrap();
    fixture.end();
}

#[test]
fn below_the_limit_nobody_is_killed() {
    let Some(fixture) = Fixture::with(&[Limit::Memory]) else { return };
    let limits = CgroupLimits { memory_bytes: Some(256 * MIB), ..CgroupLimits::default() };
    let cgroup = fixture.run.create("modest", &limits).unwrap();
    let mut kmsg = KmsgCursor::open();
    let mut modest = shell(&cgroup, "head -c 33554432 /dev/zero | tail -c 33554432 >/dev/null");
    go(&mut modest);
    assert!(modest.wait().unwrap().success());
    assert_eq!(cgroup.events(), Default::default());
    assert_eq!(cgroup.victim(kmsg.as_mut(), None), None);
    if let Some(peak) = cgroup.usage().mem_peak {
        assert!(peak >= 32 * MIB, "{peak}");
    }
    cgroup.remove().unwrap();
    fixture.end();
}

#[test]
fn forks_beyond_the_pids_limit_fail_and_are_counted() {
    let Some(fixture) = Fixture::with(&[Limit::Pids]) else { return };
    let fork = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; wait";
    let capped = CgroupLimits { pids: Some(8), ..CgroupLimits::default() };
    let cgroup = fixture.run.create("capped", &capped).unwrap();
    let mut child = shell(&cgroup, fork);
    go(&mut child);
    until("a refused fork", || cgroup.events().pids_hits > 0);
    assert!(cgroup.processes().len() <= 8);
    assert!(cgroup.usage().pids_peak.is_none_or(|peak| peak == 8), "{:?}", cgroup.usage());
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();

    let roomy = CgroupLimits { pids: Some(64), ..CgroupLimits::default() };
    let cgroup = fixture.run.create("roomy", &roomy).unwrap();
    let mut child = shell(&cgroup, fork);
    go(&mut child);
    until("twelve sleepers", || cgroup.processes().len() == 13);
    assert_eq!(cgroup.events().pids_hits, 0);
    cgroup.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
    fixture.end();
}

/// Burns half a second of CPU time in a cgroup; returns CPU seconds per wall second and how long it was held back.
fn burn(fixture: &Fixture, name: &str, cpus: Option<f64>) -> (f64, f64) {
    let limits = CgroupLimits { cpus, ..CgroupLimits::default() };
    let cgroup = fixture.run.create(name, &limits).unwrap();
    let mut child = shell(&cgroup, "while :; do :; done");
    let started = Instant::now();
    go(&mut child);
    until("half a second of CPU time", || cgroup.usage().cpu_s.unwrap() >= 0.5);
    let (usage, wall_s) = (cgroup.usage(), started.elapsed().as_secs_f64());
    cgroup.kill().unwrap();
    assert!(killed(child.wait().unwrap()));
    cgroup.remove().unwrap();
    (usage.cpu_s.unwrap() / wall_s, usage.throttled_s.unwrap_or(0.0))
}

#[test]
fn half_a_cpu_is_half_a_cpu() {
    let Some(fixture) = Fixture::with(&[Limit::Cpus]) else { return };
    let (ratio, throttled_s) = burn(&fixture, "half", Some(0.5));
    eprintln!("with 0.5 CPUs: {ratio:.2} CPU seconds per second, throttled {throttled_s:.2} s");
    assert!(ratio < 0.75, "{ratio}");
    // On a machine so busy that it never got its half, the limit had nothing to hold back.
    assert!(throttled_s > 0.0 || ratio < 0.45, "{throttled_s}");
    let (_, throttled_s) = burn(&fixture, "whole", None);
    assert_eq!(throttled_s, 0.0);
    fixture.end();
}

#[test]
fn fifty_processes_die_at_once() {
    let Some(fixture) = Fixture::with(&[Limit::Pids]) else { return };
    let cgroup = fixture.run.create("many", &CgroupLimits::default()).unwrap();
    // Some in a session of their own, some stopped: neither helps.
    let mut child = shell(
        &cgroup,
        "i=0; while [ $i -lt 25 ]; do sleep 600 & setsid sleep 600 & kill -STOP $!; i=$((i+1)); done; wait",
    );
    go(&mut child);
    until("fifty processes and their parent", || cgroup.processes().len() == 51);
    let processes = cgroup.processes();
    assert!(processes.iter().all(|process| process.rss_bytes > 0));
    let error = fixture.run.create("many", &CgroupLimits::default()).unwrap_err();
    assert!(matches!(error, CgroupError::Make { .. }), "{error}");
    cgroup.kill().unwrap();
    assert!(killed(child.wait().unwrap()));
    until("an empty cgroup", || cgroup.processes().is_empty());
    cgroup.remove().unwrap();
    for process in processes {
        assert!(!is_alive(process.pid), "{process:?} is alive");
    }
    fixture.end();
}

/// Whether a process is there and no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn limits_are_read_back_and_can_be_changed() {
    let Some(fixture) = Fixture::with(&Limit::ALL) else { return };
    let text = |name: &str, files: [&str; 2]| -> String {
        let read = |path: &PathBuf| {
            files.iter().find_map(|file| std::fs::read_to_string(path.join(name).join(file)).ok())
        };
        fixture.paths.iter().find_map(read).unwrap().trim().to_owned()
    };
    let limits = CgroupLimits {
        cpus: Some(0.005),
        memory_bytes: Some(64 * MIB + 1),
        swap_bytes: MIB,
        pids: Some(77),
        ..CgroupLimits::default()
    };
    let cgroup = fixture.run.create("all", &limits).unwrap();
    let memory = || text("all", ["memory.max", "memory.limit_in_bytes"]);
    let quota = || text("all", ["cpu.max", "cpu.cfs_quota_us"]);
    assert_eq!(memory(), (64 * MIB).to_string());
    assert_eq!(text("all", ["pids.max", "pids.max"]), "77");
    assert!(["5000 1000000", "5000"].contains(&quota().as_str()), "{}", quota());
    let limits = CgroupLimits { cpus: Some(1.5), memory_bytes: Some(512 * MIB), ..CgroupLimits::default() };
    cgroup.set_limits(&limits).unwrap();
    assert_eq!(memory(), (512 * MIB).to_string());
    assert_eq!(text("all", ["pids.max", "pids.max"]), "max");
    assert!(["150000 100000", "150000"].contains(&quota().as_str()), "{}", quota());
    cgroup.set_limits(&CgroupLimits { memory_bytes: Some(MIB), ..CgroupLimits::default() }).unwrap();
    assert_eq!(memory(), MIB.to_string());
    assert!(["max 100000", "-1"].contains(&quota().as_str()), "{}", quota());
    cgroup.set_limits(&CgroupLimits::default()).unwrap();
    assert!(memory() == "max" || memory().parse::<u64>().unwrap() > 1 << 60, "{}", memory());
    cgroup.remove().unwrap();
    fixture.end();
}

#[test]
fn a_share_of_the_cpus_is_kept() {
    let Some(fixture) = Fixture::with(&[Limit::CpuWeight]) else { return };
    for (name, weight, v2, v1) in
        [("least", 1, "1", "10"), ("half", 50, "50", "512"), ("most", 10_000, "10000", "102400")]
    {
        let limits = CgroupLimits { cpu_weight: Some(weight), ..CgroupLimits::default() };
        let cgroup = fixture.run.create(name, &limits).unwrap();
        let read = |file: &str| {
            fixture.paths.iter().find_map(|path| std::fs::read_to_string(path.join(name).join(file)).ok())
        };
        let found = read("cpu.weight").or_else(|| read("cpu.shares")).unwrap();
        assert!([v2, v1].contains(&found.trim()), "{name}: {found}");
        cgroup.remove().unwrap();
    }
    fixture.end();
}

#[test]
fn caps_of_a_disk_are_kept() {
    let Some(fixture) = Fixture::with(&[Limit::Io]) else { return };
    let disk = ["/", "/tmp", "/var"].iter().find_map(|path| BlockDevice::below(path.as_ref()).ok());
    let Some(disk) = disk else {
        eprintln!("skipped: no directory of this machine lies on a disk");
        return fixture.end();
    };
    let io = IoLimits {
        devices: vec![disk],
        read_bytes: Some(4 * MIB),
        write_bytes: Some(3 * MIB),
        read_ops: Some(200),
        write_ops: Some(100),
    };
    let limits = CgroupLimits { io: Some(io), ..CgroupLimits::default() };
    let cgroup = fixture.run.create("slow", &limits).unwrap();
    let read = |file: &str| {
        let found =
            fixture.paths.iter().find_map(|path| std::fs::read_to_string(path.join("slow").join(file)).ok());
        found.unwrap_or_default().trim().to_owned()
    };
    let v2 = read("io.max");
    if v2.is_empty() {
        assert_eq!(read("blkio.throttle.read_bps_device"), format!("{disk} {}", 4 * MIB));
        assert_eq!(read("blkio.throttle.write_bps_device"), format!("{disk} {}", 3 * MIB));
        assert_eq!(read("blkio.throttle.read_iops_device"), format!("{disk} 200"));
        assert_eq!(read("blkio.throttle.write_iops_device"), format!("{disk} 100"));
    } else {
        assert_eq!(v2, format!("{disk} rbps={} wbps={} riops=200 wiops=100", 4 * MIB, 3 * MIB));
    }
    cgroup.remove().unwrap();
    fixture.end();
}

#[test]
fn a_bad_limit_or_name_leaves_nothing() {
    let Some(fixture) = Fixture::with(&[Limit::Pids]) else { return };
    for name in ["", ".", "..", ".x", "a/b", "a b", "\u{e4}", &"x".repeat(129)] {
        let error = fixture.run.create(name, &CgroupLimits::default()).unwrap_err();
        assert!(matches!(error, CgroupError::Name { .. }), "{name}: {error}");
        assert!(matches!(fixture.hierarchy.paths(name), Err(CgroupError::Name { .. })), "{name}");
    }
    let limits = CgroupLimits { pids: Some(0), ..CgroupLimits::default() };
    assert!(matches!(fixture.run.create("bad", &limits), Err(CgroupError::Range { .. })));
    // A name that the kernel itself uses is somebody else's.
    assert!(fixture.run.create("cgroup.procs", &CgroupLimits::default()).is_err());
    fixture.end();
}

#[test]
fn a_process_lets_itself_in_by_the_entry() {
    let Some(fixture) = Fixture::with(&[]) else { return };
    let cgroup = fixture.run.create("entry", &CgroupLimits::default()).unwrap();
    let entry = cgroup.entry().unwrap();
    assert_eq!(entry.tasks.len() + usize::from(entry.into.is_some()), fixture.paths.len());
    if let Some(into) = &entry.into {
        let own = rustix::fs::fstat(into.as_fd()).unwrap();
        let there =
            |path: &PathBuf| rustix::fs::stat(path.join("entry")).is_ok_and(|stat| stat.st_ino == own.st_ino);
        assert!(fixture.paths.iter().any(there));
    }
    let tasks = entry.tasks.iter().map(|fd| std::os::fd::AsRawFd::as_raw_fd(fd).to_string());
    let script =
        tasks.map(|fd| format!("printf 0 >/proc/{}/fd/{fd}; ", std::process::id())).collect::<String>();
    let child =
        Command::new("/bin/sh").args(["-c", &format!("{script} cat /proc/self/cgroup")]).output().unwrap();
    let inside = String::from_utf8(child.stdout).unwrap();
    let v1 = inside.lines().filter(|line| !line.starts_with("0::") && line.contains("runner-test-"));
    assert_eq!(v1.count(), entry.tasks.len(), "{inside}");
    cgroup.remove().unwrap();
    fixture.end();
}

#[test]
fn usage_is_counted() {
    let Some(fixture) = Fixture::with(&[Limit::Memory, Limit::Pids]) else { return };
    let cgroup = fixture.run.create("usage", &CgroupLimits::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let script = format!(
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of={} bs=65536 count=16 conv=fsync & wait",
        file.display()
    );
    let mut child = shell(&cgroup, &script);
    go(&mut child);
    assert!(child.wait().unwrap().success());
    let usage = cgroup.usage();
    eprintln!("{usage:?}");
    assert!(usage.cpu_s.is_some_and(|s| s > 0.0 && s < 60.0));
    assert!(usage.mem_peak.is_none_or(|bytes| bytes > 64 * 1024));
    assert!(usage.pids_peak.is_none_or(|peak| peak >= 2));
    assert_eq!(usage.io_r.is_some(), usage.io_w.is_some());
    let facts = fixture.hierarchy.describe();
    if facts.kind == Kind::V2 && facts.controllers.contains(&Controller::Io) {
        // The file was synced: its bytes are on their way, whoever writes them.
        assert!(usage.io_w.is_some_and(|bytes| bytes >= MIB), "{usage:?}");
    }
    cgroup.remove().unwrap();
    fixture.end();
}

#[test]
fn what_a_dead_run_left_is_swept() {
    let Some(fixture) = Fixture::with(&[Limit::Pids]) else { return };
    let cgroup = fixture.run.create("orphan", &CgroupLimits::default()).unwrap();
    let mut child = shell(&cgroup, "sleep 600 & wait");
    go(&mut child);
    until("a sleeper", || cgroup.processes().len() == 2);
    assert!(fixture.paths.iter().all(|path| fixture.hierarchy.runs().contains(path)));
    // As if the runner had been killed: no destructor runs.
    std::mem::forget(cgroup);
    std::mem::forget(fixture.run);
    let summary = Hierarchy::sweep(&fixture.paths);
    assert!(summary.left.is_empty(), "{:?}", summary.left);
    assert_eq!(summary.removed.len(), fixture.paths.len());
    assert!(summary.killed >= 2);
    assert!(killed(child.wait().unwrap()));
    assert!(fixture.paths.iter().all(|path| !path.exists()));
    assert!(Hierarchy::sweep(&fixture.paths).removed.is_empty());
}

#[test]
fn an_owner_that_is_dropped_kills_and_removes() {
    let Some(fixture) = Fixture::with(&[Limit::Pids]) else { return };
    let cgroup = fixture.run.create("dropped", &CgroupLimits::default()).unwrap();
    let mut child = shell(&cgroup, "sleep 600");
    go(&mut child);
    drop(cgroup);
    assert!(killed(child.wait().unwrap()));
    // A removal that waits in vain says who is in the way; here the run itself kills.
    let cgroup = fixture.run.create("living", &CgroupLimits::default()).unwrap();
    let mut child = shell(&cgroup, "sleep 600");
    let error = cgroup.remove().unwrap_err();
    assert!(error.to_string().contains("(sh)"), "{error}");
    fixture.end();
    assert!(killed(child.wait().unwrap()));
}

/// The second runner of the test below: started in the cgroup that the first one has prepared.
const SECOND: &str = "RUNNER_TEST_SECOND";

#[test]
fn two_runners_share_a_cgroup() {
    if std::env::var_os(SECOND).is_some() {
        let fixture = Fixture::with(&[Limit::Pids]).unwrap();
        let limits = CgroupLimits { pids: Some(5), ..CgroupLimits::default() };
        fixture.run.create("second", &limits).unwrap().remove().unwrap();
        println!("second: {}", fixture.paths[0].parent().unwrap().display());
        return fixture.end();
    }
    let Some(fixture) = Fixture::with(&[Limit::Pids]) else { return };
    let first =
        fixture.run.create("first", &CgroupLimits { pids: Some(5), ..CgroupLimits::default() }).unwrap();
    let second = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "two_runners_share_a_cgroup", "--nocapture"]).env(SECOND, "1");
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..4).map(second).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        // Not one level deeper with each: they share the base.
        let base = fixture.paths[0].parent().unwrap().display();
        assert!(text.contains(&format!("second: {base}\n")), "{text}");
    }
    first.remove().unwrap();
    fixture.end();
}

#[test]
fn an_enclosing_quota_does_not_refuse_a_larger_one() {
    let Some(fixture) = Fixture::with(&[Limit::Cpus]) else { return };
    let v1 = fixture.paths.iter().find(|path| path.join("cpu.cfs_quota_us").exists());
    match v1 {
        Some(path) => std::fs::write(path.join("cpu.cfs_quota_us"), "50000").unwrap(),
        None => {
            let v2 = fixture.paths.iter().find(|path| path.join("cpu.max").exists()).unwrap();
            std::fs::write(v2.join("cpu.max"), "50000 100000").unwrap();
        }
    }
    let limits = CgroupLimits { cpus: Some(2.0), ..CgroupLimits::default() };
    fixture.run.create("large", &limits).unwrap().remove().unwrap();
    fixture.end();
}
