//! A job's services: started before its steps, watched beside them, ended after them. A service is a sandbox of its own in the
//! job's network, and its output goes to its log alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use jobs::units::format_duration;
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::ahead::{Upper, throw_away};
use super::trail::measure;
use super::{Job, JobEnd};
use crate::cgroup::KmsgCursor;
use crate::event::What;
use crate::network::reach::Doorway;
use crate::outcome::{ImageRecord, Oom, Outcome, ServiceResult, Usage};
use crate::run::caps;
use crate::run::command;
use crate::run::conduct::gently;
use crate::run::error::RunError;
use crate::run::logs::LogWriter;
use crate::run::record::timestamp;
use crate::run::room::{Prepared, Room};
use crate::run::services::{Ear, Fallen, Look, Looker, Service, ServiceError};
use crate::run::step::{self, Begun, Cancel, Ears, Ended, Running};
use crate::run::traces::Used;
use crate::run::values::Values;
use crate::run::verdict::{Facts, Stopped, judge};
use crate::run::workspace::Workspace;
use crate::sandbox::ids::Identity;
use crate::sandbox::spawn::SandboxError;
use crate::sandbox::spec::Go;
use crate::sandbox::wire::Order;

/// Lines of a service's log that are told when it fails.
const TAIL_LINES_MAX: usize = 20;
/// Bytes of them.
const TAIL_BYTES_MAX: u64 = 8 << 10;

/// A service that is over, and what is to be taken apart.
struct Done {
    at: usize,
    result: ServiceResult,
    prepared: Option<Prepared>,
}

/// A service whose command runs.
struct Serving<'c> {
    log: LogWriter,
    go: Go,
    began: Instant,
    kmsg: Option<&'c mut KmsgCursor>,
}

/// Why a service's end is what it is.
#[derive(Default)]
struct Course {
    /// It was to end.
    asked: bool,
    ready: bool,
    /// It did not get ready in time, and what was seen last.
    never: Option<String>,
}

