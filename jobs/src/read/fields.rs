//! The composite fields of a job: image, env, limits, shell, mounts, artifacts.

use super::{
    ARTIFACT_KEYS, IMAGE_KEYS, IO_LIMITS_KEYS, LIMITS_KEYS, MOUNT_KEYS, NET_LIMITS_KEYS, NETWORK_KEYS, Place,
    Reader, Unusable,
};
use crate::bounds::{ALLOW_MAX, ARTIFACTS_MAX, MOUNTS_MAX, PATTERNS_MAX};
use crate::codes::Code;
use crate::expression::Template;
use crate::file::{
    ArtifactField, At, EnvField, ImageField, LimitsField, MountField, NetworkField, PrivilegesField,
    Required, ShellField,
};
use crate::rights::CAPABILITIES;
use crate::source::Span;
use crate::yaml::{Entry, Kind, Node, Origin, Value};

impl Reader<'_> {
    pub(super) fn image(&mut self, node: &Node) -> Option<At<ImageField>> {
        let Value::Map(map) = &node.value else {
            let reference = self.text_as(node, "image", "text or a map with `ref`", "")?;
            let span = reference.span.clone();
            return Some(At { value: ImageField { reference, sha256: None, pull: None }, span });
        };
        let place = " in `image`";
        let meant = self.known_keys(map, IMAGE_KEYS, Place { within: place, ignored_prefix: None });
        let (mut reference, mut sha256, mut pull) = (None, None, None);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "ref" => reference = self.text(value, "ref", place),
                "sha256" => sha256 = self.text(value, "sha256", place),
                "pull" => pull = self.text(value, "pull", place),
                _ => {}
            }
        }
        self.require(map, "ref", &meant, &node.span, place);
        Some(At { value: ImageField { reference: reference?, sha256, pull }, span: node.span.clone() })
    }

    /// Reports a key that is missing from a map and not misspelt in it.
    pub(super) fn require(&mut self, map: &[Entry], key: &str, meant: &[&str], span: &Span, place: &str) {
        if !meant.contains(&key) && !map.iter().any(|entry| entry.key == key) {
            self.problems.add(Code::MissingKey, span, format!("the key `{key}` is missing{place}"));
        }
    }

    pub(super) fn env(&mut self, node: &Node, place: &str) -> Vec<EnvField> {
        self.templates(node, "env", place)
    }

    /// Returns a map of text, some of it to be settled later.
    pub(super) fn templates(&mut self, node: &Node, of: &str, place: &str) -> Vec<EnvField> {
        let Some(map) = self.map(node, of, place) else { return Vec::new() };
        let within = format!(" in `{of}`{place}");
        let mut env = Vec::with_capacity(map.len());
        for Entry { key, key_span, value } in map {
            let name = At { value: key.clone(), span: key_span.clone() };
            let text = match self.scalar(value) {
                Ok(scalar) => match &scalar.origin {
                    Origin::Late(template) => Some(Template::clone(template)),
                    _ if scalar.kind == Kind::Null => None,
                    _ => Some(Template::literal(scalar.text.clone())),
                },
                Err(Unusable::Type) => {
                    let expected = if of == "env" { "text (or null, which unsets it)" } else { "text" };
                    self.wrong_type(value, key, expected, &within);
                    continue;
                }
                Err(Unusable::Reported) => continue,
            };
            env.push(EnvField { name, value: At { value: text, span: value.span.clone() } });
        }
        env
    }

    pub(super) fn limits(&mut self, node: &Node) -> LimitsField {
        let mut limits = LimitsField::default();
        let Some(map) = self.map(node, "limits", "") else { return limits };
        let place = " in `limits`";
        self.known_keys(map, LIMITS_KEYS, Place { within: place, ignored_prefix: None });
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "cpus" => limits.cpus = self.number(value, "cpus", place),
                "cpu-weight" => limits.cpu_weight = self.integer(value, "cpu-weight", place),
                "memory" => limits.memory = self.size(value, "memory", place),
                "swap" => limits.swap = self.size(value, "swap", place),
                "pids" => limits.pids = self.integer(value, "pids", place),
                "files" => limits.files = self.integer(value, "files", place),
                "log" => limits.log = self.size(value, "log", place),
                "disk" => limits.disk = self.size(value, "disk", place),
                "io" => self.io_limits(value, &mut limits),
                "net" => self.net_limits(value, &mut limits),
                _ => {}
            }
        }
        limits
    }

    fn io_limits(&mut self, node: &Node, limits: &mut LimitsField) {
        let place = " in `limits`";
        let Some(map) = self.map(node, "io", place) else { return };
        let place = " in `io` in `limits`";
        self.known_keys(map, IO_LIMITS_KEYS, Place { within: place, ignored_prefix: None });
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "read" => limits.io_read = self.size(value, "read", place),
                "write" => limits.io_write = self.size(value, "write", place),
                "read-ops" => limits.io_read_ops = self.integer(value, "read-ops", place),
                "write-ops" => limits.io_write_ops = self.integer(value, "write-ops", place),
                _ => {}
            }
        }
    }

    fn net_limits(&mut self, node: &Node, limits: &mut LimitsField) {
        let place = " in `limits`";
        let Some(map) = self.map(node, "net", place) else { return };
        let place = " in `net` in `limits`";
        self.known_keys(map, NET_LIMITS_KEYS, Place { within: place, ignored_prefix: None });
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "rx" => limits.net_receive = self.size(value, "rx", place),
                "tx" => limits.net_send = self.size(value, "tx", place),
                _ => {}
            }
        }
    }

    pub(super) fn network(&mut self, node: &Node, place: &str) -> Option<At<NetworkField>> {
        let span = node.span.clone();
        let Value::Map(map) = &node.value else {
            let expected = "`full`, `none`, `host`, or a map with `allow`";
            let word = self.text_as(node, "network", expected, place)?;
            return Some(At { value: NetworkField::Word(word.value), span });
        };
        let place = " in `network`";
        self.known_keys(map, NETWORK_KEYS, Place { within: place, ignored_prefix: None });
        let (mut allow, mut record) = (None, None);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "allow" => {
                    // One that cannot be read must not look like one that is not there.
                    allow = Some(self.texts(value, "allow", "hosts", place)?);
                    if let Some(allow) = &allow {
                        self.at_most(allow.value.len(), ALLOW_MAX, "hosts", &allow.span);
                    }
                }
                "record" => record = self.boolean(value, "record", place),
                _ => {}
            }
        }
        Some(At { value: NetworkField::Rules { allow, record }, span })
    }

    pub(super) fn seccomp(&mut self, node: &Node, place: &str) -> Option<At<String>> {
        self.text_as(node, "seccomp", "`default`, `strict`, `off` or the path of a profile", place)
    }

    pub(super) fn privileges(&mut self, node: &Node, place: &str) -> Option<At<PrivilegesField>> {
        let value = match &node.value {
            Value::List(_) => {
                let names = self.texts(node, "privileges", "capabilities", place)?;
                self.at_most(names.value.len(), CAPABILITIES.len(), "capabilities", &names.span);
                PrivilegesField::Capabilities(names.value)
            }
            Value::Scalar(_) | Value::Map(_) | Value::Unreadable => {
                let expected = "`default`, `nested` or a list of capabilities";
                PrivilegesField::Word(self.text_as(node, "privileges", expected, place)?.value)
            }
        };
        Some(At { value, span: node.span.clone() })
    }

    pub(super) fn shell(&mut self, node: &Node, place: &str) -> Option<At<ShellField>> {
        let value = match &node.value {
            Value::List(_) => ShellField::Argv(self.texts(node, "shell", "arguments", place)?.value),
            Value::Scalar(_) | Value::Map(_) | Value::Unreadable => {
                ShellField::Name(self.text_as(node, "shell", "a name or a list", place)?.value)
            }
        };
        Some(At { value, span: node.span.clone() })
    }

    /// Returns a list of texts; one that is not text makes the list unreadable, after all are looked at.
    pub(super) fn texts(
        &mut self,
        node: &Node,
        key: &str,
        of: &str,
        place: &str,
    ) -> Option<At<Vec<At<String>>>> {
        let list = self.list(node, key, of, place)?;
        let within = format!(" in `{key}`{place}");
        let texts: Vec<_> = list.iter().map(|entry| self.text(entry, "an entry", &within)).collect();
        Some(At { value: texts.into_iter().collect::<Option<_>>()?, span: node.span.clone() })
    }

    pub(super) fn mounts(&mut self, node: &Node) -> Option<At<Vec<MountField>>> {
        let list = self.list(node, "mounts", "mounts", "")?;
        self.at_most(list.len(), MOUNTS_MAX, "mounts", &node.span);
        let mounts = list.iter().take(MOUNTS_MAX).filter_map(|entry| self.mount(entry)).collect();
        Some(At { value: mounts, span: node.span.clone() })
    }

    fn mount(&mut self, node: &Node) -> Option<MountField> {
        let Value::Map(map) = &node.value else {
            return self.text_as(node, "a mount", "text or a map", "").map(MountField::Short);
        };
        let place = " in the mount";
        let meant = self.known_keys(map, MOUNT_KEYS, Place { within: place, ignored_prefix: None });
        let (mut host, mut path, mut read_only) = (None, None, true);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "host" => host = self.text(value, "host", place),
                "path" => path = self.text(value, "path", place),
                "ro" => read_only = self.boolean(value, "ro", place).is_none_or(|ro| ro.value),
                _ => {}
            }
        }
        self.require(map, "host", &meant, &node.span, place);
        self.require(map, "path", &meant, &node.span, place);
        Some(MountField::Long { host: host?, path: path?, read_only })
    }

    pub(super) fn artifacts(&mut self, node: &Node, place: &str) -> Option<At<Vec<ArtifactField>>> {
        let list = self.list(node, "artifacts", "patterns or maps", place)?;
        self.at_most(list.len(), ARTIFACTS_MAX, "artifacts", &node.span);
        let artifacts =
            list.iter().take(ARTIFACTS_MAX).filter_map(|entry| self.artifact(entry, place)).collect();
        Some(At { value: artifacts, span: node.span.clone() })
    }

    fn artifact(&mut self, node: &Node, place: &str) -> Option<ArtifactField> {
        let span = node.span.clone();
        let Value::Map(map) = &node.value else {
            let pattern = self.text_as(node, "an artifact", "a pattern or a map", place)?;
            let paths = Required::Given(At { value: vec![pattern], span: span.clone() });
            return Some(ArtifactField { span, name: None, paths, when: None, optional: false });
        };
        let place = " in the artifact";
        let meant = self.known_keys(map, ARTIFACT_KEYS, Place { within: place, ignored_prefix: None });
        let mut field = ArtifactField {
            span,
            name: None,
            paths: Required::unless_meant("paths", &meant),
            when: None,
            optional: false,
        };
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "name" => field.name = self.text(value, "name", place),
                "paths" => {
                    field.paths = Required::read(self.texts(value, "paths", "patterns", place));
                    if let Required::Given(paths) = &field.paths {
                        self.at_most(paths.value.len(), PATTERNS_MAX, "patterns", &paths.span);
                    }
                }
                "when" => field.when = self.text(value, "when", place),
                "optional" => {
                    field.optional = self.boolean(value, "optional", place).is_some_and(|o| o.value)
                }
                _ => {}
            }
        }
        Some(field)
    }

    pub(super) fn at_most(&mut self, count: usize, max: usize, what: &str, span: &Span) {
        if count > max {
            let text = format!("{count} {what} are given; at most {max} are accepted");
            self.problems.add(Code::TooMany, span, text);
        }
    }
}
