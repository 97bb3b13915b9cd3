//! Caps and their outcomes, on real sandboxes: as root on cgroup v1 and v2, as an ordinary user in a delegated scope.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use serde_json::{Value, json};
use waiting::wait_for_file;

/// 256 MiB: four times what the steps may use.
const TOO_MUCH: &str = "268435456";
const MEMORY: u64 = 64 << 20;

fn shown(run: &Run) -> String {
    run.ran.stdout_text() + &run.ran.stderr_text()
}

/// What the probe printed as JSON.
fn told(run: &Run, index: usize) -> Value {
    let value = serde_json::from_slice(&run.log(index));
    assert!(value.is_ok(), "{value:?}: {}", run.text(index));
    value.unwrap()
}

#[test]
fn a_memory_hog_is_named() {
    require!(Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        &format!(
            "limits: {{memory: 64M}}\nsteps:\n  - run: [/opt/probe, eat-memory, \"{TOO_MUCH}\"]\n  - 'true'\n"
        ),
        5,
    );
    let step = run.step(0);
    assert_eq!([&step["outcome"], &step["killed_by"]], [&json!("oom"), &json!("oom")], "{step:#}");
    assert_eq!([&step["signal"], &step["exit_code"]], [&json!(9), &json!(137)]);
    let oom = &step["oom"];
    assert_eq!(oom["limit_bytes"], MEMORY);
    // Root reads the kernel's log. Others see the cgroup at the event, which on a busy machine is too late.
    let victim = &oom["victim"]["name"];
    let unseen = !rustix::process::geteuid().is_root() && victim.is_null();
    assert!(unseen || victim == "probe", "{oom:#}");
    // On v2 init is killed with it, being in the same cgroup.
    let kills = oom["kills"].as_u64().unwrap();
    assert!((1..=if kills_whole_cgroups() { 2 } else { 1 }).contains(&kills), "{oom:#}");
    assert_eq!(step["limits"]["memory_bytes"], MEMORY);
    let peak = step["usage"]["mem_peak"].as_u64().unwrap();
    assert!((MEMORY / 2..=MEMORY).contains(&peak), "{peak}");
    assert_eq!(run.step(1)["outcome"], "skipped");
    assert_eq!([&run.record["outcome"], &run.record["exit_code"]], [&json!("oom"), &json!(5)]);
    let said = shown(&run);
    let killed = if unseen { "killed" } else { "killed `probe`" };
    assert!(said.contains("memory limit of 64") && said.contains(killed), "{said}");
    assert!(said.contains("raise `limits.memory`"), "{said}");
    before.assert_nothing_new();
}

/// Where the kernel kills one process and not the whole cgroup, the step decides what its end means. On v2 we ask for
/// the whole cgroup (`memory.oom.group`): a build that lost a compiler does not go on.
#[test]
fn a_step_whose_child_ate_too_much() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let hog = format!("/opt/probe eat-memory {TOO_MUCH} && exit 9");
    let job = format!(
        "limits: {{memory: 64M}}\nsteps:\n  - {{run: '{hog}; echo survived', continue-on-error: true}}\n  - {{run: '{hog}; exit 1', continue-on-error: true}}\n"
    );
    let run = lab.exec(&format!("shell: [sh, \"{{0}}\"]\n{job}"), 0);
    let survived = run.text(0).contains("survived\n");
    let whole = kills_whole_cgroups();
    assert_eq!(survived, !whole, "{}", run.text(0));
    let outcomes = [&run.step(0)["outcome"], &run.step(1)["outcome"]];
    let first = if survived { "success" } else { "oom" };
    assert_eq!(outcomes, [&json!(first), &json!("oom")], "{:#}", run.step(0));
    for index in 0..2 {
        let oom = &run.step(index)["oom"];
        assert!(oom["kills"].as_u64().unwrap() >= 1, "noted whatever came of it: {oom:#}");
        assert_eq!(oom["limit_bytes"], MEMORY);
    }
}

