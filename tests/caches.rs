//! Caches: what a job has written is there for the next one, whoever they are; and nothing else ever is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use serde_json::{Value, json};
use waiting::wait_for_file;

/// A cache of `run.json`.
#[track_caller]
fn cache(run: &Run, at: usize) -> &Value {
    let cache = &run.record["jobs"][0]["caches"][at];
    assert!(cache.is_object(), "{:#}", run.record);
    cache
}

/// What `runner cache list` tells.
fn listed(lab: &Lab) -> Vec<Value> {
    let ran = lab.context.run(&["cache", "list", "--json"]).expect_code(0);
    serde_json::from_slice(ran.stdout()).unwrap()
}

fn layers(lab: &Lab) -> usize {
    fs::read_dir(lab.context.home().join("caches/layers")).unwrap().count()
}

#[test]
fn what_one_run_has_written_the_next_one_finds() {
    require!(Root, Cgroups, Busybox, UserNamespaces, Newuidmap);
    let before = Leftovers::now();
    for (user, who) in [
        (User::Current, "root"),
        (User::Current, "1000"),
        (User::WithSubids, "root"),
        (User::WithSubids, "1000"),
        (User::OneId, "root"),
        (User::OneId, "1000"),
    ] {
        let lab = Lab::new(user);
        let job = |steps: &str| {
            format!("user: \"{who}\"\ncaches: [target, /var/cache/tool, ~/.tool/sub]\nsteps:\n{steps}")
        };
        let run = lab.exec(
            &job("\x20 - test -z \"$(ls -A target /var/cache/tool ~/.tool/sub | grep -v :)\"\n\
                \x20 - 'mkdir -p target/a/b target/gone target/again; echo 1 > target/a/b/f; echo 1 > target/gone/f; echo 1 > target/again/old'\n\
                \x20 - 'ln -s /etc/passwd target/link; echo x > /var/cache/tool/x; chmod 640 /var/cache/tool/x; echo y > ~/.tool/sub/y; ln target/a/b/f target/hard'\n\
                \x20 - test \"$(cat target/a/b/f)\" = 1\n"),
            0,
        );
        let found: Vec<&Value> = (0..3).map(|at| &cache(&run, at)["result"]).collect();
        assert_eq!(found, ["miss", "miss", "miss"]);
        assert!((0..3).all(|at| cache(&run, at)["saved"] == true), "{:#}", run.record);
        assert!(run.ran.stdout_text().contains("cache target: nothing under "), "{}", run.ran.stdout_text());
        assert!(
            run.ran.stdout_text().contains("cache /var/cache/tool kept as "),
            "{}",
            run.ran.stdout_text()
        );
        // It is not in the workspace, nor in the image.
        let (target, work) = (lab.context.work().join("target"), lab.context.work());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        assert_eq!(fs::metadata(target).unwrap().uid(), fs::metadata(work).unwrap().uid(), "{user:?} {who}");
        let run = lab.exec(
            &job("\x20 - cat target/a/b/f target/hard /var/cache/tool/x ~/.tool/sub/y; stat -c %a /var/cache/tool/x; readlink target/link\n\
                \x20 - rm -r target/gone target/again; mkdir target/again; echo 2 > target/again/new; echo 2 >> target/a/b/f; rm target/link\n"),
            0,
        );
        assert_eq!(run.text(0), "1\n1\nx\ny\n640\n/etc/passwd\n", "{user:?} {who}");
        assert_eq!((&cache(&run, 0)["result"], &cache(&run, 1)["saved"]), (&json!("hit"), &json!(false)));
        let run = lab.exec(
            &job("\x20 - cat target/a/b/f; ls target target/again; ls -n target | tail -n 1 | awk '{print $3}'\n"),
            0,
        );
        let uid = if who == "root" { "0" } else { "1000" };
        assert_eq!(
            run.text(0),
            format!("1\n2\ntarget:\na\nagain\nhard\n\ntarget/again:\nnew\n{uid}\n"),
            "{user:?} {who}"
        );
        assert_eq!(cache(&run, 0)["saved"], false, "nothing was written");
        // Everything else is as if they were not there.
        let run =
            lab.exec(&format!("user: \"{who}\"\nsteps: ['ls -A target; test ! -e /var/cache/tool']\n"), 0);
        assert_eq!(run.text(0), "");
        assert_eq!(listed(&lab).len(), 3);
    }
    before.assert_nothing_new();
}

