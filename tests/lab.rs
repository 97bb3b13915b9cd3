//! A place to run job files in: a busybox root filesystem, the probe at /opt/probe, no network.

use std::fs;
use std::path::PathBuf;

use fixtures::{Compression, Ran, TestContext, User, busybox, probe};
use serde_json::Value;

/// What every job file of these tests begins with.
const HEADER: &str = "image: ./rootfs.tar\nmounts: [\"./probe:/opt/probe\"]\n";

/// A working directory with everything that the header names.
pub struct Lab {
    /// Where it is, and how `runner` is called there.
    pub context: TestContext,
}

/// A run that is over.
pub struct Run {
    /// What the command said.
    pub ran: Ran,
    /// `run.json`.
    pub record: Value,
    directory: PathBuf,
}

impl Lab {
    /// For the runner started by this user.
    pub fn new(user: User) -> Self {
        let context = TestContext::with_user(env!("CARGO_BIN_EXE_runner"), user);
        for (name, from) in [("rootfs.tar", busybox::tarball(Compression::None)), ("probe", probe())] {
            let copied = context.write(name, "");
            fs::copy(&from, &copied).unwrap();
        }
        Self { context }
    }

    /// Writes `job.yml`: the header and this. The network is `none` unless it begins with another.
    pub fn write(&self, job: &str) {
        let network = if job.starts_with("network") { "" } else { "network: none\n" };
        self.context.write("job.yml", format!("{HEADER}{network}{job}"));
    }

    /// Runs a job file, the header put before it, to its end, which must have this exit code.
    #[track_caller]
    pub fn exec(&self, job: &str, code: i32) -> Run {
        self.write(job);
        self.finished(self.context.run(&["exec", "job.yml"]).expect_code(code))
    }

    /// The latest run, which has ended with this.
    pub fn finished(&self, ran: Ran) -> Run {
        let directory = fs::canonicalize(self.context.home().join("runs/latest")).unwrap();
        let record = serde_json::from_slice(&fs::read(directory.join("run.json")).unwrap()).unwrap();
        Run { ran, record, directory }
    }
}

impl Run {
    /// A step of `run.json`, from 0.
    #[track_caller]
    pub fn step(&self, index: usize) -> &Value {
        let step = &self.record["jobs"][0]["steps"][index];
        assert!(step.is_object(), "no step {index} in {:#}\n{}", self.record, self.ran.stderr_text());
        step
    }

    /// A step's log, byte for byte.
    pub fn log(&self, index: usize) -> Vec<u8> {
        fs::read(self.directory.join(self.step(index)["log"]["path"].as_str().unwrap())).unwrap()
    }

    /// A step's log as text.
    pub fn text(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.log(index)).into_owned()
    }
}
