//! What a step can see, do and leave behind when root starts the runner. Settings come in pairs: with and without.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;
mod lab;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{assert_user, assert_walls, from_a_leaky_caller, instead, outside, told};
use fixtures::{Leftovers, TestContext, User, busybox, probe, require};
use lab::Lab;
use serde_json::json;

/// The ids that belong to nobody but sandboxes start here.
const PRIVATE_IDS: i64 = 0x7000_0000;

/// Root inside and an ordinary user, each from a caller that leaks what it can.
#[test]
fn a_step_finds_a_machine_of_its_own() {
    require!(Root, Cgroups, Busybox, Program("bash"), Program("env"));
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let tries = common::TRIES.replace('\n', "\n      ");
    lab.write(&format!(
        "steps:\n\
        \x20 - {{run: [/opt/probe, facts]}}\n\
        \x20 - {{run: [/opt/probe, facts], user: \"1000\"}}\n\
        \x20 - {{run: [/opt/probe, facts, env, hostname], env: {{DECLARED: ours}}}}\n\
        \x20 - run: |\n\x20     {tries}\n\
        \x20 - user: user\n\x20   run: |\n\x20     {tries}\n"
    ));
    let mut command = lab.context.command(&["exec", "-e", "PASSED", "job.yml"]);
    command.env("PASSED", "on purpose");
    let mut command = from_a_leaky_caller(&command);
    let run = lab.finished(lab.context.finish(&mut command).expect_code(0));
    let host = outside();
    for (index, uid) in [(0, 0), (1, 1000)] {
        let facts = told(&run.text(index));
        assert_walls(&facts, &host);
        assert_user(&facts, uid, uid == 0);
        assert_eq!(facts["ids"]["groups"], json!([]));
        for map in ["uid_map", "gid_map"] {
            let map = facts["id_maps"][map].as_str().unwrap();
            let numbers: Vec<i64> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
            assert_eq!(numbers.len(), 3, "one extent: {map}");
            assert_eq!((numbers[0], numbers[2]), (0, 65_536), "{map}");
            assert!(numbers[1] >= PRIVATE_IDS, "no id of the host's: {map}");
        }
        let env = &facts["env"];
        assert_eq!(env["PASSED"], "on purpose");
        assert_eq!(env["DECLARED"], json!(null));
        assert_eq!(facts["hostname"], "runner");
    }
    let declared = told(&run.text(2));
    assert_eq!(declared["env"]["DECLARED"], "ours");
    // Each step has its own namespaces, and the job's network.
    let [one, two] = [0, 1].map(|index| told(&run.text(index))["namespaces"].clone());
    for name in ["cgroup", "ipc", "mnt", "pid", "user", "uts"] {
        assert_ne!(one[name], two[name], "{name}");
    }
    assert_eq!(one["net"], two["net"]);
    before.assert_nothing_new();
}

/// The pair of an unreadable init and of the filters: in a bare pid namespace root gets at pid 1 and makes namespaces.
#[test]
fn without_a_sandbox_the_same_doors_are_open() {
    require!(Root, Program("unshare"));
    let words = ["--fork", "--pid", "--mount-proc", "sh", "-c", "\"$0\" facts pid_one syscalls; true"];
    let ran = Command::new("unshare").args(words).arg(probe()).output().unwrap();
    let facts = told(&String::from_utf8(ran.stdout).unwrap());
    for door in ["environ", "maps", "exe_readable"] {
        assert_eq!(facts["pid_one"][door], "open", "{door}");
    }
    assert_eq!(facts["pid_one"]["ptrace_seize"], "ok");
    assert_eq!(facts["syscalls"]["unshare_mount"], "ok");
    assert_eq!(facts["syscalls"]["ioctl_tiocsti"], "EBADF");
}

/// The pair of the loopback-only network and of the default host name.
#[test]
fn the_hosts_network_and_another_name_are_there_when_asked_for() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.write("hostname: build-7\nsteps:\n  - {run: [/opt/probe, facts]}\n");
    let ran = lab.context.run(&["exec", "--network", "host", "job.yml"]).expect_code(0);
    let facts = told(&lab.finished(ran).text(0));
    let host = outside();
    assert_eq!(facts["network"]["interfaces"], host["network"]["interfaces"]);
    assert_eq!(facts["namespaces"]["net"], host["namespaces"]["net"]);
    assert_eq!(facts["hostname"], "build-7");
    assert_ne!(host["hostname"], "build-7");
    // Nothing else comes along.
    for name in ["cgroup", "ipc", "mnt", "pid", "user", "uts"] {
        assert_ne!(facts["namespaces"][name], host["namespaces"][name], "{name}");
    }
    assert_user(&facts, 0, true);
    for (path, state) in facts["masks"].as_object().unwrap() {
        assert!(["absent", "null", "empty"].iter().any(|shut| state == shut), "{path}: {state}");
    }
    before.assert_nothing_new();
}

