//! A job's network seen from inside: what it reaches, what it does not, with which errno, and what is told of it. The world
//! is two namespaces of this machine (`world`).
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::Ordering;

use fixtures::{Leftovers, User, require, wait_for};
use lab::{Lab, Run};
use serde_json::{Value, json};
use world::World;

/// A lab whose steps have the network that a test names, in a world.
struct Place {
    lab: Lab,
    world: World,
}

impl Place {
    fn new(user: User, v6: bool) -> Self {
        let (lab, world) = (Lab::new(user), World::new(v6));
        if user != User::Current {
            // The machine's own may be closed to ordinary users; a node of our own is not.
            let node = lab.context.path("tun");
            let made = Command::new("mknod").args(["-m", "666"]).arg(&node).args(["c", "10", "200"]).status();
            assert!(made.unwrap().success());
            world.open_tun(&node);
        }
        Self { lab, world }
    }

    /// Runs steps under this network.
    #[track_caller]
    fn exec(&self, network: &str, steps: &str, code: i32) -> Run {
        self.write(network, steps);
        let ran = self.lab.context.finish(&mut self.command(&["exec", "job.yml"]));
        self.lab.finished(ran.expect_code(code))
    }

    fn write(&self, network: &str, steps: &str) {
        self.lab.write(&format!("{network}\nsteps:\n{steps}"));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.world.within(&self.lab.context.command(arguments))
    }

    /// A step's `network.json`, if it was written.
    fn record(&self, run: &Run) -> Option<Value> {
        let id = run.record["id"].as_str().unwrap();
        let log = run.step(0)["log"]["path"].as_str().unwrap();
        let path = self.lab.context.home().join("runs").join(id).join(log).with_file_name("network.json");
        fs::read(path).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// What becomes of these targets in a step.
    #[track_caller]
    fn reach(&self, network: &str, targets: &[&str]) -> (Value, Run) {
        let words: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let run = self.exec(network, &format!("  - run: [/opt/probe, reach, {}]\n", words.join(", ")), 0);
        let text = run.text(0);
        let told: Result<Value, _> = serde_json::from_str(&text);
        assert!(told.is_ok(), "{text}");
        (told.unwrap(), run)
    }
}

/// The targets of a list in a record.
fn targets(lines: &Value) -> Vec<String> {
    let one = |line: &Value| {
        let host = line["name"].as_str().or(line["address"].as_str()).unwrap_or("?").to_owned();
        line["port"].as_u64().map_or(host.clone(), |port| format!("{host}:{port}"))
    };
    lines.as_array().unwrap().iter().map(one).collect()
}

/// What every job with `full` sees, whoever started the runner.
fn full(user: User) {
    let before = Leftovers::now();
    {
        let place = Place::new(user, true);
        let expected = [
            ("tcp:203.0.113.1:80", "hello"),
            ("tcp:203.0.113.9:8000", "hello"),
            ("tcp:[2001:db8:1::1]:80", "hello"),
            ("udp:203.0.113.1:7", "hello"),
            ("dns:a.example.test", "203.0.113.1"),
            ("dns6:a.example.test", "2001:db8:1::1"),
            ("dnstcp:b.example.test", "203.0.113.9"),
            ("dns:nobody.example.test", "NXDOMAIN"),
            // Nobody listens, nobody is there, nothing leads there.
            ("tcp:203.0.113.1:9", "ECONNREFUSED"),
            ("tcp:[2001:db8:1::1]:9", "ECONNREFUSED"),
            ("udp:203.0.113.1:9", "ECONNREFUSED"),
            ("tcp:198.51.100.1:80", "EHOSTUNREACH"),
            // The host, by each of its addresses, and what is near it.
            ("tcp:203.0.113.2:80", "EHOSTUNREACH"),
            ("udp:203.0.113.2:7", "EHOSTUNREACH"),
            ("tcp:[2001:db8:1::2]:80", "EACCES"),
            ("tcp:127.0.0.1:80", "ECONNREFUSED"),
            ("tcp:[::1]:80", "ECONNREFUSED"),
            ("tcp:[::ffff:127.0.0.1]:80", "ECONNREFUSED"),
            ("tcp:10.0.2.2:80", "EHOSTUNREACH"),
            ("tcp:10.0.2.3:80", "EHOSTUNREACH"),
            ("tcp:10.0.2.100:1", "EHOSTUNREACH"),
            ("tcp:169.254.169.254:80", "EHOSTUNREACH"),
            ("udp:169.254.169.254:53", "EHOSTUNREACH"),
            ("tcp:100.100.100.200:80", "EHOSTUNREACH"),
            ("tcp:[fd00:ec2::254]:80", "EACCES"),
            ("tcp:[2002:cb00:7101::1]:80", "EACCES"),
            ("tcp:[64:ff9b::cb00:7101]:80", "EACCES"),
            ("tcp:[2001::1]:80", "EACCES"),
            ("tcp:240.0.0.1:80", "EHOSTUNREACH"),
            // Names that lead to it: the address counts, whatever its name.
            ("dns:loopback.example.test", "127.0.0.1"),
            ("dns:near.example.test", "203.0.113.2"),
        ];
        let names: Vec<&str> = expected.iter().map(|(target, _)| *target).collect();
        let (seen, run) = place.reach("network: full", &names);
        for (target, end) in expected {
            assert_eq!(seen[target], end, "{target} ({user:?})\n{seen:#}");
        }
        assert_eq!(place.world.visits.load(Ordering::SeqCst), 0, "a service of the host was reached");
        let record = place.record(&run).unwrap();
        assert!(targets(&record["blocked"]).contains(&"169.254.169.254:80".to_owned()), "{record:#}");
        assert!(targets(&record["failed"]).contains(&"a.example.test:9".to_owned()), "{record:#}");
        let said = run.ran.stderr_text() + &run.ran.stdout_text();
        assert!(said.contains("network: blocked 169.254.169.254:80 (step step-1)"), "{said}");
    }
    before.assert_nothing_new();
}

#[test]
fn as_root_the_world_is_reached_and_the_host_is_not() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    full(User::Current);
}

