//! The JSON schema says what the reader does: the same keys, every good file valid, bad ones refused.
//!
//! The checker below knows the keywords that the schema uses and panics at any other.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails is a test that panics")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jobs::codes::Code;
use jobs::{Overrides, keys};
use regex_automata::meta::Regex;
use serde_json::{Map, Value};

fn schema() -> Value {
    serde_json::from_str(jobs::SCHEMA).unwrap()
}

/// Returns the first thing about the value that the schema does not allow.
fn fault(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let schema = schema.as_object().unwrap();
    schema.iter().find_map(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" => None,
        "properties" | "patternProperties" => None,
        "additionalProperties" => members(root, schema, value, at),
        "$ref" => {
            let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
            fault(root, target, value, at)
        }
        "anyOf" => {
            let faults: Option<Vec<_>> =
                array(rule).iter().map(|rule| fault(root, rule, value, at)).collect();
            faults.map(|faults| faults.join(" and "))
        }
        "items" => {
            let items = value.as_array()?;
            items.iter().enumerate().find_map(|(n, item)| fault(root, rule, item, &format!("{at}/{n}")))
        }
        "type" => (!has_type(rule, value)).then(|| format!("{at}: {value} is not {rule}")),
        "enum" => (!array(rule).contains(value)).then(|| format!("{at}: {value} is not one of {rule}")),
        "const" => (value != rule).then(|| format!("{at}: {value} is not {rule}")),
        "required" => {
            let map = value.as_object()?;
            let missing = array(rule).iter().find(|key| !map.contains_key(key.as_str().unwrap()))?;
            Some(format!("{at}: {missing} is missing"))
        }
        "pattern" => {
            let text = value.as_str()?;
            let matches = Regex::new(rule.as_str().unwrap()).unwrap().is_match(text);
            (!matches).then(|| format!("{at}: {text} does not match {rule}"))
        }
        "minimum" => {
            (value.as_f64()? < rule.as_f64().unwrap()).then(|| format!("{at}: {value} is too small"))
        }
        "maximum" => (value.as_f64()? > rule.as_f64().unwrap()).then(|| format!("{at}: {value} is too big")),
        "minLength" => (length(value.as_str()?) < number(rule)).then(|| format!("{at}: too short")),
        "maxLength" => (length(value.as_str()?) > number(rule)).then(|| format!("{at}: too long")),
        "not" => {
            fault(root, rule, value, at).is_none().then(|| format!("{at}: what must not be there is there"))
        }
        "minProperties" => (value.as_object()?.len() < number(rule)).then(|| format!("{at}: empty")),
        "minItems" => (value.as_array()?.len() < number(rule)).then(|| format!("{at}: too few")),
        "maxItems" => (value.as_array()?.len() > number(rule)).then(|| format!("{at}: too many")),
        other => panic!("the schema uses `{other}`, which this test does not know"),
    })
}

/// Checks each member by its property, its pattern, or not at all.
fn members(root: &Value, schema: &Map<String, Value>, value: &Value, at: &str) -> Option<String> {
    assert_eq!(schema["additionalProperties"], false);
    let none = Map::new();
    let rules = |keyword| schema.get(keyword).map_or(&none, |rules: &Value| rules.as_object().unwrap());
    value.as_object()?.iter().find_map(|(key, member)| {
        let at = format!("{at}/{key}");
        let matching = |pattern: &&String| Regex::new(pattern).unwrap().is_match(key.as_str());
        let patterns = rules("patternProperties");
        let rule = rules("properties").get(key).or_else(|| Some(&patterns[patterns.keys().find(matching)?]));
        rule.map_or(Some(format!("{at}: unknown key")), |rule| fault(root, rule, member, &at))
    })
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn has_type(rule: &Value, value: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    match rule.as_str() {
        Some(name) => one(name),
        None => array(rule).iter().any(|name| one(name.as_str().unwrap())),
    }
}

/// Returns the job files of a folder as JSON; those that another YAML reader refuses are left out.
fn files(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|found| found == "yml")).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        Some((path.display().to_string(), serde_saphyr::from_str(&text).ok()?))
    };
    paths.iter().filter_map(read).collect()
}