/// The caller sits at a terminal; the step does not.
#[test]
fn the_callers_terminal_stays_outside() {
    require!(Root, Cgroups, Busybox, Program("script"));
    let lab = Lab::new(User::Current);
    lab.write("steps:\n  - {run: [/opt/probe, facts, session, descriptors]}\n");
    let typed = format!(
        "{} exec job.yml && {} facts session > outside.json",
        env!("CARGO_BIN_EXE_runner"),
        probe().display()
    );
    let words = ["script", "--quiet", "--return", "--command", &typed, "typescript"];
    let mut command = instead(&words, &lab.context.command(&[]));
    let run = lab.finished(lab.context.finish(&mut command).expect_code(0));
    let outside = told(&lab.context.read("outside.json"));
    assert_ne!(outside["session"]["terminal"], 0, "the caller has one");
    let facts = told(&run.text(0));
    assert_eq!(facts["session"]["terminal"], 0);
    assert_eq!(facts["session"]["dev_tty"], json!({"errno": "ENXIO"}));
    assert!(!facts["descriptors"].to_string().contains("/pts/"), "{}", facts["descriptors"]);
}

/// Every entry below a directory: path from there, user, group, mode.
fn entries(directory: &Path) -> Vec<(PathBuf, u32, u32, u32)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(at) = directories.pop() {
        for entry in fs::read_dir(&at).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            found.push((
                path.strip_prefix(directory).unwrap().to_path_buf(),
                metadata.uid(),
                metadata.gid(),
                metadata.mode(),
            ));
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    found
}

/// What a step as root inside does to make the workspace somebody else's.
const GRAB: &str = "\
    set -e\n\
    mkdir -p made/deep made/theirs; echo text > made/plain; echo text > made/deep/file\n\
    echo text > made/chowned; chown 33:33 made/chowned; chown 1000:1000 made/theirs\n\
    cp /bin/busybox made/set-id; chmod 6755 made/set-id\n\
    cp /bin/busybox made/theirs/set-id; chown 33 made/theirs/set-id; chmod 4755 made/theirs/set-id\n\
    chmod 0 made/deep/file; mkfifo made/fifo; chown 33 made/fifo\n\
    ln -s /etc/passwd made/link; chown -h 33:33 made/link\n\
    ln made/plain made/hard; chown 7:7 before\n";

#[test]
fn the_workspace_stays_its_owners() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let passwd = fs::metadata("/etc/passwd").unwrap();
    for owner in [54_321, 0] {
        let lab = Lab::new(User::Current);
        let (work, script) = (lab.context.work(), GRAB.replace('\n', "\n      "));
        for (path, id) in [
            (lab.context.write("before", "text"), owner),
            (lab.context.write("third", "text"), 777),
            (work.clone(), owner),
        ] {
            chown(path, Some(id), Some(id)).unwrap();
        }
        lab.exec(
            &format!(
                "steps:\n\
                \x20 - run: |\n\x20     {script}\n\
                \x20 - {{user: \"1000\", run: 'mkdir second && echo text > second/file && test ! -e /etc/gone'}}\n\
                \x20 - {{user: \"1000\", run: 'cp /bin/busybox second/set-id && chmod 4755 second/set-id'}}\n"
            ),
            0,
        );
        let made: Vec<_> = entries(&work)
            .into_iter()
            .filter(|(path, ..)| ["made", "second", "before"].iter().any(|top| path.starts_with(top)))
            .collect();
        assert!(made.len() >= 14, "{made:?}");
        for (path, uid, gid, mode) in made {
            assert_eq!((uid, gid), (owner, owner), "owner of {} for {owner}", path.display());
            let set_id = mode & 0o170_000 == 0o100_000 && mode & 0o6000 != 0;
            assert!(!(set_id && path.starts_with("made")), "{} is set-id", path.display());
            assert!(!(set_id && owner == 0), "{} is set-uid root on the host", path.display());
        }
        let third = fs::metadata(work.join("third")).unwrap();
        assert_eq!((third.uid(), third.gid()), (777, 777), "another user's file");
        let root = fs::metadata(&work).unwrap();
        assert_eq!((root.uid(), root.gid()), (owner, owner), "the workspace itself");
    }
    let after = fs::metadata("/etc/passwd").unwrap();
    assert_eq!((after.uid(), after.mode(), after.ctime()), (passwd.uid(), passwd.mode(), passwd.ctime()));
    before.assert_nothing_new();
}