#[test]
fn a_key_is_made_of_files_and_others_do_that_begin_alike() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let job = "caches: [{path: dep, key: \"dep-${{ hashFiles('lock') }}\", restore-keys: [other-, dep-]}]\n\
        steps: ['cat dep/* || true; cp lock dep/$(cat lock)']\n";
    let run_with = |lock: &str| {
        lab.context.write("lock", lock);
        lab.exec(job, 0)
    };
    let one = run_with("one");
    assert_eq!((&cache(&one, 0)["result"], &cache(&one, 0)["saved"]), (&json!("miss"), &json!(true)));
    let two = run_with("two");
    assert_eq!((two.text(0).trim(), &cache(&two, 0)["result"]), ("one", &json!("partial")));
    assert_eq!(cache(&two, 0)["restored_from"], cache(&one, 0)["key"]);
    assert!(two.ran.stdout_text().contains(", in place of dep-"), "{}", two.ran.stdout_text());
    let three = run_with("three");
    assert_eq!(three.text(0).trim(), "onetwo", "the newest of those that begin alike");
    let again = run_with("one");
    assert_eq!((again.text(0).trim(), &cache(&again, 0)["result"]), ("one", &json!("hit")));
    assert_eq!(listed(&lab).len(), 3);
    // A key that comes to nothing is told before anything runs.
    lab.write("caches: [{path: dep, key: \"${{ hashFiles('none') }}\"}]\nsteps: ['true']\n");
    let ran = lab.context.run(&["exec", "job.yml"]).expect_code(2);
    assert!(
        ran.stderr_text().contains("error[E403]: cannot use the key of the cache dep"),
        "{}",
        ran.stderr_text()
    );
    before.assert_nothing_new();
}

#[test]
fn a_cache_goes_the_ways_that_it_may() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let write = |rest: &str, steps: &str, code: i32| {
        lab.exec(&format!("caches: [{{path: c, key: k{rest}}}]\nsteps: ['ls c; {steps}']\n"), code)
    };
    // A failure keeps nothing, unless it is asked to.
    write("", "touch c/failed; exit 1", 1);
    assert_eq!(listed(&lab), [] as [Value; 0]);
    write(", when: always", "touch c/one; exit 1", 1);
    // What a reader writes is its own.
    let run = write(", mode: ro", "touch c/two", 0);
    assert_eq!((run.text(0).as_str(), &cache(&run, 0)["saved"]), ("one\n", &json!(false)));
    lab.write("caches: [{path: c, key: k}]\nsteps: ['ls c; touch c/two']\n");
    // Nobody vouches for it: the header's mount is left out.
    let job = fs::read_to_string(lab.context.work().join("job.yml")).unwrap();
    lab.context.write("untrusted.yml", job.replace("mounts: [\"./probe:/opt/probe\"]\n", ""));
    let run = lab.finished(lab.context.run(&["exec", "--untrusted", "untrusted.yml"]).expect_code(0));
    assert_eq!((run.text(0).as_str(), &cache(&run, 0)["saved"]), ("one\n", &json!(false)));
    // One that is too large stays as it was.
    let run = write(", max-size: 100K", "dd if=/dev/zero of=c/big bs=1k count=200 2> /dev/null", 0);
    assert_eq!((run.text(0).as_str(), &cache(&run, 0)["saved"]), ("one\n", &json!(false)));
    assert!(run.ran.stdout_text().contains("more than its `max-size` of 100K"), "{}", run.ran.stdout_text());
    // One that only goes out begins with nothing, and takes the other's place.
    let run = write(", mode: push-only", "touch c/three", 0);
    assert_eq!((run.text(0).as_str(), &cache(&run, 0)["saved"]), ("", &json!(true)));
    assert_eq!(write("", "true", 0).text(0), "three\n");
    assert_eq!(layers(&lab), 1, "what was replaced is gone");
    before.assert_nothing_new();
}