fn kills_whole_cgroups() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Where the kernel kills one process and not the whole step, a shell can go on as if nothing had happened.
#[test]
fn a_success_with_a_process_killed_for_memory_is_told() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let job = format!(
        "limits: {{memory: 64M}}\nsteps:\n  - '/opt/probe eat-memory {TOO_MUCH} | cat; echo went on'\n"
    );
    if kills_whole_cgroups() {
        assert_eq!(lab.exec(&job, 5).step(0)["outcome"], "oom");
        return;
    }
    let run = lab.exec(&job, 0);
    assert_eq!(run.step(0)["outcome"], "success");
    let said = run.ran.stdout_text();
    assert!(said.contains("out of memory: 1 process killed at 64M"), "{said}");
}

#[test]
fn swap_is_no_way_round_the_memory_limit() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("limits: {memory: 64M}\nsteps: ['touch ready; while [ ! -e go ]; do sleep 0.05; done']\n");
    let mut command = lab.context.command(&["exec"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "ready");
    let files = limit_files(&lab.context.home());
    lab.context.write("go", "");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lab.finished(lab.context.run(&["show"])).text(0), "");
    // v1 counts memory and swap together, v2 apart.
    let expected: &[(&str, u64)] = &[("memory.memsw.limit_in_bytes", MEMORY), ("memory.swap.max", 0)];
    let mut found = Vec::new();
    for (name, value) in expected {
        let of_that_name = files.iter().filter(|(file, _)| file.ends_with(name));
        found.extend(of_that_name.map(|(_, content)| *content == value.to_string()));
    }
    assert!(!found.is_empty() && found.iter().all(|right| *right), "{files:?}");
}

/// Path and content of every limit on memory of the step that runs.
fn limit_files(home: &Path) -> Vec<(PathBuf, String)> {
    let traces: Value =
        serde_json::from_slice(&fs::read(home.join("runs/latest/sweep.json")).unwrap()).unwrap();
    let cgroups =
        traces["job"]["cgroups"].as_array().unwrap().iter().map(|path| PathBuf::from(path.as_str().unwrap()));
    cgroups
        .flat_map(|cgroup| {
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max"]
                .map(|name| cgroup.join("step-1").join(name))
        })
        .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text.trim().to_owned())))
        .collect()
}

#[test]
fn a_fork_bomb_is_refused() {
    require!(Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "limits: {pids: 64}\n\
        steps:\n\
        \x20 - {run: [/opt/probe, fork-bomb, \"500\"]}\n\
        \x20 - {run: '/opt/probe fork-bomb 500; exit 1'}\n",
        5,
    );
    // It was told that there is no more, and ended well: no failure.
    assert_eq!(run.step(0)["outcome"], "success");
    let told = told(&run, 0);
    assert_eq!(told["errno"], "EAGAIN");
    assert!((32..64).contains(&told["forked"].as_u64().unwrap()), "{told}");
    let step = run.step(1);
    assert_eq!(
        [&step["outcome"], &step["exit_code"], &step["limits"]["pids"]],
        [&json!("pids"), &json!(1), &json!(64)]
    );
    let peak = step["usage"]["pids_peak"].as_u64().unwrap();
    assert!((32..=64).contains(&peak), "{peak}");
    let said = shown(&run);
    assert!(said.contains("process limit of 64 met") && said.contains("raise `limits.pids`"), "{said}");
    before.assert_nothing_new();
}

#[test]
fn a_wild_fork_bomb_leaves_nothing() {
    require!(Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "limits: {pids: 64, cpus: 1}\ngrace: 1s\nsteps: [{run: [/opt/probe, fork-bomb-wild], timeout: 1s}]\n",
        4,
    );
    assert_eq!(run.step(0)["outcome"], "timeout");
    assert!(run.step(0)["usage"]["pids_peak"].as_u64().unwrap() <= 64, "{:#}", run.step(0));
    assert_eq!(run.text(0), "");
    before.assert_nothing_new();
}

