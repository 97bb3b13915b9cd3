//! Services: started before the steps, ready in every way there is to tell, reached by name, watched, ended after the steps.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;

use fixtures::image::Image;
use fixtures::{Leftovers, User, busybox, require};
use lab::{Lab, Run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use waiting::wait_for_file;

/// A web server as a service: `hello` on port 8000.
const WEB: &str =
    "image: ./rootfs.tar, run: 'mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8000 -h /www'";

/// A service of `run.json`.
#[track_caller]
fn service<'r>(run: &'r Run, name: &str) -> &'r Value {
    let all = run.record["jobs"][0]["services"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| unreachable!())
}

/// Their names and outcomes.
fn ends(run: &Run) -> Vec<(&str, &str)> {
    let all = run.record["jobs"][0]["services"].as_array().unwrap().iter();
    all.map(|one| (one["name"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect()
}

/// A service's log.
fn log(lab: &Lab, run: &Run, name: &str) -> String {
    let path = service(run, name)["log"]["path"].as_str().unwrap();
    let directory = lab.context.home().join("runs").join(run.record["id"].as_str().unwrap());
    fs::read_to_string(directory.join(path)).unwrap()
}

#[test]
fn steps_reach_services_by_name_whatever_tells_that_they_are_ready() {
    require!(Root, Cgroups, Busybox, UserNamespaces, Newuidmap);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        let run = lab.exec(
            &format!(
                "network: services\n\
                services:\n\
                \x20 web: {{{WEB}, ready: {{http: \"http://web:8000/index.html\"}}}}\n\
                \x20 raw: {{image: ./rootfs.tar, run: [nc, -ll, -p, \"9000\", -e, /bin/hostname], ready: {{tcp: 9000}}}}\n\
                \x20 cmd: {{image: ./rootfs.tar, env: {{WORD: yes}}, run: 'sleep 0.1; echo $WORD > /tmp/up; exec sleep 600', ready: {{run: 'grep $WORD /tmp/up'}}}}\n\
                \x20 log: {{image: ./rootfs.tar, run: 'sleep 0.1; echo server is up >&2; exec sleep 600', ready: {{log: is up}}}}\n\
                \x20 six: {{image: ./rootfs.tar, run: [httpd, -f, -p, '[::1]:9006', -h, /etc], ready: {{tcp: 9006}}}}\n\
                steps:\n\
                \x20 - wget -q -O - http://web:8000/index.html; wget -q -O - http://localhost:8000/index.html\n\
                \x20 - nc raw 9000 < /dev/null; wget -q -O - 'http://[::1]:9006/hostname'\n\
                \x20 - test ! -e /tmp/up; test ! -e /www; ! pidof httpd\n\
                \x20 - '! nc -w 2 192.0.2.1 80'\n"
            ),
            0,
        );
        assert_eq!(
            (run.text(0).as_str(), run.text(1).as_str()),
            ("hello\nhello\n", "raw\nsix\n"),
            "{user:?}"
        );
        for (name, by) in [
            ("web", "http 8000 /index.html"),
            ("raw", "tcp 9000"),
            ("cmd", "run"),
            ("log", "log"),
            ("six", "tcp 9006"),
        ] {
            let one = service(&run, name);
            assert_eq!(
                (&one["outcome"], &one["ready_by"]),
                (&"success".into(), &by.into()),
                "{user:?}: {one:#}"
            );
            assert!(one["ready_s"].is_number() && one["image"]["ref"] == "./rootfs.tar", "{one:#}");
            let shown = run.ran.stdout_text();
            assert!(shown.contains(&format!("service {name} ready ")), "{shown}");
        }
        assert_eq!(log(&lab, &run, "log"), "server is up\n");
        let ran = lab.context.run(&["logs", "--service", "log"]).expect_code(0);
        assert_eq!(ran.stdout_text(), "server is up\n");
        let ran = lab.context.run(&["logs", "--service", "nobody"]).expect_code(2);
        assert!(ran.stderr_text().contains("it has cmd, log, raw, six, web"), "{}", ran.stderr_text());
    }
    before.assert_nothing_new();
}

#[test]
fn an_image_says_what_its_service_is() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let tree = busybox::tree().tar();
    let image = |config: &str, at: &str| {
        Image::with_config(std::slice::from_ref(&tree), config).write_layout(&lab.context.work().join(at));
    };
    let server = r#"["sh","-c","trap 'echo bye; exit 3' QUIT; id -un; pwd; echo $WORD $MORE; nc -ll -p $0 -e echo hi & wait; echo over"]"#;
    image(
        &format!(
            r#"{{"Entrypoint":{server},"Cmd":["7000"],"Env":["WORD=image","MORE=image"],"WorkingDir":"/var/tmp","User":"user","ExposedPorts":{{"7000/tcp":{{}},"53/udp":{{}}}},"StopSignal":"SIGQUIT"}}"#
        ),
        "exposes",
    );
    image(
        r#"{"Cmd":["sh","-c","touch /tmp/well; sleep 600"],"Healthcheck":{"Test":["CMD-SHELL","test -e /tmp/well"]}}"#,
        "checks",
    );
    image(r#"{"Cmd":["sleep","600"]}"#, "silent");
    let run = lab.exec(
        "network: services\n\
        services:\n\
        \x20 exposes: {image: \"oci:./exposes:t\", env: {WORD: file, MORE: null}}\n\
        \x20 checks: \"oci:./checks:t\"\n\
        \x20 silent: \"oci:./silent:t\"\n\
        steps: [nc exposes 7000 < /dev/null]\n",
        0,
    );
    assert_eq!(run.text(0), "hi\n");
    assert_eq!(
        log(&lab, &run, "exposes"),
        "user\n/var/tmp\nfile\nbye\n",
        "its own signal ends it in good order"
    );
    let by: Vec<&Value> =
        ["exposes", "checks", "silent"].iter().map(|name| &service(&run, name)["ready_by"]).collect();
    assert_eq!(by, ["tcp 7000", "run", "started"]);
    let code = &service(&run, "exposes")["exit_code"];
    assert_eq!((code, &service(&run, "silent")["signal"]), (&3.into(), &15.into()));
    assert!(run.ran.stdout_text().contains("warning[W421]"), "{}", run.ran.stdout_text());
    // Two images that expose one port cannot be told apart, and an image without a command runs nothing.
    for (services, code) in [
        (
            "{a: \"oci:./exposes:t\", b: \"oci:./exposes:t\"}",
            "error[E251]: services `a` and `b` both have the port 7000",
        ),
        ("{a: ./rootfs.tar}", "error[E258]: service `a` has nothing to run"),
    ] {
        lab.write(&format!("network: services\nservices: {services}\nsteps: ['true']\n"));
        let ran = lab.context.run(&["exec", "job.yml"]).expect_code(2);
        assert!(ran.stderr_text().contains(code), "{}", ran.stderr_text());
    }
    lab.exec(
        "network: services\nservices: {a: \"oci:./exposes:t\", b: {image: \"oci:./exposes:t\", run: [nc, -ll, -p, \"7001\", -e, echo, b], ready: {tcp: 7001}}}\nsteps: [nc b 7001 < /dev/null]\n",
        0,
    );
    before.assert_nothing_new();
}

#[test]
fn a_service_that_fails_fails_the_job_at_once() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    // Before it is ready: no step runs but those that always do.
    let run = lab.exec(
        "network: services\nservices: {db: {image: ./rootfs.tar, run: 'echo cannot bind; exit 4', ready: {tcp: 1}}}\n\
        steps:\n\x20 - touch ran\n\x20 - {run: touch cleaned, if: always()}\n",
        1,
    );
    let db = service(&run, "db");
    assert_eq!((&db["outcome"], &db["exit_code"]), (&"failure".into(), &4.into()));
    assert_eq!(db["cause"], "ended before it was ready: exit code 4");
    let text = run.ran.stdout_text();
    assert!(text.contains("service db: failure") && text.contains("  | cannot bind\n"), "{text}");
    assert!(lab.context.work().join("cleaned").exists() && !lab.context.work().join("ran").exists());
    // In the middle of a step, that is ended; a good end is none.
    let run = lab.exec(
        "network: services\nservices: {db: {image: ./rootfs.tar, run: 'sleep 0.3; echo gone', ready: {run: 'true'}}}\n\
        steps:\n\x20 - {id: long, run: sleep 600, retry: 3}\n\x20 - touch ran\n\x20 - {id: soft, run: 'echo $S', if: failure(), env: {S: \"${{ job.status }}\"}}\n",
        1,
    );
    assert_eq!(service(&run, "db")["cause"], "ended while the job needed it: exit code 0");
    let long = run.step(0);
    assert_eq!((&long["outcome"], &long["attempts"]), (&"cancelled".into(), &1.into()));
    assert_eq!(long["cause"], "service `db`, which the job needs, has ended");
    assert_eq!((run.step(1)["outcome"].as_str(), run.text(2).as_str()), (Some("skipped"), "failure\n"));
    assert!(!lab.context.work().join("ran").exists());
    // Never ready.
    let run = lab.exec(
        "network: services\nservices: {db: {image: ./rootfs.tar, run: 'trap \"\" TERM; echo starting; while true; do sleep 1; done', ready: {run: 'echo no such role; exit 2', timeout: 300ms}}}\n\
        steps: [touch ran]\n",
        4,
    );
    let db = service(&run, "db");
    assert_eq!(db["outcome"], "timeout");
    let expected = "not ready within 300ms: `/bin/sh` ended with exit code 2: no such role";
    assert_eq!(db["cause"], expected, "{db:#}");
    assert!(run.ran.stdout_text().contains("  | starting\n"), "{}", run.ran.stdout_text());
    // A program that is not there, a look that hangs, a port that nobody opens, an answer that is another.
    for (rest, cause) in [
        ("run: [nowhere], ready: {log: x}", "ended before it was ready: `nowhere` is not in the image"),
        (
            "run: [sleep, \"600\"], ready: {run: sleep 600, timeout: 200ms}",
            "not ready within 200ms: it was not looked at",
        ),
        (
            "run: [sleep, \"600\"], ready: {tcp: 4, timeout: 200ms}",
            "not ready within 200ms: port 4: connection refused",
        ),
        (
            "run: [sleep, \"600\"], ready: {log: up, timeout: 200ms}",
            "not ready within 200ms: it has not printed `up`",
        ),
        (
            "run: [httpd, -f, -p, \"80\"], ready: {http: \"http://localhost/none\", timeout: 1s}",
            "not ready within 1s: /none on port 80 is answered with 404, not 200",
        ),
    ] {
        let services = format!("network: services\nservices: {{db: {{image: ./rootfs.tar, {rest}}}}}\n");
        lab.write(&format!("{services}steps: [touch ran]\n"));
        let run = lab.finished(lab.context.run(&["exec", "job.yml"]));
        assert!(matches!(run.ran.code(), Some(1 | 4)), "{}", run.ran.stdout_text());
        assert_eq!(service(&run, "db")["cause"], cause);
    }
    assert!(!lab.context.work().join("ran").exists());
    before.assert_nothing_new();
}

#[test]
fn services_wait_for_those_that_they_need_and_end_before_them() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let one = |name: &str, more: &str, before: &str| {
        format!(
            "  {name}: {{image: ./rootfs.tar, mounts: [\"./shared:/shared:rw\"], run: 'trap \"echo -{name} >> /shared/order; exit 0\" TERM; {before}echo +{name} >> /shared/order; touch /tmp/up; sleep 600 & wait', ready: {{run: test -e /tmp/up}}{more}}}\n"
        )
    };
    fs::create_dir(lab.context.work().join("shared")).unwrap();
    let services = [
        one("app", ", needs: [db, cache]", ""),
        one("db", "", "sleep 0.2; "),
        one("cache", ", needs: [db]", ""),
        "  extra: {image: ./rootfs.tar, run: exit 5, ready: {tcp: 1}, optional: true}\n".to_owned(),
        "  late: {image: ./rootfs.tar, run: sleep 600, ready: {run: 'true'}, needs: [extra], optional: true}\n"
            .to_owned(),
    ];
    let run = lab
        .exec(&format!("network: services\nservices:\n{}steps: [cat shared/order]\n", services.concat()), 0);
    assert_eq!(run.text(0), "+db\n+cache\n+app\n");
    let order = fs::read_to_string(lab.context.work().join("shared/order")).unwrap();
    assert_eq!(order, "+db\n+cache\n+app\n-app\n-cache\n-db\n");
    let expected = [
        ("app", "success"),
        ("db", "success"),
        ("cache", "success"),
        ("extra", "failure"),
        ("late", "skipped"),
    ];
    assert_eq!(ends(&run), expected);
    assert!(run.ran.stdout_text().contains("goes on: the service is optional"), "{}", run.ran.stdout_text());
    before.assert_nothing_new();
}

