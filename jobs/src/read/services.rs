//! `services`.

use super::{Place, READY_KEYS, Reader, SERVICE_KEYS, SERVICE_LIMITS_KEYS};
use crate::bounds::{PORTS_MAX, SERVICES_MAX};
use crate::file::{At, LimitsField, ReadyField, Required, ServiceField};
use crate::render::quote;
use crate::yaml::{Entry, Node, Value};

impl Reader<'_> {
    /// Reads `services: {NAME: IMAGE}` or `services: {NAME: {...}}`.
    pub(super) fn services(&mut self, node: &Node, place: &str) -> Vec<ServiceField> {
        let Some(map) = self.map(node, "services", place) else { return Vec::new() };
        self.at_most(map.len(), SERVICES_MAX, "services", &node.span);
        map.iter().take(SERVICES_MAX).map(|entry| self.service(entry)).collect()
    }

    fn service(&mut self, Entry { key, key_span, value }: &Entry) -> ServiceField {
        let name = At { value: key.clone(), span: key_span.clone() };
        let mut field = ServiceField { name, ..ServiceField::default() };
        let Value::Map(map) = &value.value else {
            field.image = Required::read(self.image(value));
            return field;
        };
        let place = format!(" in service {}", quote(key));
        let place = place.as_str();
        let meant = self.known_keys(map, SERVICE_KEYS, Place { within: place, ignored_prefix: None });
        field.image = Required::unless_meant("image", &meant);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "image" => field.image = Required::read(self.image(value)),
                "env" => field.env = self.env(value, place),
                "run" => field.run = self.run(value, place),
                "user" => field.user = self.text(value, "user", place),
                "mounts" => field.mounts = self.mounts(value),
                "limits" => field.limits = self.service_limits(value, place),
                "secrets" => field.secrets = self.secrets(value, place, true),
                "ready" => field.ready = self.ready(value, place),
                "stop-signal" => field.stop_signal = self.text_as(value, "stop-signal", "a signal", place),
                "shm" => field.shm = self.size(value, "shm", place),
                "optional" => {
                    field.optional = self.boolean(value, "optional", place).is_some_and(|is| is.value);
                }
                "needs" => {
                    let needs = self.texts(value, "needs", "services", place);
                    field.needs = needs.map(|needs| needs.value).unwrap_or_default();
                }
                "ports" => {
                    let ports = self.texts(value, "ports", "ports such as \"8080:80\"", place);
                    field.ports = ports.map(|ports| ports.value).unwrap_or_default();
                    self.at_most(field.ports.len(), PORTS_MAX, "ports", &value.span);
                }
                _ => {}
            }
        }
        field
    }

    /// Reads the limits of a service: fewer than a job has.
    fn service_limits(&mut self, node: &Node, place: &str) -> LimitsField {
        let within = format!(" in `limits`{place}");
        if let Value::Map(map) = &node.value {
            let keys = Place { within: &within, ignored_prefix: None };
            let meant = self.known_keys(map, SERVICE_LIMITS_KEYS, keys);
            let known = |entry: &&Entry| SERVICE_LIMITS_KEYS.contains(&entry.key.as_str());
            if !meant.is_empty() || map.iter().filter(known).count() < map.len() {
                return LimitsField::default();
            }
        }
        self.limits(node)
    }

    fn ready(&mut self, node: &Node, place: &str) -> Option<At<ReadyField>> {
        let map = self.map(node, "ready", place)?;
        let place = format!(" in `ready`{place}");
        let place = place.as_str();
        self.known_keys(map, READY_KEYS, Place { within: place, ignored_prefix: None });
        let mut field = ReadyField::default();
        for Entry { key, value, key_span } in map {
            if ["tcp", "http", "run", "log"].contains(&key.as_str()) {
                field.probes.push((key.clone(), key_span.clone()));
            }
            match key.as_str() {
                "tcp" => field.tcp = self.integer(value, "tcp", place),
                "http" => field.http = self.text_as(value, "http", "a URL", place),
                "status" => field.status = self.integer(value, "status", place),
                "run" => field.run = self.run(value, place),
                "log" => field.log = self.text(value, "log", place),
                "timeout" => field.timeout = self.duration(value, "timeout", place),
                "interval" => field.interval = self.duration(value, "interval", place),
                "after" => field.after = self.duration(value, "after", place),
                _ => {}
            }
        }
        Some(At { value: field, span: node.span.clone() })
    }
}