#[test]
fn half_a_cpu_is_half_a_cpu() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "limits: {cpus: 0.5}\nsteps:\n  - nproc; echo $RUNNER_CPUS\n  - run: [/opt/probe, burn-cpu, \"1.5\", \"2\"]\n",
        0,
    );
    assert_eq!(run.text(0), "1\n1\n");
    assert!((0.01..0.75).contains(&cpu_share(&run, 1)), "{:#}", run.step(1));
    assert_eq!(run.step(1)["limits"]["cpus"], 0.5);
}

/// A tenth, so that the step meets its limit on a busy machine too.
#[test]
fn time_that_the_limit_took_is_counted() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let burn = "steps:\n  - run: [/opt/probe, burn-cpu, \"1\", \"2\"]\n";
    let run = lab.exec(&format!("limits: {{cpus: 0.1}}\n{burn}"), 0);
    assert!((0.01..0.3).contains(&cpu_share(&run, 0)), "{:#}", run.step(0));
    assert!(run.step(0)["usage"]["throttled_s"].as_f64().unwrap() > 0.0, "{:#}", run.step(0));
}

/// CPU seconds per second of a step.
fn cpu_share(run: &Run, index: usize) -> f64 {
    let usage = &run.step(index)["usage"];
    usage["cpu_s"].as_f64().unwrap() / usage["wall_s"].as_f64().unwrap()
}

#[test]
fn a_step_that_ignores_term_ends_after_the_grace() {
    require!(Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "grace: 1s\nsteps:\n  - {run: [/opt/probe, ignore-term, \"3600\"], timeout: 2s}\n  - 'true'\n",
        4,
    );
    let step = run.step(0);
    assert_eq!(
        [&step["outcome"], &step["killed_by"], &step["signal"]],
        [&json!("timeout"), &json!("timeout"), &json!(9)]
    );
    let cause = step["cause"].as_str().unwrap();
    assert!(cause.contains("timeout of 2s") && cause.contains("ignored SIGTERM"), "{cause}");
    assert_eq!(run.step(1)["outcome"], "skipped");
    before.assert_nothing_new();
}

#[test]
fn the_jobs_timeout_ends_a_step_too() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("timeout: 1h\nsteps: [{run: [/opt/probe, sleep, \"3600\"]}]\n");
    let run = lab.finished(lab.context.run(&["exec", "--timeout", "1s"]).expect_code(4));
    assert!(run.step(0)["cause"].as_str().unwrap().contains("the job ran longer than its timeout of 1s"));
    assert_eq!(run.step(0)["outcome"], "timeout");
}

#[test]
fn open_files_are_counted() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec("limits: {files: 64}\nsteps:\n  - run: [/opt/probe, open-files, \"1000\"]\n", 0);
    let told = told(&run, 0);
    assert_eq!(told["errno"], "EMFILE");
    assert!((50..64).contains(&told["opened"].as_u64().unwrap()), "{told}");
}

#[test]
fn a_log_is_cut_and_the_step_goes_on() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec("limits: {log: 100K}\nsteps:\n  - /opt/probe write-flood 10000000; touch after\n", 0);
    assert!(lab.context.work().join("after").exists());
    let log = &run.step(0)["log"];
    assert_eq!([&log["bytes"], &log["dropped_bytes"]], [&json!(102_400), &json!(10_000_000 - 102_400)]);
    let kept = run.log(0);
    let flood = [&[b'x'; 79][..], b"\n"].concat().repeat(102_400 / 80);
    assert!(kept.starts_with(&flood), "what came before the limit is kept");
    let marker = String::from_utf8_lossy(&kept[102_400..]);
    assert!(
        marker.contains("[runner: log limit reached") && marker.contains("dropped 9897600 bytes"),
        "{marker}"
    );
    assert!(shown(&run).contains("log limit reached"), "{}", shown(&run));
}

#[test]
fn flags_win_over_the_file() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("limits: {pids: 500, files: 100}\nsteps:\n  - run: [/opt/probe, open-files, \"1000\"]\n");
    let run = lab.finished(lab.context.run(&["exec", "--limits", "pids=20,memory=32M"]).expect_code(0));
    let limits = &run.step(0)["limits"];
    assert_eq!([&limits["pids"], &limits["memory_bytes"]], [&json!(20), &json!(32 << 20)]);
    assert!(told(&run, 0)["opened"].as_u64().unwrap() < 100);
}

