//! What all chapters need: the compiled floor, a root filesystem, places in memory and on disk, the machine's description.

use fixtures::Compression;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Made once per session, removed with it.
pub struct Lab {
    disk: TempDir,
    memory: TempDir,
    /// The floor, compiled.
    pub floor: PathBuf,
    /// A busybox root filesystem as a directory, with the probe in it as `/probe`.
    pub root: PathBuf,
    /// The root filesystem as a tarball.
    pub tarball: PathBuf,
    /// The runner under test.
    pub runner: PathBuf,
    quick: bool,
}

impl Lab {
    /// Compiles, unpacks, writes. Panics with a reason where something is missing.
    pub fn set_up(quick: bool) -> Self {
        let target = fixtures::cache::target_directory();
        let place = |directory: &Path| {
            sweep(directory);
            let prefix = format!("{PREFIX}{}-", std::process::id());
            let made = tempfile::Builder::new()
                .prefix(&prefix)
                .tempdir_in(directory)
                .expect("a place to measure in");
            fs::set_permissions(made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("it is ours");
            made
        };
        let disk = place(&target);
        // Files made soon after others were deleted are slow on ext4 unless their directories lie apart (chattr(1), `T`).
        let _elsewhere = Command::new("chattr").arg("+T").arg(disk.path()).output();
        let memory = place(Path::new("/dev/shm"));
        let floor = disk.path().join("floor");
        let source = fixtures::cache::workspace().join("benches/floor.c");
        let compiled =
            Command::new("cc").args(["-O2", "-o"]).arg(&floor).arg(source).status().expect("a C compiler");
        assert!(compiled.success(), "the floor does not compile");

        let root = disk.path().join("root");
        fs::create_dir(&root).expect("the place is new");
        // Where commands start: with nothing in it that a run in place would have to look at.
        fs::create_dir(disk.path().join("cwd")).expect("the place is new");
        let probe = fs::read(fixtures::probe()).expect("the probe was made");
        let tree = fixtures::busybox::tree().file("probe", 0o755, probe).directory("workspace", 0o755);
        tree.write_to(&root);
        let tarball = disk.path().join("root.tar.gz");
        fs::write(&tarball, Compression::Gzip.compress(&tree.tar())).expect("the place takes a file");
        Self {
            disk,
            memory,
            floor,
            root,
            tarball,
            runner: PathBuf::from(env!("CARGO_BIN_EXE_runner")),
            quick,
        }
    }

    /// A path on disk.
    pub fn on_disk(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    /// A path in memory.
    pub fn in_memory(&self, name: &str) -> PathBuf {
        self.memory.path().join(name)
    }

    /// `many`, or a third of it when somebody is in a hurry.
    pub fn rounds(&self, many: usize) -> usize {
        if self.quick { many.div_ceil(3) } else { many }
    }

    /// `runner` with these arguments and a home of its own, on disk, as a user has it.
    pub fn runner(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.runner);
        command.args(arguments).env("RUNNER_HOME", self.home()).current_dir(self.on_disk("cwd"));
        command
    }

    /// `RUNNER_HOME`.
    pub fn home(&self) -> PathBuf {
        self.on_disk("home")
    }

    /// Runs a program `count` times in a loop of C, each after a pause, and returns milliseconds from spawn to end.
    pub fn time(&self, count: usize, pause_ms: usize, command: &[&str]) -> super::compare::Measured {
        let out = self.on_disk("times");
        let mut floor = Command::new(&self.floor);
        floor.args(["time", &count.to_string(), &pause_ms.to_string()]).arg(&out).args(command);
        floor.env("RUNNER_HOME", self.home()).current_dir(self.on_disk("cwd"));
        finish(&mut floor)?;
        first_column(&out)
    }

    /// Date, kernel, processors, memory, cgroups, load (figures of a busy machine are noise): one line.
    pub fn machine(&self) -> String {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease");
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let model = model.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ':');
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let memory_kib: u64 =
            read("/proc/meminfo").split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let cgroups = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().unwrap_or_default();
        let (kernel, gib) = (kernel.trim(), memory_kib >> 20);
        format!("{date}: Linux {kernel}, {cpus} x {model}, {gib} GiB, cgroup {cgroups}, load {load}")
    }
}

/// Where programs are found.
pub fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into())
}

/// What the places are called, before the process id.
const PREFIX: &str = "runner-bench-";

/// Removes what a killed session left: its name holds the id of a process that is no more.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _gone = Command::new("rm").arg("-rf").arg(entry.path()).status();
        }
    }
}

/// Runs a command; on failure its last line of stderr is the reason.
pub fn finish(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let ran = command.output().map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given").to_owned();
    Err(said)
}

/// Microseconds at the start of each line, as milliseconds.
pub fn first_column(path: &Path) -> super::compare::Measured {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.lines()
        .map(|line| line.split(' ').next().unwrap_or_default().parse::<f64>().map(|us| us / 1000.0))
        .collect::<Result<Vec<f64>, _>>()
        .map_err(|error| error.to_string())
}