/// What a step writes to its root is gone for the next; the workspace is not.
#[test]
fn the_root_is_fresh_and_the_workspace_is_kept() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.exec(
        "steps:\n\
        \x20 - echo mine > /etc/mine; echo more >> /etc/passwd; rm /etc/group; echo kept > kept\n\
        \x20 - test ! -e /etc/mine; test -e /etc/group; test \"$(grep -c more /etc/passwd)\" = 0; test \"$(cat kept)\" = kept\n",
        0,
    );
    assert_eq!(lab.context.read("kept"), "kept\n");
}

#[test]
fn mounts_are_read_only_unless_writing_is_asked_for() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    for name in ["shown", "shared"] {
        lab.context.write(&format!("{name}/file"), "text");
        chown(lab.context.work().join(name), Some(54_321), Some(54_321)).unwrap();
    }
    let words =
        ["run", "./rootfs.tar", "--network", "none", "--workspace", "empty", "--mount", "./probe:/opt/probe"];
    let mounts = ["--mount", "./shown:/a/shown", "--mount", "./shared:/b/shared:rw"];
    let command = ["--", "/opt/probe", "writable", "/a/shown", "/b/shared", "/a", "/opt"];
    let ran = lab.context.run(&[&words[..], &mounts, &command].concat()).expect_code(0);
    let answers = json!({"/a/shown": {"errno": "EROFS"}, "/b/shared": true, "/a": true, "/opt": true});
    assert_eq!(told(&ran.stdout_text()), answers);
    let command = ["--", "sh", "-c", "echo more > /b/shared/made; cat /a/shown/file; ! rm /a/shown/file"];
    let ran = lab.context.run(&[&words[..], &mounts, &command].concat()).expect_code(0);
    assert_eq!(ran.stdout_text(), "text");
    let made = fs::metadata(lab.context.work().join("shared/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (54_321, 54_321), "made in a directory of that user");
    assert_eq!(lab.context.read("shown/file"), "text");
    before.assert_nothing_new();
}

/// A writable mount is handed back as the workspace is.
#[test]
fn a_writable_mount_and_the_workspace_are_handed_back() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    for place in ["shared", "tools"] {
        lab.context.write(&format!("{place}/.keep"), "");
    }
    let script = "for place in /shared /workspace/tools; do cd $place; cp /bin/busybox set-id; chmod 4755 set-id; \
                  echo > given; chown 33:33 given; done";
    let words = [
        "run",
        "./rootfs.tar",
        "--network",
        "none",
        "--mount",
        "./shared:/shared:rw",
        "--",
        "sh",
        "-c",
        script,
    ];
    lab.context.run(&words).expect_code(0);
    let found = |path: &str| {
        let found = fs::metadata(lab.context.work().join(path)).unwrap();
        (found.uid(), found.mode() & 0o7777)
    };
    for place in ["shared", "tools"] {
        assert_eq!(found(&format!("{place}/set-id")), (0, 0o755), "{place}");
        assert_eq!(found(&format!("{place}/given")).0, 0, "{place}");
    }
}

/// A busybox root filesystem as a directory, to be made hostile, and a directory outside that must stay empty.
fn hostile() -> (TestContext, PathBuf, PathBuf) {
    let context = TestContext::new(env!("CARGO_BIN_EXE_runner"));
    let (rootfs, outside) = (context.work().join("rootfs"), context.path("outside"));
    for directory in [&rootfs, &outside] {
        fs::create_dir(directory).unwrap();
    }
    busybox::write_to(&rootfs);
    fs::copy(probe(), context.work().join("probe")).unwrap();
    (context, rootfs, outside)
}

/// Links to a directory of the host: absolute, and by more `..` than any path has parts.
fn ways_to(outside: &Path) -> [PathBuf; 2] {
    let up: PathBuf = std::iter::repeat_n("..", 40).collect();
    [outside.to_path_buf(), up.join(outside.strip_prefix("/").unwrap())]
}

/// Where the image wants /proc and the like to go does not matter: the job's own directories cover its links.
#[test]
fn an_image_cannot_choose_where_proc_dev_and_sys_go() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let (context, rootfs, outside) = hostile();
    for target in ways_to(&outside) {
        for name in ["proc", "dev", "sys", "workspace", "tmp"] {
            let _absent = fs::remove_dir(rootfs.join(name));
            let _older = fs::remove_file(rootfs.join(name));
            symlink(&target, rootfs.join(name)).unwrap();
        }
        let words = [
            "run",
            "dir:./rootfs",
            "--network",
            "none",
            "--workspace",
            "empty",
            "--mount",
            "./probe:/opt/probe",
        ];
        let ran = context.run(&[&words[..], &["--", "/opt/probe", "facts"]].concat()).expect_code(0);
        let mut facts = told(&ran.stdout_text());
        // The workspace is empty, and the run is the same in everything else.
        facts["cwd"] = json!("/workspace");
        assert_walls(&facts, &common::outside());
    }
    assert_eq!(entries(&outside), [], "nothing is written outside");
    assert!(fs::symlink_metadata(rootfs.join("proc")).unwrap().is_symlink(), "the image is left alone");
    before.assert_nothing_new();
}

