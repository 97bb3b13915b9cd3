//! SARIF: results of analysers, counted by level as they pass.

use std::fmt;
use std::io::BufRead;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::{Finding, FindingCounts, LISTED_MAX, MESSAGE_CHARS_MAX, NAME_CHARS_MAX, ReportError, cut};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub counts: FindingCounts,
    /// The first of them.
    pub listed: Vec<Finding>,
    /// It is what it should be.
    known: bool,
}

/// Reads a file.
pub(super) fn read(input: impl BufRead) -> Result<Findings, ReportError> {
    let mut findings = Findings::default();
    let mut deserializer = serde_json::Deserializer::from_reader(input);
    let read = At(Place::Log, &mut findings).deserialize(&mut deserializer);
    match read.and_then(|()| deserializer.end()) {
        Ok(()) if findings.known => Ok(findings),
        Ok(()) => Err(ReportError::Other { expected: "SARIF: it has no `runs`" }),
        Err(error) if error.is_io() => Err(std::io::Error::from(error).into()),
        Err(error) => Err(ReportError::Malformed { offset: error.column() as u64, why: error.to_string() }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    level: Option<String>,
    kind: Option<String>,
    rule_id: Option<String>,
    #[serde(default)]
    message: Message,
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    suppressions: Vec<IgnoredAny>,
}

#[derive(Deserialize, Default)]
struct Message {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Option<Physical>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Option<Artifact>,
    region: Option<Region>,
}

#[derive(Deserialize)]
struct Artifact {
    uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: Option<u64>,
}

impl Findings {
    fn take(&mut self, result: Outcome) {
        // What is in order, does not apply, or was accepted is no finding.
        let found = result.kind.as_deref().is_none_or(|kind| kind == "fail");
        let level = match result.level.as_deref() {
            Some("error") => "error",
            None | Some("warning") => "warning",
            Some("note") => "note",
            Some(_) => return,
        };
        if !found || !result.suppressions.is_empty() {
            return;
        }
        match level {
            "error" => self.counts.errors += 1,
            "warning" => self.counts.warnings += 1,
            _ => self.counts.notes += 1,
        }
        if self.listed.len() >= LISTED_MAX {
            return;
        }
        let place = result.locations.into_iter().next().and_then(|location| location.physical_location);
        let (file, line) = place.map_or((None, None), |place| {
            let uri = place.artifact_location.and_then(|artifact| artifact.uri);
            (uri.map(|uri| cut(&uri, NAME_CHARS_MAX)), place.region.and_then(|region| region.start_line))
        });
        self.listed.push(Finding {
            level,
            rule: result.rule_id.map(|rule| cut(&rule, NAME_CHARS_MAX)),
            message: cut(result.message.text.as_deref().unwrap_or_default(), MESSAGE_CHARS_MAX),
            file,
            line,
        });
    }
}

/// Where in the document a reader stands.
#[derive(Clone, Copy)]
enum Place {
    Log,
    Runs,
    Run,
    Results,
}

/// Reads what stands at a place, result by result: a report may have more of them than memory.
struct At<'f>(Place, &'f mut Findings);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Place::Log => "SARIF",
            Place::Runs => "a list of runs",
            Place::Run => "a run",
            Place::Results => "a list of results",
        })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (wanted, next) = match self.0 {
            Place::Log => ("runs", Place::Runs),
            Place::Run => ("results", Place::Results),
            Place::Runs | Place::Results => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == wanted {
                self.1.known = true;
                map.next_value_seed(At(next, &mut *self.1))?;
            } else {
                let _passed: IgnoredAny = map.next_value()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        match self.0 {
            Place::Runs => while list.next_element_seed(At(Place::Run, &mut *self.1))?.is_some() {},
            Place::Results => {
                while let Some(result) = list.next_element()? {
                    self.1.take(result);
                }
            }
            Place::Log | Place::Run => return Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_by_level() {
        let text = r#"{"$schema": {"x": [1, {}]}, "version": "2.1.0", "runs": [
            {"tool": {"driver": {"name": "x"}}, "results": [
                {"ruleId": "R1", "level": "error", "message": {"text": "bad\u0007"}, "locations": [
                    {"physicalLocation": {"artifactLocation": {"uri": "src/a.c"}, "region": {"startLine": 4}}}, {}]},
                {"message": {}},
                {"level": "note", "message": {"text": "n"}},
                {"level": "none", "message": {"text": "n"}},
                {"level": "error", "kind": "pass", "message": {"text": "p"}},
                {"level": "error", "suppressions": [{"kind": "inSource"}], "message": {"text": "s"}}]},
            {"results": null}, {"tool": {}}]}"#;
        let findings = read(text.as_bytes()).unwrap();
        assert_eq!(findings.counts, FindingCounts { errors: 1, warnings: 1, notes: 1 });
        let first = &findings.listed[0];
        assert_eq!(
            (first.rule.as_deref(), first.message.as_str(), first.file.as_deref(), first.line),
            (Some("R1"), "bad", Some("src/a.c"), Some(4))
        );
    }

    #[test]
    fn what_is_something_else_is_refused() {
        let deep = format!("{{\"runs\": {}", "[".repeat(100_000));
        for text in ["", "x", "[]", "{}", "{\"runs\": {}}", "{\"runs\": [[]]}", "{\"runs\": []} x", &deep] {
            assert!(read(text.as_bytes()).is_err(), "{}", &text[..text.len().min(40)]);
        }
        assert_eq!(read("{\"runs\": []}".as_bytes()).unwrap().counts, FindingCounts::default());
    }
}