#[test]
fn with_subids_the_world_is_reached_and_the_host_is_not() {
    require!(Root, Tun, UserNamespaces, Newuidmap, Busybox, Program("ip"), Program("nsenter"));
    full(User::WithSubids);
}

#[test]
fn with_one_id_the_world_is_reached_and_the_host_is_not() {
    require!(Root, Tun, UserNamespaces, Busybox, Program("ip"), Program("nsenter"));
    full(User::OneId);
}

/// The pair of `full`: the same targets with nothing but a loopback.
#[test]
fn without_a_network_nothing_is_reached() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let targets = ["tcp:203.0.113.1:80", "udp:203.0.113.1:7", "tcp:[2001:db8:1::1]:80"];
    let (seen, _) = place.reach("network: none", &targets);
    for (target, end) in seen.as_object().unwrap() {
        assert_eq!(end, "ENETUNREACH", "{target}");
    }
}

#[test]
fn a_list_holds_whatever_is_tried() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let network = "network: {allow: [a.example.test:80, \"*.deb.example.test:8000\", \"203.0.113.9:443\"]}";
    let expected = [
        // Before its name was asked for, an address is nobody's.
        ("tcp:203.0.113.1:80", "EHOSTUNREACH"),
        ("dns:a.example.test", "203.0.113.1"),
        ("http:crates.example.test@203.0.113.1:80", "HTTP/1.1 200 OK"),
        ("tcp:203.0.113.9:443", "hello"),
        // Another port, another address, another protocol version.
        ("tcp:203.0.113.1:443", "EHOSTUNREACH"),
        ("tcp:203.0.113.1:8000", "EHOSTUNREACH"),
        ("tcp:203.0.113.9:80", "EHOSTUNREACH"),
        ("tcp:[2001:db8:1::1]:80", "EACCES"),
        ("udp:203.0.113.1:7", "EHOSTUNREACH"),
        // Other names, by UDP and TCP, and the resolver itself.
        ("dns:b.example.test", "NXDOMAIN"),
        ("dnstcp:b.example.test", "NXDOMAIN"),
        ("dns:deb.example.test", "NXDOMAIN"),
        ("dns:evil-a.example.test", "NXDOMAIN"),
        ("udp:203.0.113.1:53", "EHOSTUNREACH"),
        ("tcp:203.0.113.1:53", "EHOSTUNREACH"),
        // A name below, and then its port.
        ("dnstcp:one.deb.example.test", "203.0.113.1"),
        // IPv6 counts once it was answered.
        ("dns6:a.example.test", "2001:db8:1::1"),
    ];
    let names: Vec<&str> = expected.iter().map(|(target, _)| *target).collect();
    let (seen, run) = place.reach(network, &names);
    for (target, end) in expected {
        assert_eq!(seen[target], end, "{target}\n{seen:#}");
    }
    let record = place.record(&run).unwrap();
    let blocked = targets(&record["blocked"]);
    for target in ["b.example.test", "a.example.test:443", "203.0.113.9:80"] {
        assert!(blocked.contains(&target.to_owned()), "{target} is not in {blocked:?}");
    }
    for name in ["b.example.test", "evil-a.example.test"] {
        assert_eq!(place.world.questions(name), 0, "{name} was asked for in the world");
    }
    // What the client said is kept as evidence, and decides nothing.
    let line = record["connections"].as_array().unwrap().iter().find(|line| line["port"] == 80).unwrap();
    assert_eq!((&line["name"], &line["said"]), (&json!("a.example.test"), &json!("crates.example.test")));

    let (seen, _) = place.reach(
        network,
        &[
            "dns:one.deb.example.test",
            "tcp:203.0.113.1:8000",
            "dns6:a.example.test",
            "tcp:[2001:db8:1::1]:80",
        ],
    );
    assert_eq!(seen["tcp:203.0.113.1:8000"], "hello", "{seen:#}");
    assert_eq!(seen["tcp:[2001:db8:1::1]:80"], "hello", "{seen:#}");
}