#[test]
fn caches_lie_within_one_another_and_have_hostile_content() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let job = |steps: &str| {
        format!("caches: [{{path: a/b, key: inner}}, {{path: a, key: outer}}]\nsteps: ['{steps}']\n")
    };
    lab.exec(
        &job("echo in > a/b/f; echo out > a/f; cp /bin/busybox a/suid; chmod 6755 a/suid; mkfifo a/fifo; ln -s /etc/shadow a/b/up; ln -s ../../../../../../../../etc a/etc; mkdir -m 000 a/closed; touch \"a/$(printf \"odd\\nname\")\""),
        0,
    );
    let run = lab.exec(
        &job("cat a/b/f a/f; ls a | wc -l; ls -d a/b/up a/etc; test -u a/suid; rm -rf a/* 2> /dev/null || true; ls a"),
        0,
    );
    assert_eq!(run.text(0), "in\nout\n7\na/b/up\na/etc\nb\n");
    assert_eq!(lab.exec(&job("ls a a/b"), 0).text(0), "a:\nb\n\na/b:\n");
    // Nobody but root could have come by what set-id files there were.
    assert_eq!(fs::metadata(lab.context.home().join("caches/layers")).unwrap().mode() & 0o777, 0o700);
    lab.context.run(&["cache", "prune", "--max-size", "0"]).expect_code(0);
    assert_eq!(layers(&lab), 0);
    before.assert_nothing_new();
}

#[test]
fn a_look_into_a_step_finds_what_its_job_began_with() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.exec("caches: [{path: c, key: k}]\nsteps: ['touch c/f']\n", 0);
    lab.exec(
        "caches: [{path: c, key: other, restore-keys: [k]}]\nsteps: [{id: bad, run: 'touch c/g; exit 1'}]\n",
        1,
    );
    let look = lab.context.run(&["shell", "latest:bad", "--", "sh", "-c", "ls c; touch c/x"]).expect_code(0);
    assert_eq!(look.stdout_text().trim(), "f");
    assert_eq!(lab.exec("caches: [{path: c, key: k}]\nsteps: ['ls c']\n", 0).text(0), "f\n");
    before.assert_nothing_new();
}

#[test]
fn artifacts_are_found_in_caches() {
    require!(Root, Cgroups, Busybox, UserNamespaces, Newuidmap);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        let job = "caches: [target]\nartifacts: [{name: all, paths: [\"**/app\", other]}]\n\
            steps: [{run: 'mkdir -p target/release; date > target/release/app; ln -sf /etc target/out; echo x > other', artifacts: [{name: one, paths: [target/release/app]}]}]\n";
        for _ in 0..2 {
            let run = lab.exec(job, 0);
            let artifacts = run.record["artifacts"].as_array().unwrap();
            let files: Vec<_> = artifacts
                .iter()
                .map(|one| (one["name"].as_str().unwrap(), one["files"].as_u64().unwrap()))
                .collect();
            assert_eq!(files, [("one", 1), ("all", 2)], "{user:?}");
        }
        lab.context.run(&["artifacts", "verify", "latest"]).expect_code(0);
    }
    before.assert_nothing_new();
}

#[test]
fn many_generations_are_merged() {
    require!(Root, Cgroups, Busybox, UserNamespaces, Newuidmap);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        for number in 1..=15 {
            lab.exec(
                &format!(
                    "user: \"1000\"\ncaches: [c]\nsteps: ['rm -rf c/d; mkdir c/d; echo {number} > c/d/{number}; echo {number} >> c/all; rm -f c/before; touch c/n{number}; test {number} = 1 || rm c/n{}']\n",
                    number - 1
                ),
                0,
            );
        }
        let run = lab
            .exec("user: \"1000\"\ncaches: [c]\nsteps: ['wc -l < c/all; ls c c/d; stat -c %u c/all']\n", 0);
        assert_eq!(run.text(0), "15\nc:\nall\nd\nn15\n\nc/d:\n15\n1000\n", "{user:?}");
        assert!(layers(&lab) <= 4, "{user:?}: {} layers", layers(&lab));
    }
    before.assert_nothing_new();
}

