//! The little of DNS (RFC 1035) that a resolver in the middle must read: one question, and addresses in its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a message's header.
const HEADER: usize = 12;
/// Labels and pointers followed in one name: more is a loop.
const NAME_PARTS_MAX: usize = 128;
/// Bytes of a name in text.
const NAME_BYTES_MAX: usize = 255;
/// The longest message, by its length field in TCP.
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// Record type of an IPv4 address.
pub const A: u16 = 1;
/// Record type of an IPv6 address.
pub const AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Answer codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// There is such a name, but nothing of this type.
    NoData = 0,
    /// The question was not understood.
    FormatError = 1,
    /// Nobody could be asked.
    ServerFailure = 2,
    /// There is no such name.
    NoName = 3,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The asker's number for it.
    pub id: u16,
    /// The name in lower case, without a dot at its end.
    pub name: String,
    /// Which type of record.
    pub kind: u16,
    /// Header and question, as they stand in the message.
    end: usize,
}

impl Question {
    /// The same question under another number.
    pub fn numbered(&self, id: u16) -> Self {
        Self { id, ..self.clone() }
    }
}

/// Reads a query with exactly one question. `None`: it is not one.
pub fn question(message: &[u8]) -> Option<Question> {
    let head = message.first_chunk::<HEADER>()?;
    // A query (bit 15 clear), of the standard kind (opcode 0).
    if head[2] & 0xf8 != 0 {
        return None;
    }
    asked(message)
}

fn asked(message: &[u8]) -> Option<Question> {
    let count = word(message, 4)?;
    if count != 1 {
        return None;
    }
    let (name, at) = name(message, HEADER)?;
    let (kind, class) = (word(message, at)?, word(message, at + 2)?);
    (class == CLASS_IN).then_some(Question { id: word(message, 0)?, name, kind, end: at + 4 })
}

/// The addresses in the answer to a question. `None`: it is not an answer to it.
pub fn addresses(message: &[u8], to: &Question) -> Option<Vec<IpAddr>> {
    let echoed = asked(message)?;
    let is_answer = message.get(2)? & 0x80 != 0;
    if !is_answer || echoed.name != to.name || echoed.kind != to.kind || echoed.id != to.id {
        return None;
    }
    let mut found = Vec::new();
    let mut at = echoed.end;
    for _ in 0..word(message, 6)? {
        // A message that was cut off says so in its header, and still carries what came before.
        let Some((_, after)) = name(message, at) else { break };
        let (Some(kind), Some(class), Some(length)) =
            (word(message, after), word(message, after + 2), word(message, after + 8))
        else {
            break;
        };
        let start = after + 10;
        let Some(data) = message.get(start..start + usize::from(length)) else { break };
        match (kind, class) {
            (A, CLASS_IN) => {
                if let Ok(bytes) = <[u8; 4]>::try_from(data) {
                    found.push(IpAddr::V4(Ipv4Addr::from(bytes)));
                }
            }
            (AAAA, CLASS_IN) => {
                if let Ok(bytes) = <[u8; 16]>::try_from(data) {
                    found.push(IpAddr::V6(Ipv6Addr::from(bytes)));
                }
            }
            _ => {}
        }
        at = start + usize::from(length);
    }
    Some(found)
}

/// Answers a query without asking anybody: its header turned round, its question, no records.
pub fn refuse(query: &[u8], question: Option<&Question>, code: Code) -> Vec<u8> {
    let kept = question.map_or(HEADER, |question| question.end).min(query.len());
    let mut answer = query.get(..kept).unwrap_or_default().to_vec();
    answer.resize(answer.len().max(HEADER), 0);
    if let Some(header) = answer.first_chunk_mut::<HEADER>() {
        // A response; opcode and "recursion desired" as asked; recursion is available.
        header[2] = 0x80 | (header[2] & 0x79);
        header[3] = 0x80 | code as u8;
        header[4..].copy_from_slice(&[0, u8::from(question.is_some()), 0, 0, 0, 0, 0, 0]);
    }
    answer
}

