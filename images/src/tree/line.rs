//! One name of a tree, as a value and as a line of text.

use crate::unpack::Moment;

/// The first half of the sha256 of a file's content: enough against accidents, half as much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) [u8; 16]);

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    Fifo,
    /// Deletes the name in the layers below.
    Whiteout,
    /// Nothing that unpacking makes.
    Other,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Moment,
    /// Of files.
    pub(crate) size: u64,
    /// Of files; `None` where it could not be read.
    pub(crate) sum: Option<Sum>,
    /// Of links.
    pub(crate) target: Option<Vec<u8>>,
    /// The directory hides what the layers below have in it.
    pub(crate) opaque: bool,
    /// No entry named the directory: its attributes are made up.
    pub(crate) implied: bool,
    /// Of the extended attributes that unpacking keeps; `None` where there are none, or none that can be read.
    pub(crate) attributes: Option<Sum>,
}

impl Node {
    /// Says in which ways `new` is another.
    pub(super) fn changes(&self, new: &Node, with_owners: bool) -> Vec<String> {
        let mut found = Vec::new();
        if self.kind != new.kind {
            return vec![format!("was a {}, is a {}", self.kind.word(), new.kind.word())];
        }
        if self.mode != new.mode {
            found.push(format!("mode {:04o}, now {:04o}", self.mode, new.mode));
        }
        if with_owners && (self.uid, self.gid) != (new.uid, new.gid) {
            found.push(format!("owner {}:{}, now {}:{}", self.uid, self.gid, new.uid, new.gid));
        }
        if self.mtime != new.mtime {
            found.push("the time of modification is another".to_owned());
        }
        if self.size != new.size {
            found.push(format!("{} bytes, now {}", self.size, new.size));
        } else if self.sum.zip(new.sum).is_some_and(|(old, new)| old != new) {
            found.push("the content is another".to_owned());
        }
        if self.target != new.target {
            found.push("the link leads elsewhere".to_owned());
        }
        if self.attributes != new.attributes {
            found.push("the extended attributes are others".to_owned());
        }
        if self.opaque != new.opaque {
            found.push("its overlay mark is another".to_owned());
        }
        found
    }
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Directory => b'd',
            Kind::File => b'f',
            Kind::Symlink => b'l',
            Kind::Fifo => b'p',
            Kind::Whiteout => b'w',
            Kind::Other => b'?',
        }
    }

    fn of(letter: u8) -> Option<Kind> {
        let all = [Kind::Directory, Kind::File, Kind::Symlink, Kind::Fifo, Kind::Whiteout, Kind::Other];
        all.into_iter().find(|kind| kind.letter() == letter)
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Directory => "directory",
            Kind::File => "file",
            Kind::Symlink => "symbolic link",
            Kind::Fifo => "fifo",
            Kind::Whiteout => "whiteout",
            Kind::Other => "device or socket",
        }
    }
}

/// Writes `KIND[o][i][=ATTRIBUTES] MODE UID GID SECONDS.NANOSECONDS SIZE SUM PATH [TARGET]` and a line end.
pub(super) fn write(path: &[u8], node: &Node) -> Vec<u8> {
    let marks = [(node.opaque, 'o'), (node.implied, 'i')];
    let marks: String = marks.into_iter().filter(|(set, _)| *set).map(|(_, mark)| mark).collect();
    let sum = node.sum.map_or_else(|| "-".to_owned(), hex);
    let attributes = node.attributes.map_or_else(String::new, |sum| format!("={}", hex(sum)));
    let Node { mode, uid, gid, mtime, size, .. } = node;
    let kind = char::from(node.kind.letter());
    let mut line = format!(
        "{kind}{marks}{attributes} {mode:o} {uid} {gid} {}.{} {size} {sum} ",
        mtime.seconds, mtime.nanoseconds
    )
    .into_bytes();
    escape(path, &mut line);
    if let Some(target) = &node.target {
        line.push(b' ');
        escape(target, &mut line);
    }
    line.push(b'\n');
    line
}

/// Reads what [`write`] wrote.
pub(super) fn read(line: &[u8]) -> Option<(Vec<u8>, Node)> {
    let mut words = line.strip_suffix(b"\n")?.split(|byte| *byte == b' ');
    let mut text = || std::str::from_utf8(words.next()?).ok();
    let kind = text()?;
    let (kind, attributes) = match kind.split_once('=') {
        Some((kind, sum)) => (kind, Some(read_sum(sum)?)),
        None => (kind, None),
    };
    let mode = u32::from_str_radix(text()?, 8).ok()?;
    let (uid, gid) = (text()?.parse().ok()?, text()?.parse().ok()?);
    let (seconds, nanoseconds) = text()?.split_once('.')?;
    let mtime = Moment { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? };
    let size = text()?.parse().ok()?;
    let sum = match text()? {
        "-" => None,
        hex => Some(read_sum(hex)?),
    };
    let path = unescape(words.next()?)?;
    let target = words.next().map(unescape);
    let target = match target {
        Some(target) => Some(target?),
        None => None,
    };
    let (opaque, implied) = (kind.contains('o'), kind.contains('i'));
    let kind = Kind::of(*kind.as_bytes().first()?)?;
    Some((path, Node { kind, mode, uid, gid, mtime, size, sum, target, opaque, implied, attributes }))
}

fn hex(sum: Sum) -> String {
    sum.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_sum(hex: &str) -> Option<Sum> {
    let mut sum = [0; 16];
    if hex.len() != 2 * sum.len() || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in sum.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Sum(sum))
}

/// Bytes that would end a word or a line, and the sign of escape itself, become `%XX`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte <= b' ' || byte == b'%' || byte == 0x7f {
            out.extend(format!("%{byte:02x}").bytes());
        } else {
            out.push(byte);
        }
    }
}

fn unescape(word: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    Some(bytes)
}
