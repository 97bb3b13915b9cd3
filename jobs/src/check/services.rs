//! The services: each by itself, and among each other.

use std::collections::{HashMap, HashSet};

use super::{Checker, ValidOverrides};
use crate::bounds::{READY_LOG_BYTES_MAX, SHM_BYTES_MIN};
use crate::codes::Code;
use crate::diagnostic::Origin;
use crate::file::{At, ReadyField, Required, RunField, ServiceField};
use crate::job::{Run, Service};
use crate::names;
use crate::plan::{Network, SecretPlan};
use crate::render::quote;
use crate::service::{
    self, DEFAULT_HTTP_STATUS, DEFAULT_READY_INTERVAL, DEFAULT_READY_TIMEOUT, DEFAULT_SHM_BYTES, Probe,
    PublishedPort, Ready, parse_url,
};
use crate::source::Span;
use crate::suggest::nearest;

/// Names that mean something else inside.
const RESERVED: [&str; 3] = ["localhost", "ip6-localhost", "ip6-loopback"];

impl Checker<'_> {
    /// Returns the services that are valid. `own`: the job's network, unless the command line has another.
    pub(super) fn services(
        &mut self,
        fields: Vec<ServiceField>,
        declared: &[SecretPlan],
        valid: &ValidOverrides,
        own: Option<(&Network, Span)>,
    ) -> Vec<Service> {
        let needs: Vec<(String, Vec<At<String>>)> =
            fields.iter().map(|field| (field.name.value.clone(), field.needs.clone())).collect();
        self.service_needs(&needs);
        self.one_port_each(&fields);
        let services: Vec<Service> =
            fields.into_iter().filter_map(|field| self.service(field, declared)).collect();
        self.services_in_network(&services, valid.network.as_ref(), own);
        services
    }

    fn service(&mut self, field: ServiceField, declared: &[SecretPlan]) -> Option<Service> {
        let name = field.name.value.as_str();
        let place = format!(" in service {}", quote(name));
        let place = place.as_str();
        let good_name = self.service_name(&field.name);
        if matches!(field.image, Required::Absent) {
            let text = format!("the service {} has no `image`", quote(name));
            self.problems.add(Code::NoImage, &field.name.span, text).hint(crate::image::FORMS);
        }
        let image = match &field.image {
            Required::Given(_) => self.image(&field.image, &field.name.span, name),
            Required::Absent | Required::Unreadable => None,
        };
        let env = self.env(field.env, place);
        let command = field.run.map(|run| self.service_command(run, &["/bin/sh", "-e", "-c"], place));
        let user = field.user.and_then(|user| self.user(&user.value, &user.span, place));
        let mounts = field.mounts.map(|mounts| self.mounts(mounts.value)).unwrap_or_default();
        let limits = self.limits(&field.limits);
        let secrets = self.step_secrets(field.secrets, declared, place);
        let ready = self.ready(field.ready, name, place);
        let stop_signal = field.stop_signal.and_then(|signal| self.stop_signal(&signal, place));
        let shm_bytes = self.size(field.shm.as_ref(), "shm", SHM_BYTES_MIN);
        let ports = field.ports.iter().filter_map(|port| self.published(port, place)).collect();
        Some(Service {
            name: good_name.then(|| field.name.value.clone())?,
            image: image?,
            env,
            command: match command {
                Some(command) => Some(command?),
                None => None,
            },
            user,
            mounts,
            limits,
            secrets,
            ready: ready?,
            stop_signal,
            shm_bytes: shm_bytes.unwrap_or(DEFAULT_SHM_BYTES),
            optional: field.optional,
            needs: field.needs.into_iter().map(|need| need.value).collect(),
            ports,
        })
    }

    fn service_name(&mut self, name: &At<String>) -> bool {
        let reserved = RESERVED.contains(&name.value.as_str());
        if names::is_id(&name.value) && !reserved {
            return true;
        }
        let text = match reserved {
            true => format!("{} cannot be the name of a service: it is the job's own", quote(&name.value)),
            false => format!("{} cannot be the name of a service", quote(&name.value)),
        };
        let hint = match names::slug(&name.value) {
            Some(slug) if !reserved => {
                format!("a lower-case letter, then letters, digits, `-`, `_`: `{slug}`, for example")
            }
            Some(_) | None => "a lower-case letter, then up to 62 letters, digits, `-`, `_`".to_owned(),
        };
        self.problems.add(Code::BadId, &name.span, text).hint(hint);
        false
    }

    /// A program with its arguments; text is what `shell` runs.
    fn service_command(&mut self, run: At<RunField>, shell: &[&str], place: &str) -> Option<Vec<String>> {
        let span = run.span.clone();
        match self.run(run, place)? {
            Run::Argv(argv) => Some(argv),
            Run::Script(text) => {
                let fits = self.fits(text.len() + 1, "`run`", &span, place);
                let words = shell.iter().map(|word| (*word).to_owned());
                fits.then(|| words.chain([text]).collect())
            }
            // No form of its own: it is read from a field that has none.
            Run::Wait(_) | Run::Cancel(_) | Run::Uses { .. } => None,
        }
    }

    fn ready(&mut self, field: Option<At<ReadyField>>, service: &str, place: &str) -> Option<Ready> {
        let mut ready = Ready {
            probe: None,
            timeout: DEFAULT_READY_TIMEOUT,
            interval: DEFAULT_READY_INTERVAL,
            after: std::time::Duration::ZERO,
        };
        let Some(At { value: field, .. }) = field else { return Some(ready) };
        let place = format!(" in `ready`{place}");
        let place = place.as_str();
        let before = self.problems.len();
        if let [_, (second, at), ..] = field.probes.as_slice() {
            let text = format!("{} is a second way to tell{place}", quote(second));
            let hint = "a service is ready in one way: `tcp`, `http`, `run` or `log`";
            self.problems.add(Code::ServiceReady, at, text).hint(hint);
        }
        let times = [
            (&field.timeout, "timeout", &mut ready.timeout, false),
            (&field.interval, "interval", &mut ready.interval, false),
            (&field.after, "after", &mut ready.after, true),
        ];
        for (given, key, time, zero) in times {
            if let Some(found) = given.as_ref().and_then(|given| self.time(given, key, place, zero)) {
                *time = found;
            }
        }
        if let (Some(status), None) = (&field.status, &field.http) {
            let text = format!("`status`{place} has no use without `http`");
            self.problems.add(Code::ServiceReady, &status.span, text);
        }
        ready.probe = self.probe(field, service, place);
        (self.problems.len() == before).then_some(ready)
    }

    fn probe(&mut self, field: ReadyField, service: &str, place: &str) -> Option<Probe> {
        let mut wrong = |at: &Span, text: String, hint: &str| {
            let problem = self.problems.add(Code::ServiceReady, at, text);
            if !hint.is_empty() {
                problem.hint(hint);
            }
            None
        };
        if let Some(tcp) = field.tcp {
            return match u16::try_from(tcp.value).ok().filter(|port| *port > 0) {
                Some(port) => Some(Probe::Tcp(port)),
                None => wrong(&tcp.span, format!("`tcp`{place} is not a port: {}", tcp.value), "1 to 65535"),
            };
        }
        if let Some(http) = field.http {
            let status = match &field.status {
                None => DEFAULT_HTTP_STATUS,
                Some(status) => match u16::try_from(status.value).ok().filter(|s| (100..=599).contains(s)) {
                    Some(status) => status,
                    None => return wrong(&status.span, format!("`status`{place} is not 100 to 599"), ""),
                },
            };
            return match parse_url(&http.value, service) {
                Ok((port, host, path)) => Some(Probe::Http { port, host, path, status }),
                Err(fault) => {
                    let text = format!("`http`{place} cannot be {}: {fault}", quote(&http.value));
                    let hint =
                        "such as `http://localhost:8080/health`; of another protocol, use `tcp` or `run`";
                    wrong(&http.span, text, hint)
                }
            };
        }
        if let Some(log) = field.log {
            if log.value.trim().is_empty() || log.value.len() > READY_LOG_BYTES_MAX {
                let text = format!("`log`{place} must be text of 1 to {READY_LOG_BYTES_MAX} bytes");
                return wrong(&log.span, text, "");
            }
            return Some(Probe::Log(log.value));
        }
        if let Some(run) = field.run {
            return Some(Probe::Run(self.service_command(run, &["/bin/sh", "-c"], place)?));
        }
        // Only times: what is looked at is left to the image.
        None
    }

    fn stop_signal(&mut self, field: &At<String>, place: &str) -> Option<u8> {
        let found = service::signal(&field.value);
        if found.is_none() {
            let text = format!("`stop-signal`{place} cannot be {}", quote(&field.value));
            let hint = "a name such as SIGINT or SIGQUIT, or a number of 1 to 64";
            self.problems.add(Code::StopSignal, &field.span, text).hint(hint);
        }
        found
    }

    fn published(&mut self, field: &At<String>, place: &str) -> Option<PublishedPort> {
        let found = field.value.parse().ok();
        if found.is_none() {
            let text = format!("{}{place} is not a port, nor `HOST:SERVICE`", quote(&field.value));
            let hint = "two numbers of 1 to 65535: \"8080:80\"; only this machine's loopback can reach it";
            self.problems.add(Code::PublishedPort, &field.span, text).hint(hint);
        }
        found
    }

    /// Tests that services need others of the job, and none itself in a circle.
    fn service_needs(&mut self, all: &[(String, Vec<At<String>>)]) {
        let ids: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        for (name, needs) in all {
            for need in needs.iter().filter(|need| !ids.contains(&need.value.as_str())) {
                let mut text =
                    format!("service {} needs {}, which does not exist", quote(name), quote(&need.value));
                if let Some(similar) = nearest(&need.value, &ids) {
                    text.push_str(&format!("; did you mean `{similar}`?"));
                }
                let hint = "`needs` of a service names other services of the same job";
                self.problems.add(Code::UnknownService, &need.span, text).hint(hint);
            }
        }
        let mut done: HashSet<&str> = HashSet::new();
        for start in &ids {
            self.service_circle(all, &mut vec![*start], &mut done);
        }
    }

    /// Walks on from the last of `path`, which holds no name twice: at most as deep as there are services.
    fn service_circle<'n>(
        &mut self,
        all: &'n [(String, Vec<At<String>>)],
        path: &mut Vec<&'n str>,
        done: &mut HashSet<&'n str>,
    ) {
        let Some(last) = path.last().copied().filter(|last| !done.contains(last)) else { return };
        for need in all.iter().filter(|(name, _)| name == last).flat_map(|(_, needs)| needs) {
            match path.iter().position(|name| *name == need.value) {
                Some(from) => {
                    let circle = path[from..].join(" → ");
                    let text = match path.len() - from {
                        1 => format!("the service `{last}` needs itself"),
                        _ => format!("services need each other: {circle} → {}", need.value),
                    };
                    self.problems.add(Code::ServiceCycle, &need.span, text);
                }
                None => {
                    path.push(&need.value);
                    self.service_circle(all, path, done);
                    path.pop();
                }
            }
        }
        done.insert(last);
    }

    /// Two services whose readiness is told by one port would be taken for each other.
    fn one_port_each(&mut self, fields: &[ServiceField]) {
        let mut seen: HashMap<i64, &str> = HashMap::new();
        for field in fields {
            let Some(tcp) = field.ready.as_ref().and_then(|ready| ready.value.tcp.as_ref()) else { continue };
            if let Some(first) = seen.insert(tcp.value, &field.name.value) {
                let (first, second) = (quote(first), quote(&field.name.value));
                let text = format!("services {first} and {second} both have the port {}", tcp.value);
                let hint = "services share the job's network: give one of them another port";
                self.problems.add(Code::ServicePort, &tcp.span, text).hint(hint);
            }
        }
    }

    /// Services need a network that is the job's own, and steps that may reach it.
    fn services_in_network(
        &mut self,
        services: &[Service],
        over: Option<&Network>,
        own: Option<(&Network, Span)>,
    ) {
        let chosen = over.map(|network| (network, Origin::CommandLine));
        let chosen = chosen.or(own.map(|(network, span)| (network, Origin::from(&span))));
        let (Some(first), Some((network, at))) = (services.first(), chosen) else { return };
        let (word, why) = match network {
            Network::None => ("none", "steps would not reach them"),
            Network::Host => ("host", "they would stand open in this machine's own network"),
            Network::Full | Network::Services | Network::Rules(_) => return,
        };
        let text =
            format!("services, such as {}, cannot run with `network: {word}`: {why}", quote(&first.name));
        let hint = "`network: services` has the services and nothing else; `full` and `allow` have both";
        self.problems.add(Code::ServiceNetwork, at, text).hint(hint);
    }
}