/// cgroup v1 cannot be delegated: a cap that an ordinary user asks for is refused there, never dropped.
#[test]
fn a_cap_that_cannot_be_applied_is_refused() {
    require!(Root, CgroupV1, UserNamespaces, Busybox, Program("setpriv"));
    for (limit, value) in [("memory", "64M"), ("pids", "64"), ("cpus", "0.5")] {
        let lab = Lab::new(User::OneId);
        let job = format!("limits: {{{limit}: {value}}}\nsteps: [touch made]\n");
        let run = lab.exec(&job, 3);
        let said = shown(&run);
        assert!(said.contains(&format!("limit `{limit}` cannot be applied here")), "{said}");
        assert!(said.contains("hint: "), "{said}");
        assert!(!lab.context.work().join("made").exists());
    }
}

/// Counted by whoever reads files, and by whoever asks the scheduler.
const COUNTS: &str = "cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo; nproc; \
                      sed -n \"s/^MemTotal: *//p; s/^MemAvailable: *//p\" /proc/meminfo";

/// In pairs: with caps, the caps; without, the machine. Programs size their workers and heaps by these files.
#[test]
fn files_of_the_kernel_tell_of_the_caps() {
    require!(Cgroups, Busybox);
    let before = Leftovers::now();
    // Other users have no cgroup of their own here. `test-v2-user` is one that has.
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        &format!(
            "limits: {{cpus: 1, memory: 256M}}\nsteps:\n  - '{COUNTS}'\n  - {{user: \"0\", run: '! echo 1 > /proc/meminfo'}}\n"
        ),
        0,
    );
    let text = run.text(0);
    let lines: Vec<&str> = text.lines().collect();
    let [online, listed, scheduled, total, available] = lines[..] else { unreachable!("{text}") };
    assert!(online.parse::<u32>().is_ok(), "one processor: {online}");
    assert_eq!([listed, scheduled], ["1", "1"], "{text}");
    assert_eq!(total, "262144 kB");
    assert!(available.split(' ').next().unwrap().parse::<u64>().unwrap() <= 262_144, "{available}");
    let run = lab.exec(&format!("steps:\n  - '{COUNTS}'\n"), 0);
    let text = run.text(0);
    let lines: Vec<&str> = text.lines().collect();
    let host = fs::read_to_string("/proc/meminfo").unwrap();
    assert!(host.contains(lines[3]), "without a cap, the machine's memory: {text}");
    assert_eq!(lines[1], lines[2], "{text}");
    before.assert_nothing_new();
}