/// An empty list is a network with nobody in it.
#[test]
fn an_empty_list_lets_nothing_out() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, false);
    let (seen, _) = place.reach("network: {allow: []}", &["dns:a.example.test", "tcp:203.0.113.1:80"]);
    assert_eq!(seen, json!({"dns:a.example.test": "NXDOMAIN", "tcp:203.0.113.1:80": "EHOSTUNREACH"}));
}

#[test]
fn without_ipv6_none_is_offered() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, false);
    let (seen, _) = place.reach(
        "network: full",
        &["dns6:a.example.test", "dns:a.example.test", "tcp:[2001:db8:1::1]:80", "tcp:203.0.113.1:80"],
    );
    assert_eq!(seen["dns6:a.example.test"], "NONE");
    assert_eq!(seen["dns:a.example.test"], "203.0.113.1");
    assert_eq!(seen["tcp:[2001:db8:1::1]:80"], "ENETUNREACH");
    assert_eq!(seen["tcp:203.0.113.1:80"], "hello");
}

/// A resolver on this machine's loopback, as systemd's, is asked by the worker and closed to the job.
#[test]
fn a_resolver_that_is_gone_is_passed_over() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    place.world.resolv_conf("nameserver 127.0.0.53\nnameserver 203.0.113.1\n");
    let (seen, run) = place.reach("network: full", &["dns:a.example.test"]);
    assert_eq!(seen["dns:a.example.test"], "203.0.113.1");
    let run_again = place.exec("network: full", "  - cat /etc/resolv.conf /etc/hosts\n", 0);
    let inside = run_again.text(0);
    assert!(inside.starts_with("nameserver 10.0.2.3\n127.0.0.1 localhost"), "{inside}");
    drop(run);
}

/// The job's own network gives way where the host has one of that number.
#[test]
fn addresses_that_the_host_uses_are_left_to_it() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    place.world.near("ip link add lan type veth peer name lan-end");
    place.world.near("ip addr add 10.0.2.1/24 dev lan");
    place.world.near("ip link set lan up");
    let (seen, _) = place.reach("network: full", &["tcp:203.0.113.1:80", "tcp:10.0.2.1:80"]);
    assert_eq!(seen["tcp:203.0.113.1:80"], "hello");
    assert_eq!(seen["tcp:10.0.2.1:80"], "EHOSTUNREACH", "it is an address of the host");
}

/// Bytes arrive whole in both directions, past every buffer and by splice, and are counted.
#[test]
fn bytes_arrive_and_are_counted() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let bytes = 50_000_001;
    let run = place.exec(
        "network: full",
        &format!(
            "  - run: [/opt/probe, fetch, \"203.0.113.1:80\", \"{bytes}\"]\n\
             \x20 - run: [/opt/probe, send, \"[2001:db8:1::1]:80\", \"{bytes}\"]\n\
             \x20 - run: [/opt/probe, drop-off, \"203.0.113.1:8000\", \"3000000\"]\n"
        ),
        0,
    );
    assert_eq!((run.text(0), run.text(1)), (format!("{bytes}\n"), format!("{bytes}\n")));
    let usage = |index: usize, key: &str| run.step(index)["usage"][key].as_u64().unwrap();
    assert_eq!(usage(0, "net_r"), bytes);
    assert!((bytes..bytes + 100).contains(&usage(1, "net_w")), "{}", usage(1, "net_w"));
    // The last step ended without waiting: what it wrote gets out all the same.
    let all = bytes + 3_000_000;
    assert!(
        wait_for(|| place.world.received.load(Ordering::SeqCst) == all),
        "{} of {all} arrived",
        place.world.received.load(Ordering::SeqCst)
    );
}