impl Job<'_> {
    /// The steps, with the services around them.
    ///
    /// # Errors
    /// A port that cannot be published; nothing has been started then.
    pub(super) async fn among_services(
        &self,
        room: &Room,
        workspace: &Workspace,
        used: &Used,
        end: &mut JobEnd,
        ending: &mut JoinSet<()>,
    ) -> Result<(), RunError> {
        let began = Instant::now();
        if self.services.is_empty() {
            self.steps(began, room, workspace, used, end, ending).await;
            return Ok(());
        }
        let doorways = self.doorways()?;
        let make = |v6| room.socket(v6);
        let serving = join_all(doorways.iter().map(|doorway| doorway.serve(&make)));
        let company = async {
            let mut courses: FuturesUnordered<_> =
                (0..self.services.len()).map(|at| self.course(room, at)).collect();
            let mut done: Vec<Done> = Vec::new();
            self.start_services(began, &mut courses, &mut done, end).await;
            {
                let steps = self.steps(began, room, workspace, used, end, ending);
                tokio::pin!(steps);
                loop {
                    tokio::select! {
                        biased;
                        () = &mut steps => break,
                        Some(over) = courses.next() => done.push(over),
                    }
                }
            }
            self.company.close();
            while let Some(over) = courses.next().await {
                done.push(over);
            }
            done
        };
        let mut done = tokio::select! {
            done = company => done,
            // It never ends: it goes with the services.
            _ = serving, if !doorways.is_empty() => Vec::new(),
        };
        self.blame_fallen(end);
        done.sort_by_key(|one| one.at);
        for Done { result, prepared, .. } in done {
            end.services.push(result);
            if let Some(prepared) = prepared {
                throw_away(prepared, Upper::Kept, ending);
            }
        }
        Ok(())
    }

    /// A service that has fallen decides the job, unless something else did before, or the user.
    pub(super) fn blame_fallen(&self, end: &mut JobEnd) {
        let Some(fallen) = self.company.fallen() else { return };
        let by_user = *self.cancel.borrow().borrow() != Cancel::No;
        // Steps that it took along are cancelled.
        let open = end.outcome == Outcome::Success || (end.outcome == Outcome::Cancelled && !by_user);
        if open && end.error.is_none() {
            end.outcome = fallen.outcome;
        }
    }

    /// Opens the ports of this machine that lead to the services.
    fn doorways(&self) -> Result<Vec<Doorway>, ServiceError> {
        let ports = self.services.iter().flat_map(|one| one.plan.ports.iter().map(move |port| (one, *port)));
        let open = |(service, port): (&Service<'_>, jobs::PublishedPort)| {
            let name = service.plan.name.clone();
            let opened = Doorway::open(port.host, port.service);
            opened.map_err(|source| ServiceError::Publish { name, port, source })
        };
        ports.map(open).collect()
    }

    /// Waits until all are ready, one has fallen, the job's time is over, or the user wants an end.
    async fn start_services<F: Future<Output = Done>>(
        &self,
        began: Instant,
        courses: &mut FuturesUnordered<F>,
        done: &mut Vec<Done>,
        end: &mut JobEnd,
    ) {
        let settled = self.company.settled();
        tokio::pin!(settled);
        let mut wish = self.cancel.borrow().clone();
        let limit = began + self.plan.timeout;
        loop {
            tokio::select! {
                biased;
                () = &mut settled => return,
                Some(over) = courses.next() => done.push(over),
                Ok(_) = wish.wait_for(|wish| *wish != Cancel::No) => return,
                () = sleep_until(limit.into()) => {
                    end.outcome = Outcome::Timeout;
                    let took = format_duration(self.plan.timeout);
                    let text = format!("the job ran longer than its timeout of {took} while its services started");
                    self.warn(None, text, Some("raise the job's `timeout`".to_owned()));
                    return;
                }
            }
        }
    }

    /// One service, from its turn to its end.
    async fn course(&self, room: &Room, at: usize) -> Done {
        let service = &self.services[at];
        let image = ImageRecord {
            reference: service.plan.image.reference.clone(),
            digest: service.rootfs.digest.as_ref().map(ToString::to_string),
            platform: service.rootfs.platform.as_ref().map(ToString::to_string),
        };
        let mut result = ServiceResult::new(&service.plan.name, image, service.plan.optional);
        let mut prepared = None;
        if self.company.turn_of(at).await {
            let served = self.serve(room, at, &mut result, &mut prepared).await;
            if let Err(error) = served {
                result.outcome = Outcome::Error;
                (result.cause, result.remedy) = (Some(error.to_string()), error.hint());
                self.say_service_ended(&result, Vec::new());
                self.fall_of(&result);
            }
        } else if !self.company.is_ending() {
            result.cause = Some("a service that it needs has ended".to_owned());
            self.say_service_ended(&result, Vec::new());
            self.fall_of(&ServiceResult { outcome: Outcome::Failure, ..result.clone() });
        }
        self.company.over(at);
        Done { at, result, prepared }
    }

    /// A service that the job needs is over too early.
    fn fall_of(&self, result: &ServiceResult) {
        if !result.optional {
            let (name, outcome) = (result.name.clone(), result.outcome);
            let cause = result.cause.clone().unwrap_or_default();
            self.company.fall(Fallen { name, outcome, cause });
        }
    }

    async fn serve(
        &self,
        room: &Room,
        at: usize,
        result: &mut ServiceResult,
        kept: &mut Option<Prepared>,
    ) -> Result<(), RunError> {
        let service = &self.services[at];
        let name = service.plan.name.as_str();
        let in_service = |error: SandboxError| RunError::InService {
            name: name.to_owned(),
            error: Box::new(error.into()),
        };
        let mut kmsg = KmsgCursor::open();
        let prepared = kept.insert(room.prepare_service(at)?);
        let records = self.run.stage_service(&self.plan.id, name)?;
        let ears = Ears::open(Some(&prepared.cgroup)).map_err(in_service)?;
        let environment = self.service_environment(service)?;
        let go = self.service_go(room, at, &environment, service.argv.clone());
        prepared.sandbox.ready().await.map_err(in_service)?;
        let null = null()?;
        result.started = Some(timestamp());
        result.limits = caps::recorded(&room.service_limits(at), None);
        let began = Instant::now();
        let begun = step::begin(&mut prepared.sandbox, &go, (&null, None), ears).await;
        let (directory, log) = records.publish(service.plan.limits.log_bytes, began)?;
        directory.write_environment(&self.shown(environment))?;
        let image = service.plan.image.reference.clone();
        self.send(What::ServiceStart { service: name.to_owned(), image });
        let (course, ended, exec) = match begun {
            Ok(begun) => {
                let serving = Serving { log, go, began, kmsg: kmsg.as_mut() };
                let (course, ended) = self.live(room, at, prepared, begun, serving, result).await?;
                (course, ended, None)
            }
            Err(SandboxError::Exec { errno, existing }) => {
                (Course::default(), Ended::default(), Some((errno, existing > 0)))
            }
            Err(error) => return Err(in_service(error)),
        };
        self.judge_service(room, at, prepared, (course, ended, exec), result)?;
        directory.write_service_result(result)?;
        let tail = match result.outcome {
            Outcome::Success => Vec::new(),
            _ => directory.log_tail(TAIL_LINES_MAX, TAIL_BYTES_MAX),
        };
        self.say_service_ended(result, tail);
        if result.outcome != Outcome::Success {
            self.fall_of(result);
        }
        Ok(())
    }

    /// From its go to its end: looks at it until it is ready, and asks it for an end when its time has come.
    async fn live(
        &self,
        room: &Room,
        at: usize,
        prepared: &mut Prepared,
        begun: Begun,
        serving: Serving<'_>,
        result: &mut ServiceResult,
    ) -> Result<(Course, Ended), RunError> {
        let service = &self.services[at];
        let Serving { log, go, began, kmsg } = serving;
        let (wish, cancel) = watch::channel(Cancel::No);
        let (heard, printed) = watch::channel(false);
        let (ear, go) = self.ear_and_go(room, at, go, heard)?;
        let door = prepared.sandbox.door()?;
        let make = |v6| room.socket(v6);
        let last = RefCell::new("it was not looked at".to_owned());
        let looker = Looker { service, make: &make, door: &door, go: &go, printed, last };
        let running = Running {
            job: &self.plan.id,
            step: None,
            log,
            feed: self.feed,
            deadline: None,
            grace: self.plan.grace,
            ask: Order::Signal(service.stop_signal),
            cancel,
            falls: None,
            ear,
            cgroup: Some(&prepared.cgroup),
            kmsg,
            disk: None,
            egress: None,
            quiet: None,
            secrets: self.secrets,
        };
        let life = step::finish(&mut prepared.sandbox, begun, running);
        let look = tokio::time::timeout(service.plan.ready.timeout, looker.until_ready());
        let asked = self.company.end_of(at);
        tokio::pin!(life, look, asked);
        let mut user = self.cancel.borrow().clone();
        let mut course = Course::default();
        let ended = loop {
            let looks = !course.ready && !course.asked && course.never.is_none();
            tokio::select! {
                biased;
                ended = &mut life => break ended,
                () = &mut asked, if !course.asked => {
                    course.asked = true;
                    wish.send_if_modified(gently);
                }
                found = &mut look, if looks => match found {
                    Ok(()) => {
                        course.ready = true;
                        self.is_ready(at, began.elapsed(), result);
                    }
                    Err(_) => {
                        course.never = Some(looker.last.borrow().clone());
                        wish.send_replace(Cancel::Now);
                    }
                },
                Ok(_) = user.wait_for(|wish| *wish == Cancel::Now), if *wish.borrow() != Cancel::Now => {
                    wish.send_replace(Cancel::Now);
                }
            }
        };
        Ok((course, ended))
    }

    /// What a look at the service listens for, and the go of what it runs.
    fn ear_and_go(
        &self,
        room: &Room,
        at: usize,
        go: Go,
        heard: watch::Sender<bool>,
    ) -> Result<(Option<Ear>, Go), RunError> {
        let service = &self.services[at];
        Ok(match &service.look {
            Look::Log(text) => (Some(Ear::new(text, heard)), go),
            Look::Run(argv) => {
                let environment = self.service_environment(service)?;
                (None, self.service_go(room, at, &environment, argv.clone()))
            }
            Look::Ports(_) | Look::Http { .. } | Look::Nothing => (None, go),
        })
    }

    fn is_ready(&self, at: usize, took: Duration, result: &mut ServiceResult) {
        let service = &self.services[at];
        let (ready_s, by) = (took.as_secs_f64(), service.look.what());
        (result.ready_s, result.ready_by) = (Some(ready_s), Some(by.clone()));
        if service.look == Look::Nothing {
            let name = &service.plan.name;
            let text = format!("nothing tells when service `{name}` is ready: its image exposes no port");
            let hint = "say how: ready: {tcp: PORT}, {http: URL}, {run: COMMAND} or {log: TEXT}";
            self.warn(Some("W421"), text, Some(hint.to_owned()));
        }
        self.send(What::ServiceReady { service: service.plan.name.clone(), ready_s, by });
        self.company.ready(at);
    }

    /// Names its end.
    fn judge_service(
        &self,
        room: &Room,
        at: usize,
        prepared: &Prepared,
        (course, ended, exec): (Course, Ended, Option<(rustix::io::Errno, bool)>),
        result: &mut ServiceResult,
    ) -> Result<(), RunError> {
        let service = &self.services[at];
        let limits = room.service_limits(at);
        let events = prepared.cgroup.events();
        result.oom = (events.oom_kills > 0).then(|| Oom {
            limit_bytes: limits.memory_bytes.unwrap_or_default(),
            kills: events.oom_kills,
            victim: ended.victim.clone(),
        });
        let verdict = judge(&Facts {
            status: ended.status,
            stopped: ended.stopped,
            ignored_term: ended.ignored_term,
            exec,
            command: service.argv.first().map_or("", String::as_str),
            expect_exit: &[0],
            oom: result.oom.as_ref(),
            disk: None,
            mem_peak: result.oom.as_ref().and_then(|_| prepared.cgroup.usage().mem_peak),
            pids: (events.pids_hits, limits.pids),
            grace: self.plan.grace,
            leftovers: &[],
        });
        (result.exit_code, result.signal) = (verdict.exit_code, verdict.signal);
        (result.remedy, result.ended) = (verdict.remedy, Some(timestamp()));
        let cause = verdict.cause.unwrap_or_else(|| "exit code 0".to_owned());
        (result.outcome, result.cause) = match course.never {
            Some(why) => {
                let took = format_duration(service.plan.ready.timeout);
                let why = self.secrets.masked(&why).into_owned();
                result.remedy = Some("see its log; raise `ready.timeout` if it only takes longer".to_owned());
                (Outcome::Timeout, Some(format!("not ready within {took}: {why}")))
            }
            None if course.asked => (Outcome::Success, None),
            None => {
                let outcome = match verdict.outcome {
                    Outcome::Success => Outcome::Failure,
                    other => other,
                };
                let when = if course.ready { "while the job needed it" } else { "before it was ready" };
                (outcome, Some(format!("ended {when}: {cause}")))
            }
        };
        result.usage = Usage {
            cpu_s: ended.usage.cpu_us as f64 / 1e6,
            wall_s: ended.wall.as_secs_f64(),
            io_r: Some(ended.usage.read_bytes),
            io_w: Some(ended.usage.write_bytes),
            ..Usage::default()
        };
        measure(prepared, &mut result.usage);
        if exec.is_none() {
            result.log = ended.log?;
        }
        Ok(())
    }

    /// What a service finds in its environment.
    fn service_environment(&self, service: &Service<'_>) -> Result<BTreeMap<String, String>, RunError> {
        let values = Values::new(self.contexts.clone(), self.plan);
        let own = values.settle_env(&service.plan.env, None).map_err(|unsettled| RunError::Unsettled {
            service: service.plan.name.clone(),
            why: unsettled.to_string(),
        })?;
        let secrets = self.variables_of(&service.plan.secrets);
        Ok(command::service_environment(&service.user, &service.rootfs.config.env, &own, &secrets))
    }

    fn service_go(
        &self,
        room: &Room,
        at: usize,
        environment: &BTreeMap<String, String>,
        argv: Vec<String>,
    ) -> Go {
        let service = &self.services[at];
        let start = service.rootfs.config.workdir.as_deref().filter(|path| path.starts_with('/'));
        let (place, rights) = (start.unwrap_or("/").to_owned(), room.service_rights(at));
        let single = self.lease.identity == Identity::Single;
        let files = service.plan.limits.files;
        command::go_of(argv, &service.user, rights, environment, place, files, single)
    }

    /// Says which service ended a step, where one did.
    pub(super) fn because(&self, stopped: Option<Stopped>, cause: Option<String>) -> Option<String> {
        match (stopped, self.company.fallen(), cause) {
            (Some(Stopped::Service), Some(fallen), Some(cause)) => {
                let name = format!("service `{}`, which the job needs,", fallen.name);
                Some(cause.replacen("a service that the job needs", &name, 1))
            }
            (_, _, cause) => cause,
        }
    }

    fn say_service_ended(&self, result: &ServiceResult, tail: Vec<String>) {
        self.send(What::ServiceEnd { result: Box::new(result.clone()), tail });
    }

    fn send(&self, what: What) {
        self.feed.send(Some(&self.plan.id), None, what);
    }
}

/// What services read: nothing.
fn null() -> Result<OwnedFd, RunError> {
    let opened = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| RunError::io("open", "/dev/null".as_ref())(io::Error::from(errno)))
}