/// Replaces a message's number.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(field) = message.first_chunk_mut::<2>() {
        *field = id.to_be_bytes();
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Reads a name and says where it ends. Only letters that cannot be taken for a dot or for nothing are names here.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut end = None;
    for _ in 0..NAME_PARTS_MAX {
        let length = *message.get(at)?;
        match length {
            0 => return Some((text, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
                    return None;
                }
                if !text.is_empty() {
                    text.push('.');
                }
                text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                if text.len() > NAME_BYTES_MAX {
                    return None;
                }
                at += 1 + usize::from(length);
            }
            // A pointer to where the rest of the name stands.
            192.. => {
                end.get_or_insert(at + 2);
                at = usize::from(word(message, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query.
    pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    /// Its answer: an alias, then addresses of the alias.
    fn answered(query: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[7] = addresses.len() as u8 + 1;
        let alias = message.len() + 12;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0]);
        for address in addresses {
            message.extend([0xc0, alias as u8]);
            let (kind, octets) = match address {
                IpAddr::V4(v4) => (A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
            };
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 9, 0, octets.len() as u8]);
            message.extend(octets);
        }
        message
    }

    #[test]
    fn a_query_is_read() {
        let found = question(&query(7, "WWW.Example.org", A)).unwrap();
        assert_eq!((found.id, found.name.as_str(), found.kind), (7, "www.example.org", A));
    }

    #[test]
    fn addresses_behind_an_alias_count() {
        let asked = query(7, "www.example.org", A);
        let addresses_in = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let message = answered(&asked, &addresses_in);
        let to = question(&asked).unwrap();
        assert_eq!(addresses(&message, &to).unwrap(), addresses_in);
        let other = question(&query(7, "other.example.org", A)).unwrap();
        assert_eq!(addresses(&message, &other), None, "the answer to another question");
        let later = question(&query(8, "www.example.org", A)).unwrap();
        assert_eq!(addresses(&message, &later), None, "another number");
        assert_eq!(addresses(&asked, &to), None, "the query itself");
    }

    #[test]
    fn names_that_could_be_misread_are_no_names() {
        for (what, bytes) in [
            ("a dot in a label", &b"\x03a.b\x03org\x00"[..]),
            ("a zero in a label", b"\x02a\0\x03org\0"),
            ("a space", b"\x03a b\0"),
            ("a loop", b"\xc0\x0c"),
            ("cut off", b"\x09abc"),
        ] {
            let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            message.extend_from_slice(bytes);
            message.extend([0, 1, 0, 1]);
            assert_eq!(question(&message), None, "{what}");
        }
    }

    #[test]
    fn a_refusal_repeats_the_question() {
        let asked = query(7, "www.example.org", AAAA);
        let found = question(&asked).unwrap();
        let answer = refuse(&asked, Some(&found), Code::NoName);
        assert_eq!(answer[..4], [0, 7, 0x81, 0x83]);
        assert_eq!(answer[4..], asked[4..]);
        assert_eq!(addresses(&answer, &found).unwrap(), [] as [IpAddr; 0]);
        assert_eq!(refuse(&[9, 9, 1], None, Code::FormatError), [9, 9, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let found = question(&message);
            let _answer = refuse(&message, found.as_ref(), Code::ServerFailure);
            let to = question(&query(1, "a", A)).unwrap();
            let _none = addresses(&message, &to);
        }

        #[test]
        fn a_harmed_answer_is_read(at in 0usize..80, value in any::<u8>()) {
            let asked = query(7, "www.example.org", A);
            let mut message = answered(&asked, &["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
            if let Some(byte) = message.get_mut(at) {
                *byte = value;
            }
            let _any = addresses(&message, &question(&asked).unwrap());
        }
    }
}