/// `limits.net` holds: what is asked for under a cap takes as long as it must, and without one it does not.
#[test]
fn a_cap_slows_the_job_down() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let steps = "  - run: [/opt/probe, fetch, \"203.0.113.1:80\", \"2000000\"]\n\
        \x20 - run: [/opt/probe, send, \"203.0.113.1:80\", \"2000000\"]\n";
    let seconds = |run: &Run, index: usize| run.step(index)["usage"]["wall_s"].as_f64().unwrap();
    let capped = place.exec("network: full\nlimits: {net: {rx: 1000K, tx: 1000K}}", steps, 0);
    let free = place.exec("network: full", steps, 0);
    for index in [0, 1] {
        assert_eq!(capped.text(index), "2000000\n");
        // 1,000 KiB a second, and at most 64 KiB saved up.
        assert!(seconds(&capped, index) > 1.5, "{}", seconds(&capped, index));
        assert!(seconds(&capped, index) > 2.0 * seconds(&free, index));
    }
}

/// A cap that cannot be kept is an error, not a wish.
#[test]
fn a_cap_on_the_hosts_network_is_refused() {
    require!(Root, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("network: host\nlimits: {net: {rx: 1M}}\nsteps: [touch ran]\n");
    let ran = lab.context.run(&["exec", "job.yml"]).expect_code(2);
    assert!(
        ran.stderr_text().contains("cannot keep `limits.net` with `network: host`"),
        "{}",
        ran.stderr_text()
    );
    assert!(!lab.context.work().join("ran").exists());
}

#[test]
fn many_connections_at_once_do_not_stop_the_others() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let steps = "  - |\n    /opt/probe stall 203.0.113.1:80 200 > stalled &\n    \
        until grep -qs ready stalled; do sleep 0.05; done\n    \
        /opt/probe fetch 203.0.113.1:80 1000000\n    /opt/probe connects 203.0.113.1:80 500 > /dev/null\n    \
        kill $!\n";
    let run = place.exec("network: full", steps, 0);
    assert_eq!(run.text(0), "1000000\n");
}

/// Raw sockets, a look at the tun device, other ways out: all shut, with root inside and without.
#[test]
fn the_interface_cannot_be_changed_from_inside() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let tries = "  - |\n    ! ip link set tun0 down 2>/dev/null\n    ! ip addr add 203.0.113.50/24 dev tun0 2>/dev/null\n    \
        ! ip route add 203.0.113.0/24 via 10.0.2.9 2>/dev/null\n    ! ip link add dummy0 type dummy 2>/dev/null\n    \
        ! test -e /dev/net/tun\n    ! ping -c 1 -W 1 203.0.113.1 >/dev/null 2>&1\n    \
        cat /proc/net/tcp | tail -n +2 | wc -l\n    ls /proc | grep -c '^[0-9]'\n";
    let run = place.exec("network: full", tries, 0);
    // Nothing of ours is visible: no socket, no process but init, the shell and what it runs.
    let text = run.text(0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "0", "a socket of ours is in the job's namespace");
    assert!(lines[1].parse::<u32>().unwrap() <= 4, "{lines:?}");
}

/// SIGKILL of the worker: the job's way out is shut at once, and the job ends with a clear error.
#[test]
fn a_killed_worker_ends_the_job() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let before = Leftovers::now();
    {
        let place = Place::new(User::Current, true);
        place.write(
            "network: full",
            "  - /opt/probe fetch 203.0.113.1:80 10; touch started; sleep 600\n  - echo never\n",
        );
        let mut running = place.command(&["exec", "job.yml"]);
        let child = running
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(wait_for(|| place.lab.context.work().join("started").exists()));
        let worker = worker_of(child.id());
        rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("the network's process ended (signal 9)"), "{said}");
    }
    before.assert_nothing_new();
}

