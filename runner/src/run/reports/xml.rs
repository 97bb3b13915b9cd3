//! XML as reports have it: elements, attributes, text. A document type is passed over, so no entity has a meaning but the five
//! that XML knows itself and characters by their numbers.

use std::io::BufRead;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use super::{MESSAGE_CHARS_MAX, ReportError};

/// Elements within one another.
pub(super) const DEPTH_MAX: usize = 64;
/// Bytes of text of one element that are kept: what is shown of it is far less.
const TEXT_BYTES_MAX: usize = 4 * MESSAGE_CHARS_MAX;

/// What a reader of elements is told.
pub(super) enum Part<'p> {
    /// An element begins.
    Start(&'p Element),
    /// Text of the innermost element.
    Text(&'p str),
    /// The innermost element ends; its name.
    End(&'p str),
}

/// The beginning of an element.
pub(super) struct Element {
    /// Its name, without a prefix.
    pub name: String,
    attributes: Vec<(String, String)>,
    /// How many elements it is in.
    pub depth: usize,
}

impl Element {
    /// Returns an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns an attribute that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.trim().parse().ok()
    }
}

/// Reads a document to its end.
pub(super) fn read(
    input: impl BufRead,
    mut take: impl FnMut(Part<'_>) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let mut reader = Reader::from_reader(input);
    let mut buffer = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut seen = false;
    loop {
        buffer.clear();
        let offset = reader.buffer_position();
        let malformed = |why: String| ReportError::Malformed { offset, why };
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(quick_xml::Error::Io(error)) => return Err(std::io::Error::from(error.kind()).into()),
            Err(error) => return Err(malformed(error.to_string())),
        };
        match event {
            Event::Start(start) => {
                if open.len() >= DEPTH_MAX {
                    return Err(ReportError::Deep);
                }
                seen = true;
                let element = element(&start, open.len()).map_err(malformed)?;
                take(Part::Start(&element))?;
                open.push(element.name);
            }
            Event::Empty(start) => {
                seen = true;
                let element = element(&start, open.len()).map_err(malformed)?;
                take(Part::Start(&element))?;
                take(Part::End(&element.name))?;
            }
            Event::End(_) => {
                if let Some(name) = open.pop() {
                    take(Part::End(&name))?;
                }
            }
            Event::Text(text) => take(Part::Text(beginning(&String::from_utf8_lossy(&text))))?,
            Event::CData(text) => take(Part::Text(beginning(&String::from_utf8_lossy(&text))))?,
            Event::GeneralRef(reference) => {
                let name = String::from_utf8_lossy(&reference).into_owned();
                // One that the document defines itself stands for nothing.
                take(Part::Text(&unescape(&format!("&{name};")).unwrap_or_default()))?;
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
            Event::Eof if !open.is_empty() || !seen => return Err(malformed("it ends too early".to_owned())),
            Event::Eof => return Ok(()),
        }
    }
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn element(start: &BytesStart<'_>, depth: usize) -> Result<Element, String> {
    let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = String::from_utf8_lossy(&attribute.value).into_owned();
        let value = unescape(&value).map_or_else(|_| value.clone(), |plain| plain.into_owned());
        let key = String::from_utf8_lossy(attribute.key.local_name().as_ref()).into_owned();
        attributes.push((key, value));
    }
    Ok(Element { name, attributes, depth })
}