#[test]
fn good_files_and_examples_are_valid() {
    let schema = schema();
    let mut count = 0;
    for (path, value) in files("../fixtures/jobs/good").into_iter().chain(files("examples")) {
        assert_eq!(fault(&schema, &schema, &value, ""), None, "{path}");
        count += 1;
    }
    assert!(count >= 15, "only {count} files could be compared");
}

#[test]
fn bad_files_are_refused_where_a_schema_can_know() {
    let knowable = [
        Code::UnknownKey,
        Code::WrongType,
        Code::MissingKey,
        Code::NotAChoice,
        Code::MissingUnit,
        Code::NoSteps,
        Code::NoRun,
        Code::ExpectExit,
        Code::Retry,
        Code::StepForm,
        Code::SecretValue,
        Code::EnvName,
        Code::NoImage,
        Code::ImageName,
        Code::ImageForm,
        Code::LimitTooSmall,
        Code::Capability,
    ];
    let schema = schema();
    let mut seen = BTreeSet::new();
    for (path, value) in files("../fixtures/jobs/bad") {
        let text = fs::read(&path).unwrap();
        let errors = jobs::plan("job.yml", "job", &text, &Overrides::default()).unwrap_err();
        let codes: Vec<Code> = errors.iter().map(|d| d.code).filter(|code| knowable.contains(code)).collect();
        // Zero with a unit is beyond a pattern, and what expressions come to is beyond any schema.
        let beyond = ["zero-limits.yml", "expression-values.yml", "matrix-cell-values.yml"];
        let beyond = beyond.iter().any(|name| path.ends_with(name));
        if !codes.is_empty() && !beyond {
            assert!(fault(&schema, &schema, &value, "").is_some(), "{path} is valid by the schema");
            seen.extend(codes);
        }
    }
    assert_eq!(seen.len(), knowable.len(), "{seen:?}");
}

#[test]
fn the_keys_are_the_readers() {
    let schema = schema();
    let tables = [
        ("/$defs/job", keys::JOB_KEYS),
        ("/$defs/need", keys::NEED_KEYS),
        ("/$defs/step", keys::STEP_KEYS),
        ("/$defs/retry/anyOf/1", keys::RETRY_KEYS),
        ("/$defs/param", keys::PARAM_KEYS),
        ("/$defs/secret", keys::SECRET_KEYS),
        ("/$defs/step_secret", keys::STEP_SECRET_KEYS),
        ("/$defs/limits", keys::LIMITS_KEYS),
        ("/$defs/include", keys::INCLUDE_KEYS),
        ("/$defs/setup", keys::SETUP_KEYS),
        ("/$defs/io_limits", keys::IO_LIMITS_KEYS),
        ("/$defs/net_limits", keys::NET_LIMITS_KEYS),
        ("/$defs/network", keys::NETWORK_KEYS),
        ("/$defs/image", keys::IMAGE_KEYS),
        ("/$defs/mount", keys::MOUNT_KEYS),
        ("/$defs/artifact", keys::ARTIFACT_KEYS),
        ("/$defs/service", keys::SERVICE_KEYS),
        ("/$defs/cache", keys::CACHE_KEYS),
        ("/$defs/service_limits", keys::SERVICE_LIMITS_KEYS),
        ("/$defs/ready", keys::READY_KEYS),
    ];
    let of_file = [keys::FILE_KEYS, keys::JOB_KEYS].concat();
    for (pointer, keys) in tables.into_iter().chain([("", of_file.as_slice())]) {
        let properties = schema.pointer(&format!("{pointer}/properties")).unwrap().as_object().unwrap();
        let of_schema: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(of_schema, keys.iter().copied().collect(), "{pointer}");
    }
}