/// A file of the image where a directory must be is an error that names it, not a way out.
#[test]
fn a_mount_through_the_images_links_stays_inside() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let (context, rootfs, outside) = hostile();
    symlink("/", rootfs.join("to-root")).unwrap();
    symlink("../../..", rootfs.join("up")).unwrap();
    let words = ["run", "dir:./rootfs", "--network", "none", "--workspace", "empty"];
    let mounts = ["--mount", "./probe:/to-root/one/probe", "--mount", "./probe:/up/two/probe"];
    let script = "test -x /one/probe && test -x /two/probe && test -L /to-root && test -L /up && grep -c ' /one/probe ' /proc/self/mountinfo";
    let ran = context.run(&[&words[..], &mounts, &["--", "sh", "-c", script]].concat()).expect_code(0);
    assert_eq!(ran.stdout_text(), "1\n");
    assert!(!Path::new("/one").exists() && !Path::new("/two").exists(), "made on the host");
    for (index, target) in ways_to(&outside).iter().enumerate() {
        let name = format!("out-{index}");
        symlink(target, rootfs.join(&name)).unwrap();
        let mount = format!("./probe:/{name}/made/probe");
        let ran = context.run(&[&words[..], &["--mount", &mount, "--", "true"]].concat());
        assert!(matches!(ran.code(), Some(0 | 125)), "{}", ran.stderr_text());
        assert!(ran.code() == Some(0) || ran.stderr_text().contains(&name), "{}", ran.stderr_text());
    }
    assert_eq!(entries(&outside), [], "nothing is written outside");
    before.assert_nothing_new();
}

/// A mount below a link of the image must not hide what the link leads to: /lib of a merged /usr.
#[test]
fn a_mount_below_a_link_leaves_the_link() {
    require!(Root, Cgroups, Busybox);
    let (context, rootfs, _) = hostile();
    fs::create_dir(rootfs.join("usr/lib")).unwrap();
    fs::write(rootfs.join("usr/lib/loader"), "needed").unwrap();
    symlink("usr/lib", rootfs.join("lib")).unwrap();
    let mounts = ["--mount", "./probe:/lib/extra/probe", "--mount", "./probe:/lib/tool"];
    let script = "cat /lib/loader && test -L /lib && test -x /usr/lib/tool && test -x /lib/extra/probe";
    let words = ["run", "dir:./rootfs", "--network", "none", "--workspace", "empty"];
    let ran = context.run(&[&words[..], &mounts, &["--", "sh", "-c", script]].concat()).expect_code(0);
    assert_eq!(ran.stdout_text(), "needed");
    assert_eq!(entries(&rootfs.join("usr/lib")).len(), 1, "the image is left alone");
}

/// A set-uid program of the image, owned by root, gives nothing to a step that is not root.
#[test]
fn set_uid_programs_of_the_image_are_plain_programs() {
    require!(Root, Cgroups, Busybox);
    let (context, rootfs, _) = hostile();
    let program = rootfs.join("bin/probe");
    fs::copy(probe(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let words = [
        "run",
        "dir:./rootfs",
        "--network",
        "none",
        "--workspace",
        "empty",
        "--user",
        "1000",
        "--",
        "probe",
        "facts",
        "ids",
    ];
    let ran = context.run(&words).expect_code(0);
    assert_eq!(told(&ran.stdout_text())["ids"]["uid"], json!([1000, 1000, 1000, 1000]));
}

/// Made when missing, for the step's user; what is there already keeps its owner.
#[test]
fn a_working_directory_is_its_users() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "user: \"1000\"\n\
        steps:\n\
        \x20 - {run: 'touch made; stat -c %u . .. /workspace', workdir: sub/deep}\n\
        \x20 - {run: 'touch made; stat -c %u . ..', workdir: /srv/new}\n\
        \x20 - {run: '! touch made; stat -c %u .', workdir: /etc}\n",
        0,
    );
    let owners = [0, 1, 2].map(|index| {
        run.text(index).lines().filter(|line| line.parse::<u32>().is_ok()).collect::<Vec<_>>().join(" ")
    });
    assert_eq!(owners, ["1000 1000 1000", "1000 1000", "0"]);
}