#[test]
fn an_end_by_force_takes_services_along() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let services = format!(
        "network: services\ngrace: 300ms\nservices:\n  web: {{{WEB}, ready: {{tcp: 8000}}}}\n  deaf: {{image: ./rootfs.tar, run: 'trap \"\" TERM; while true; do sleep 0.1; done', ready: {{run: 'true'}}}}\n"
    );
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        // A signal ends the step; what always runs still has its services, and those end after it.
        lab.write(&format!(
            "{services}steps:\n\x20 - touch one; sleep 600\n\x20 - {{run: wget -q -O cleaned http://web:8000/, if: always()}}\n"
        ));
        let mut command = lab.context.command(&["exec", "job.yml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_file(&lab, &mut child, "one");
        let ps = lab.context.run(&["ps"]).expect_code(0).stdout_text();
        assert!(ps.contains("service web") && ps.contains("step 1 step-1"), "{ps}");
        // Without a cgroup nobody knows which processes are whose.
        assert!(ps.contains("httpd") || user != User::Current, "{ps}");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(lab.context.work().join("cleaned").exists());
        let run = lab.finished(lab.context.run(&["show"]));
        assert_eq!(ends(&run), [("web", "success"), ("deaf", "success")], "{}", run.ran.stdout_text());
        assert_eq!(service(&run, "deaf")["signal"], 9, "what does not listen is killed");
        // While they are starting.
        lab.write("network: services\nservices: {slow: {image: ./rootfs.tar, mounts: [\".:/here:rw\"], run: touch /here/two; sleep 600, ready: {log: never}}}\nsteps: [touch ran]\n");
        let mut command = lab.context.command(&["exec", "job.yml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_file(&lab, &mut child, "two");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
        assert!(!lab.context.work().join("ran").exists());
        // The keeper's death.
        lab.write(&format!("{services}steps: [touch three; sleep 600]\n"));
        let mut command = lab.context.command(&["exec", "job.yml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_file(&lab, &mut child, "three");
        child.kill().unwrap();
        child.wait().unwrap();
        lab.exec("steps: ['true']\n", 0);
    }
    before.assert_nothing_new();
}

#[test]
fn a_published_port_leads_to_the_service_from_this_machine_alone() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let job = format!(
        "network: services\nservices:\n  web: {{{WEB}, ready: {{tcp: 8000}}, ports: [\"{port}:8000\"]}}\n\
        steps: [touch up; until test -e done; do sleep 0.05; done]\n"
    );
    // Taken: nothing is started.
    lab.write(&job);
    let ran = lab.context.run(&["exec", "job.yml"]).expect_code(3);
    let expected = format!("error[E259]: cannot publish port 8000 of service `web` on 127.0.0.1:{port}");
    assert!(ran.stderr_text().contains(&expected), "{}", ran.stderr_text());
    drop(free);
    let mut command = lab.context.command(&["exec", "job.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "up");
    let mut answers = Vec::new();
    for _ in 0..20 {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answers.push(answer);
    }
    lab.context.write("done", "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(answers.iter().all(|answer| answer.ends_with("\r\n\r\nhello\n")), "{answers:?}");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it is closed with the job");
    before.assert_nothing_new();
}

#[test]
fn services_have_secrets_limits_and_attempts_of_their_own() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.write(
        "network: services\n\
        secrets: {PASSWORD: {env: PASSWORD}}\n\
        retry: 1\n\
        services:\n\
        \x20 db:\n\
        \x20   image: ./rootfs.tar\n\
        \x20   user: user\n\
        \x20   secrets: [PASSWORD]\n\
        \x20   limits: {memory: 64M, pids: 77}\n\
        \x20   shm: 1M\n\
        \x20   run: 'id -u; cat /run/secrets/PASSWORD; echo; echo $PASSWORD; df -k /dev/shm | tail -n 1; env | grep RUNNER_ || echo none; test -e /workspace || echo up; sleep 600'\n\
        \x20   ready: {log: up}\n\
        steps: ['test ! -e /run/secrets; test -z \"$PASSWORD\"; test -e again || { touch again; exit 1; }']\n",
    );
    let mut command = lab.context.command(&["exec", "job.yml", "--secret", "PASSWORD"]);
    command.env("PASSWORD", "correct-horse-7");
    let run = lab.finished(lab.context.finish(&mut command).expect_code(0));
    let text = log(&lab, &run, "db");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..3], ["1000", "***", "***"], "{text}");
    assert!(lines[3].contains(" 1024 ") && lines[4] == "none" && text.ends_with("up\n"), "{text}");
    assert_eq!(service(&run, "db")["limits"]["memory_bytes"], 64 << 20);
    assert_eq!(service(&run, "db")["limits"]["pids"], 77);
    let earlier = &run.record["jobs"][0]["earlier"][0]["services"][0];
    assert_eq!((&earlier["name"], &earlier["outcome"]), (&"db".into(), &"success".into()));
    assert_eq!(earlier["log"]["path"], "jobs/job/attempt-1/services/db/log");
    before.assert_nothing_new();
}

#[test]
fn services_share_the_jobs_network_and_its_rules() {
    require!(Root, Cgroups, Busybox, Tun);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        &format!(
            "network: {{allow: [192.0.2.7:80]}}\n\
            services:\n\
            \x20 web: {{{WEB}, env: {{WHERE: \"${{{{ run.id }}}}\"}}, ready: {{tcp: 8000}}}}\n\
            \x20 asks: {{image: ./rootfs.tar, run: 'nc -w 5 192.0.2.9 80 < /dev/null || echo refused; sleep 600', ready: {{log: refused}}}}\n\
            steps:\n\
            \x20 - wget -q -O - http://web:8000/\n\
            \x20 - '! nc -w 5 192.0.2.9 80 < /dev/null'\n"
        ),
        0,
    );
    assert_eq!(run.text(0), "hello\n");
    assert!(log(&lab, &run, "asks").contains("refused\n"));
    let shown = run.ran.stdout_text();
    assert!(shown.contains("network: blocked 192.0.2.9:80"), "{shown}");
    before.assert_nothing_new();
}

/// A real one: PostgreSQL as Debian has it.
#[test]
fn postgresql_is_used_by_name_when_it_is_ready() {
    require!(Root, Cgroups, DebianWith(&["postgresql"]));
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let rootfs = fixtures::debian::tarball(&["postgresql"], fixtures::Compression::None);
    std::os::unix::fs::symlink(rootfs, lab.context.work().join("postgres.tar")).unwrap();
    lab.context.write(
        "job.yml",
        "image: ./postgres.tar\n\
        network: services\n\
        services:\n\
        \x20 db:\n\
        \x20   image: ./postgres.tar\n\
        \x20   user: postgres\n\
        \x20   env: {PATH: /usr/lib/postgresql/15/bin:/usr/bin:/bin, PGDATA: /tmp/data}\n\
        \x20   run: |\n\
        \x20     initdb -A trust > /dev/null\n\
        \x20     echo host all all 127.0.0.1/32 trust >> $PGDATA/pg_hba.conf\n\
        \x20     exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off\n\
        \x20   stop-signal: SIGINT\n\
        \x20   ready: {run: pg_isready -h localhost}\n\
        steps:\n\
        \x20 - psql -h db -U postgres -c 'create table t (n int)' -c 'insert into t select generate_series(1, 1000)'\n\
        \x20 - psql -h db -U postgres -At -c 'select sum(n) from t'\n",
    );
    let run = lab.finished(lab.context.run(&["exec", "job.yml"]).expect_code(0));
    assert_eq!(run.text(1), "500500\n");
    let db = service(&run, "db");
    assert_eq!(
        (&db["outcome"], &db["ready_by"], &db["exit_code"]),
        (&"success".into(), &"run".into(), &0.into())
    );
    let text = log(&lab, &run, "db");
    assert!(
        text.contains("ready to accept connections") && text.contains("database system is shut down"),
        "{text}"
    );
    before.assert_nothing_new();
}
