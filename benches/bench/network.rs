//! A job's network beside those that have no kernel of the host's to forward for them: bytes down and up, and a connect.
//!
//! The world is another network namespace of this machine, served by this process; on a machine of two processors server,
//! client and whoever stands between share them.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::compare::{Contender, Measured, compare};
use crate::lab::{Lab, finish};
use crate::table::Table;
use crate::world::{FAR, World};

/// Bytes of one transfer: past every buffer, and a fraction of a second.
const BYTES: u64 = 400_000_000;
/// Connects of one measurement.
const CONNECTS: usize = 300;

/// How `timeout --signal=KILL` says that it had to.
const TIMED_OUT: i32 = 137;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// From the world.
    Down,
    /// To the world.
    Up,
    /// One connection and one answer after the other.
    Connect,
}

impl Way {
    /// The probe's words.
    fn words(self) -> Vec<String> {
        let address = format!("{FAR}:80");
        match self {
            Self::Down => vec!["rate".into(), "get".into(), address, BYTES.to_string()],
            Self::Up => vec!["rate".into(), "put".into(), address, BYTES.to_string()],
            Self::Connect => vec!["connects".into(), address, CONNECTS.to_string()],
        }
    }

    /// Milliseconds out of what the probe said.
    fn read(self, said: &str) -> Measured {
        let number = said.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        let number = number.ok_or_else(|| format!("not a figure: {said}"))?;
        Ok(vec![match self {
            Self::Down | Self::Up => number / 1e6,
            Self::Connect => number / 1e3,
        }])
    }
}

/// One table.
pub fn table(lab: &Lab, way: Way) -> Table {
    let world = World::new(false);
    let words = way.words();
    let probe = lab.root.join("probe").display().to_string();
    let line: Vec<String> = std::iter::once(probe.clone()).chain(words.clone()).collect();
    let job = lab.on_disk("network.yml");
    let arguments: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let text = format!(
        "image: {}\nworkspace: empty\nnetwork: full\nsteps:\n  - run: [/probe, {}]\n",
        lab.tarball.display(),
        arguments.join(", ")
    );
    fs::write(&job, text).expect("the place is ours");
    let slirp = Slirp::start(lab, &world);
    let contenders = vec![
        Contender::new("host", "nothing between", || output(lab, &world, way, &line)),
        Contender::new("runner, network: full", "its gate; policy, record", || {
            let mut command = world.within(&lab.runner(&["exec", &job.display().to_string()]));
            finish(&mut command)?;
            let log = lab.home().join("runs/latest/jobs/job/steps/01-step-1/log");
            way.read(&fs::read_to_string(log).map_err(|error| error.to_string())?)
        }),
        Contender::new("slirp4netns", "the whole TCP by itself; no policy", || match &slirp {
            Ok(slirp) => {
                let inside = format!("--net=/proc/{}/ns/net", slirp.holder.id());
                let mut words = vec!["nsenter".to_owned(), inside, "--".to_owned()];
                words.extend(line.clone());
                output(lab, &world, way, &words)
            }
            Err(reason) => Err(reason.clone()),
        }),
        Contender::new("pasta", "segments by itself; no policy", || {
            // It has been seen to spin and never end.
            let words = "timeout --signal=KILL 60 pasta --config-net --quiet --ipv4-only --";
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            output(lab, &world, way, &[words, line.clone()].concat())
        }),
    ];
    Table::new("ms", Some("host"), compare(contenders, lab.rounds(9)))
}

/// Runs words in the near namespace and reads what they say.
fn output(lab: &Lab, world: &World, way: Way, words: &[String]) -> Measured {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(lab.on_disk("cwd")).env("PATH", crate::lab::search_path());
    let ran = world.within(&command).output().map_err(|error| error.to_string())?;
    if ran.status.success() {
        return way.read(&String::from_utf8_lossy(&ran.stdout));
    }
    if ran.status.code() == Some(TIMED_OUT) {
        return Err("it does not end".to_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout);
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given").to_owned())
}

/// slirp4netns beside a network namespace, for as long as this lives.
struct Slirp {
    holder: Child,
    slirp: Child,
}

impl Slirp {
    fn start(lab: &Lab, world: &World) -> Result<Self, String> {
        let start = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir(lab.on_disk("cwd")).env("PATH", crate::lab::search_path());
            let mut command = world.within(&command);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())
        };
        let holder = start(&["unshare", "--net", "sleep", "3600"])?;
        let namespace = || fs::read_link(format!("/proc/{}/ns/net", holder.id())).ok();
        let own = fs::read_link("/proc/self/ns/net").ok();
        // `nsenter`, then `unshare`: two changes of the namespace before it is the one that is meant.
        let is_asleep =
            || fs::read_to_string(format!("/proc/{}/comm", holder.id())).is_ok_and(|name| name == "sleep\n");
        fixtures::wait_for(|| is_asleep() && namespace().is_some() && namespace() != own);
        let pid = holder.id().to_string();
        let slirp = start(&["slirp4netns", "--configure", "--mtu=65520", &pid, "tap0"]);
        let mut slirp = match slirp {
            Ok(slirp) => Self { holder, slirp },
            Err(reason) => return Err(reason),
        };
        let route = format!("/proc/{pid}/net/route");
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        let ready = fixtures::wait_for(|| {
            ended(&mut slirp.slirp) || fs::read_to_string(&route).is_ok_and(|text| text.contains("tap0"))
        });
        if ready && !ended(&mut slirp.slirp) { Ok(slirp) } else { Err("slirp4netns does not start".into()) }
    }
}

impl Drop for Slirp {
    fn drop(&mut self) {
        for child in [&mut self.slirp, &mut self.holder] {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