/// Who writes too much is ended, wherever it writes and however it hides it; who writes less is measured.
fn too_much(user: User) {
    let before = Leftovers::now();
    let lab = Lab::new(user);
    let wait = "/opt/probe sleep 3600";
    let run = lab.exec(
        &format!(
            "limits: {{disk: 16M}}\nuser: \"0\"\nsteps:\n\
            \x20 - {{run: '/opt/probe write-file /tmp/little 4194304', continue-on-error: true}}\n\
            \x20 - {{run: '/opt/probe write-file /tmp/big 33554432; {wait}', continue-on-error: true}}\n\
            \x20 - {{run: '/opt/probe write-file big 20971520; {wait}', continue-on-error: true}}\n\
            \x20 - {{run: 'mkdir d; /opt/probe write-file d/big 20971520; chmod 0 d; {wait}', continue-on-error: true}}\n\
            \x20 - {{run: '/opt/probe write-file /tmp/big 33554432', continue-on-error: true}}\n"
        ),
        0,
    );
    let little = run.step(0);
    assert_eq!(little["outcome"], "success", "{little:#}");
    let used = little["usage"]["disk"].as_u64().unwrap();
    assert!((4 << 20..6 << 20).contains(&used), "{used}");
    assert_eq!(little["limits"]["disk_bytes"], 16 << 20);
    for (index, path) in [(1, "/tmp/big"), (2, "/workspace/big"), (3, "/workspace/d/big"), (4, "/tmp/big")] {
        let step = run.step(index);
        assert_eq!([&step["outcome"], &step["killed_by"]], [&json!("disk"), &json!("disk")], "{step:#}");
        assert_eq!(step["disk"]["limit_bytes"], 16 << 20);
        assert!(step["disk"]["bytes"].as_u64().unwrap() > 16 << 20, "{step:#}");
        assert_eq!(step["disk"]["biggest"][0]["path"], path, "{step:#}");
        assert!(step["cause"].as_str().unwrap().contains(path), "{step:#}");
    }
    fs::set_permissions(lab.context.work().join("d"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    before.assert_nothing_new();
}

#[test]
fn as_root_who_writes_too_much_is_ended() {
    require!(Root, Cgroups, Busybox);
    too_much(User::Current);
}

#[test]
fn with_subids_who_writes_too_much_is_ended() {
    require!(UserNamespaces, Newuidmap, Busybox);
    too_much(User::WithSubids);
}

#[test]
fn with_one_id_who_writes_too_much_is_ended() {
    require!(Root, UserNamespaces, Busybox);
    too_much(User::OneId);
}

#[test]
fn a_run_that_filled_its_disk_exits_with_5() {
    require!(Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec("limits: {disk: 4M}\nsteps: ['/opt/probe write-file /tmp/big 8388608']\n", 5);
    let said = shown(&run);
    // How much it was when it was seen is a matter of luck.
    let told =
        said.lines().find_map(|line| line.trim().strip_prefix("cause: disk limit of 4M met: it wrote "));
    assert!(told.is_some_and(|told| told.contains("; largest: /tmp/big ")), "{said}");
    assert!(said.contains("raise `limits.disk`"), "{said}");
    assert_eq!(run.record["outcome"], "disk");
}

/// In pairs, and as a ratio: with a cap, the same bytes take many times as long.
#[test]
fn a_disk_gives_no_more_than_it_may() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let copy = "dd if=/dev/zero of=/workspace/data bs=65536 count=32 oflag=direct 2>&1";
    let wall = |run: &Run| run.step(0)["usage"]["wall_s"].as_f64().unwrap();
    let free = lab.exec(&format!("steps: ['{copy}']\n"), 0);
    let capped = lab.exec(&format!("limits: {{io: {{write: 1M}}, cpu-weight: 50}}\nsteps: ['{copy}']\n"), 0);
    assert!(wall(&capped) > 4.0 * wall(&free), "{} and {}", wall(&capped), wall(&free));
    let limits = &capped.step(0)["limits"];
    assert_eq!([&limits["cpu_weight"], &limits["io"]["write_bytes"]], [&json!(50), &json!(1 << 20)]);
    assert!(limits["io"]["devices"][0].as_str().is_some_and(|device| device.contains(':')), "{limits}");
    assert!(capped.step(0)["usage"]["io_w"].as_u64().unwrap() >= 2 << 20, "{:#}", capped.step(0));
    assert_eq!(free.step(0)["limits"].get("io"), None);
}

/// What lies on no disk cannot be capped, and says so.
#[test]
fn a_disk_that_is_none_is_refused() {
    require!(Root, Cgroups, Busybox, Program("mount"));
    let lab = Lab::new(User::Current);
    let place = lab.context.work().join("memory");
    fs::create_dir(&place).unwrap();
    let mount =
        |words: &[&str]| std::process::Command::new(words[0]).args(&words[1..]).arg(&place).status().unwrap();
    assert!(mount(&["mount", "-t", "tmpfs", "none"]).success());
    lab.context.write(
        "job.yml",
        "image: ./rootfs.tar\nnetwork: none\nmounts: ['./memory:/memory:rw']\nlimits: {io: {read: 1M}}\nsteps: ['true']\n",
    );
    let ran = lab.context.run(&["exec", "job.yml"]);
    assert!(mount(&["umount"]).success());
    let said = ran.expect_code(3).stderr_text();
    assert!(said.contains("limit `io` cannot be applied here") && said.contains("is on no disk"), "{said}");
}
