//! `runner shell`: where a step left off, from files alone.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[expect(dead_code, reason = "what these jobs leave is looked at from inside")]
mod lab;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use fixtures::{Leftovers, User, require};
use lab::Lab;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

/// A job whose second step fails, leaving traces everywhere that it can.
const FAILING: &str = "workspace: copy\nenv: {A: job}\nlimits: {memory: 256M}\nsteps:\n\
    \x20 - 'echo one > made; echo one > /etc/of-one'\n\
    \x20 - id: test\n\
    \x20   env: {B: step}\n\
    \x20   workdir: sub\n\
    \x20   run: |\n\
    \x20     echo two > /etc/of-two; rm /etc/group; ln -s /etc/of-two /opt/link; mkdir /srv; chmod 2750 /srv\n\
    \x20     echo two > here\n\
    \x20     exit 3\n";

/// What is compared: where and who one is, variables, rights, files.
const LOOK: &str = "set +e; pwd; id -u; id -g; echo $A $B; grep -E '^Cap(Eff|Bnd)|^Seccomp:|^NoNewPrivs' /proc/self/status; \
    ls /etc; cat /etc/of-two /opt/link here ../made; stat -c '%a %u %g' /srv /etc/of-two here; \
    cat /sys/fs/cgroup/memory.max 2>/dev/null | head -1";

#[test]
fn one_finds_what_the_step_had() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for (user, inside) in [
        (User::Current, "root"),
        (User::Current, "1000:1000"),
        (User::WithSubids, "root"),
        (User::OneId, "root"),
    ] {
        let lab = Lab::new(user);
        // In a step whose user is not root, that user owns what it needs.
        let job = match inside {
            "root" => FAILING.replace("exit 3", &format!("{{ {LOOK}; }} > /workspace/seen 2>&1; exit 3")),
            _ => format!(
                "user: {inside}\nworkspace: copy\nsteps:\n  - id: test\n    workdir: sub\n    env: {{A: job, B: step}}\n    run: |\n\
                \x20     echo two > here; echo one > ../made; echo x > /tmp/left; {{ {LOOK}; cat /tmp/left; }} > /workspace/seen 2>&1; exit 3\n"
            ),
        };
        // An ordinary user has no cgroups everywhere.
        let job = if user == User::Current { job } else { job.replace("limits: {memory: 256M}\n", "") };
        let run = lab.exec(&job, 1);
        let steps = run.record["jobs"][0]["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["kept"], json!(true));
        let look = if inside == "root" { LOOK.to_owned() } else { format!("{LOOK}; cat /tmp/left") };
        let look = format!("exec > /workspace/again 2>&1; {look}");
        lab.context.run(&["shell", "latest:test", "--", "sh", "-c", &look]).expect_code(0);
        let compared =
            lab.context.run(&["shell", "--", "cat", "/workspace/seen", "/workspace/again"]).expect_code(0);
        let text = compared.stdout_text();
        let half = text.len() / 2;
        assert_eq!(text[..half], text[half..], "{inside}");
        assert!(text.starts_with("/workspace/sub\n") && text.contains("job step\n"), "{text}");
        // Neither a run nor anything else is left of it, and what is kept has not changed.
        let runs = fs::read_dir(lab.context.home().join("runs")).unwrap().count();
        assert_eq!(runs, 3, "the run, and two links");
        let again = lab.context.run(&["shell", "--", "sh", "-c", "exit 9"]);
        assert_eq!(again.code(), Some(9));
        let live = fs::read_dir(lab.context.home().join("live")).unwrap().count();
        assert_eq!(live, 0);
        lab.context.run(&["prune", "--older", "0s"]).expect_code(0);
        assert_eq!(fs::read_dir(lab.context.home().join("scratch")).unwrap().count(), 0, "{inside}");
    }
    before.assert_nothing_new();
}

#[test]
fn what_is_kept_is_said_and_bounded() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let scratches = || fs::read_dir(lab.context.home().join("scratch")).unwrap().count();
    let nothing = lab.context.run(&["shell", "--", "true"]).expect_code(125);
    assert!(nothing.stderr_text().contains("no step is kept"), "{}", nothing.stderr_text());
    lab.write("steps: ['true']\n");
    lab.context.run(&["exec", "job.yml"]).expect_code(0);
    assert_eq!(scratches(), 0, "nothing failed");
    lab.context.run(&["exec", "--keep", "always", "job.yml"]).expect_code(0);
    assert_eq!(scratches(), 1);
    lab.write("steps: [exit 1]\n");
    lab.context.run(&["exec", "--keep", "never", "job.yml"]).expect_code(1);
    assert_eq!(scratches(), 1);
    for _ in 0..6 {
        lab.context.run(&["exec", "job.yml"]).expect_code(1);
    }
    assert_eq!(scratches(), 5, "the newest five");
    let wrong = lab.context.run(&["shell", ":none", "--", "true"]).expect_code(125);
    assert!(wrong.stderr_text().contains("/job:step-1"), "{}", wrong.stderr_text());
    // A forgiven failure, one in the background, and the last of several attempts.
    lab.write(
        "steps:\n  - {id: a, run: 'echo a > /etc/who; exit 1', continue-on-error: true}\n\
        \x20 - {id: b, run: 'echo b > /etc/who; exit 1', background: true}\n\
        \x20 - {id: c, run: 'echo c$RUNNER_ATTEMPT > /etc/who; exit 1', retry: 1, continue-on-error: true}\n  - wait: b\n",
    );
    lab.context.run(&["exec", "job.yml"]).expect_code(1);
    for (step, who) in [("a", "a\n"), ("b", "b\n"), ("c", "c2\n")] {
        let ran = lab.context.run(&["shell", &format!(":{step}"), "--", "cat", "/etc/who"]).expect_code(0);
        assert_eq!(ran.stdout_text(), who);
    }
}

#[test]
fn a_terminal_is_handed_through() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.exec("user: 1000\nsteps: [exit 1]\n", 1);
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let far = ioctl_tiocgptpeer(&near, flags).unwrap();
    tcsetwinsize(&near, Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = lab.context.command(&["shell", "--root"]);
    let stdio = || Stdio::from(far.try_clone().unwrap());
    let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    let mut terminal = File::from(near);
    let mut seen = String::new();
    let mut until = |terminal: &mut File, word: &str| {
        let mut buffer = [0; 4096];
        while !seen.contains(word) {
            let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "{word} did not come, but {seen:?}");
            let count = terminal.read(&mut buffer).unwrap();
            assert!(count > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        std::mem::take(&mut seen)
    };
    // Whatever its prompt looks like, it ends so.
    until(&mut terminal, "# ");
    // A terminal, of our size, and one that is the session's: ^C reaches the command and not the shell.
    terminal
        .write_all(b"stty size; test -t 1 && echo is-a-$((1+1))nd-terminal; : < /dev/tty && id -u\n")
        .unwrap();
    let text = until(&mut terminal, "is-a-2nd-terminal\r\n");
    assert!(text.contains("33 77\r\n"), "{text}");
    terminal.write_all(b"sh -c 'echo be-$((0+1))gin; exec sleep 1000'\n").unwrap();
    until(&mut terminal, "be-1gin");
    terminal.write_all(&[3]).unwrap();
    until(&mut terminal, "# ");
    terminal.write_all(b"echo code-$?\n").unwrap();
    until(&mut terminal, "code-130");
    terminal.write_all(b"exit 5\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    // The terminal is as it was.
    let after = tcgetattr(&far).unwrap();
    assert!(after.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    before.assert_nothing_new();
}