/// SIGKILL of the keeper: nothing of the network stays.
#[test]
fn a_killed_keeper_takes_the_worker_along() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let before = Leftovers::now();
    {
        let place = Place::new(User::Current, true);
        place.write("network: full", "  - touch started; sleep 600\n");
        let mut child =
            place.command(&["exec", "job.yml"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        assert!(wait_for(|| place.lab.context.work().join("started").exists()));
        let worker = worker_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        // This test is its parent now, and has not asked how it ended.
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", worker.as_raw_nonzero()));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        assert!(wait_for(gone), "the worker lives on");
        // The next call finds what stayed on disk.
        place.lab.exec("steps: [echo]\n", 0);
    }
    before.assert_nothing_new();
}

/// The worker holds nothing that it does not need.
#[test]
fn the_worker_has_given_up_its_rights() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    place.write("network: full", "  - touch started; until test -e over; do sleep 0.05; done\n");
    let child = place.command(&["exec", "job.yml"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    assert!(wait_for(|| place.lab.context.work().join("started").exists()));
    let worker = worker_of(child.id()).as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    assert!(field("Uid").split_whitespace().all(|uid| uid.parse::<u32>().unwrap() > 65_536), "{status}");
    assert_eq!(
        (field("Groups"), field("NoNewPrivs"), field("Seccomp")),
        (String::new(), "1".into(), "2".into())
    );
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    // Its cgroup is the run's, and its own.
    let cgroups = fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
    assert!(cgroups.lines().any(|line| line.ends_with("/network")), "{cgroups}");
    place.lab.context.write("over", "");
    assert!(child.wait_with_output().unwrap().status.success());
}

/// The worker of the runner that was started as `nsenter` and became it.
#[track_caller]
fn worker_of(keeper: u32) -> rustix::process::Pid {
    let mut found = None;
    assert!(wait_for(|| {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        found = pids.into_iter().find(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
            stat.contains("(runner-network)") && parent == Some(keeper)
        });
        found.is_some()
    }));
    rustix::process::Pid::from_raw(found.unwrap()).unwrap()
}

/// Without a tun device the run is refused before anything has run, and the fix is named; `none` needs none.
#[test]
fn without_a_tun_device_the_job_is_refused() {
    require!(Root, Tun, UserNamespaces, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let missing = place.lab.context.path("missing");
    fs::write(&missing, "").unwrap();
    fs::set_permissions(&missing, fs::Permissions::from_mode(0o600)).unwrap();
    place.world.open_tun(&missing);
    place.write("network: full", "  - touch ran\n");
    let ran = place.lab.context.finish(&mut place.command(&["exec", "job.yml"])).expect_code(3);
    let said = ran.stderr_text();
    assert!(said.contains("error[E522]: cannot ") && said.contains("/dev/net/tun"), "{said}");
    assert!(said.contains("network: none"), "the hint names a way: {said}");
    assert!(!place.lab.context.work().join("ran").exists());
    place.exec("network: none", "  - touch ran\n", 0);
}

/// `runner exec --suggest-network` prints the list that a run needed, and the list is enough.
#[test]
fn a_list_is_suggested_and_suffices() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let steps = "  - run: [/opt/probe, reach, \"dns:a.example.test\", \"tcp:203.0.113.1:80\", \"tcp:203.0.113.9:443\"]\n";
    place.write("network: full", steps);
    let ran = place
        .lab
        .context
        .finish(&mut place.command(&["exec", "--suggest-network", "job.yml"]))
        .expect_code(0);
    let text = ran.stdout_text();
    let text = &text[text.find("network:\n").unwrap()..];
    assert_eq!(text, "network:\n  allow:\n    - \"203.0.113.9:443\"\n    - \"a.example.test:80\"\n");
    let run = place.exec(text.trim_end(), steps, 0);
    let seen: Value = serde_json::from_str(&run.text(0)).unwrap();
    assert_eq!(seen["tcp:203.0.113.1:80"], "hello", "{seen}");
    assert_eq!(seen["tcp:203.0.113.9:443"], "hello", "{seen}");
}

/// A record is not kept when it is not wanted; what is blocked is told all the same.
#[test]
fn a_record_can_be_declined() {
    require!(Root, Tun, Busybox, Program("ip"), Program("nsenter"));
    let place = Place::new(User::Current, true);
    let (_, run) = place.reach("network: {record: false}", &["tcp:203.0.113.1:80"]);
    assert_eq!(place.record(&run), None);
    let (_, run) = place.reach("network: {record: false}", &["tcp:203.0.113.1:80", "tcp:203.0.113.2:80"]);
    let record = place.record(&run).unwrap();
    assert_eq!(
        (targets(&record["connections"]), targets(&record["blocked"])),
        (vec![], vec!["203.0.113.2:80".into()])
    );
    let ran = place
        .lab
        .context
        .finish(&mut place.command(&["exec", "--suggest-network", "job.yml"]))
        .expect_code(2);
    assert!(ran.stderr_text().contains("record"), "{}", ran.stderr_text());
}