#[test]
fn runs_at_once_do_not_see_each_other_and_what_is_used_stays() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.exec("caches: [{path: c, key: k}]\nsteps: ['echo first > c/f; touch c/first']\n", 0);
    lab.context.write(
        "slow.yml",
        "image: ./rootfs.tar\nnetwork: none\ncaches: [{path: c, key: k}]\n\
        steps: ['echo slow > c/slow; touch up; until test -e go; do sleep 0.05; done; ls c; cat c/f']\n",
    );
    let mut command = lab.context.command(&["exec", "slow.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "up");
    let other = lab.exec("caches: [{path: c, key: k}]\nsteps: ['ls c; rm c/f; echo other > c/other']\n", 0);
    assert_eq!(other.text(0), "f\nfirst\n");
    // Removed by name, the files are still there for the run that has begun with them.
    lab.context.run(&["cache", "remove", "k"]).expect_code(0);
    assert_eq!((listed(&lab).len(), layers(&lab)), (0, 1));
    lab.context.write("go", "");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("| f\n") && text.contains("| slow\n") && !text.contains("| other\n"), "{text}");
    // The last one to end counts.
    let run = lab.exec("caches: [{path: c, key: k}]\nsteps: ['ls c']\n", 0);
    assert_eq!(run.text(0), "f\nfirst\nslow\n");
    // A killed run keeps nothing and leaves nothing.
    fs::remove_file(lab.context.work().join("up")).unwrap();
    fs::remove_file(lab.context.work().join("go")).unwrap();
    let mut command = lab.context.command(&["exec", "slow.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "up");
    child.kill().unwrap();
    child.wait().unwrap();
    let run = lab.exec("caches: [{path: c, key: k}]\nsteps: ['ls c']\n", 0);
    assert_eq!(run.text(0), "f\nfirst\nslow\n");
    before.assert_nothing_new();
}

#[test]
fn caches_are_listed_and_removed() {
    require!(Root, Cgroups, Busybox, UserNamespaces, Newuidmap);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        for (key, kib) in [("a", 100), ("b", 300), ("c", 200)] {
            lab.exec(
                &format!(
                    "caches: [{{path: c, key: {key}}}]\nsteps: ['dd if=/dev/zero of=c/f bs=1k count={kib} 2> /dev/null; mkdir c/d; touch c/d/x; chown 33:33 c/d c/d/x || true; chmod 700 c/d']\n"
                ),
                0,
            );
        }
        let all = listed(&lab);
        assert_eq!(all.iter().map(|one| one["key"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let bytes = all[0]["bytes"].as_u64().unwrap();
        assert!((100 << 10..150 << 10).contains(&bytes), "{bytes}");
        let shown = lab.context.run(&["cache", "list"]).expect_code(0).stdout_text();
        assert_eq!(shown.lines().count(), 3, "{shown}");
        let ran = lab.context.run(&["cache", "remove", "a", "nothing"]).expect_code(2);
        assert!(
            ran.stderr_text().contains("nothing is kept under the key `nothing`"),
            "{}",
            ran.stderr_text()
        );
        lab.context.run(&["cache", "prune"]).expect_code(2);
        let ran = lab.context.run(&["cache", "prune", "--max-size", "250K", "--dry-run"]).expect_code(0);
        assert!(ran.stdout_text().starts_with("would remove c "), "{}", ran.stdout_text());
        // The one that was used last stays.
        lab.context.run(&["cache", "prune", "--max-size", "250K"]).expect_code(0);
        assert_eq!(listed(&lab).iter().map(|one| one["key"].clone()).collect::<Vec<_>>(), ["c"]);
        assert_eq!(layers(&lab), 1, "{user:?}");
        lab.context.run(&["cache", "prune", "--older", "1h"]).expect_code(0);
        assert_eq!(listed(&lab).len(), 1);
        lab.context.run(&["cache", "remove", "c"]).expect_code(0);
        assert_eq!((listed(&lab).len(), layers(&lab)), (0, 0), "{user:?}");
    }
    before.assert_nothing_new();
}
