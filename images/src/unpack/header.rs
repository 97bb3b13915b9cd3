//! One header block: checksum, dialect and fields, strictly. The `tar` crate gives the layout, not the meaning.

use tar::Header;

use super::error::{UnpackError, malformed};
use super::feed::BLOCK;
use super::number::{signed, unsigned};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
    /// A volume label of GNU tar: no file at all.
    Label,
}

/// The type byte of a header, split by who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// A real entry.
    Entry(Kind),
    /// `S`: a regular file in GNU's old sparse format.
    OldSparse,
    /// `x`: pax records for the next entry.
    Pax,
    /// `g`: pax records for all further entries.
    GlobalPax,
    /// `L`: the name of the next entry.
    LongName,
    /// `K`: the link target of the next entry.
    LongLink,
}

/// The fields of a header as they stand; names lie in the block.
pub(super) struct Fields {
    header: Header,
    dialect: Dialect,
    pub(super) kind: Type,
    pub(super) size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    /// Ustar with a shorter prefix, then access and change times.
    Star,
    Gnu,
}

const CHECKSUM: std::ops::Range<usize> = 148..156;
const STAR_TRAILER: &[u8; 4] = b"tar\0";
/// Bytes of the prefix in star's dialect.
const STAR_PREFIX_BYTES: usize = 131;

impl Fields {
    /// Checks the block and reads what every kind of header has.
    pub(super) fn read(block: &[u8; BLOCK]) -> Result<Fields, UnpackError> {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        check(block)?;
        let dialect = dialect(block)?;
        let kind = kind(block[156])?;
        let size = unsigned(&header.as_old().size, "the size")?;
        Ok(Fields { header, dialect, kind, size })
    }

    /// Appends the name, with ustar's prefix before it.
    pub(super) fn name(&self, name: &mut Vec<u8>) {
        let old = self.header.as_old();
        let prefix = match (self.dialect, self.header.as_ustar()) {
            (Dialect::Ustar, Some(ustar)) => text(&ustar.prefix),
            (Dialect::Star, Some(ustar)) => text(&ustar.prefix[..STAR_PREFIX_BYTES]),
            (Dialect::V7 | Dialect::Gnu | Dialect::Ustar | Dialect::Star, _) => b"",
        };
        if !prefix.is_empty() {
            name.extend_from_slice(prefix);
            name.push(b'/');
        }
        name.extend_from_slice(text(&old.name));
    }

    /// Returns the link target.
    pub(super) fn link(&self) -> &[u8] {
        text(&self.header.as_old().linkname)
    }

    /// Returns the permission bits; writers may leave the file type above them.
    pub(super) fn mode(&self) -> Result<u32, UnpackError> {
        Ok((unsigned(&self.header.as_old().mode, "the mode")? & 0o7777) as u32)
    }

    /// Returns the owner's number.
    pub(super) fn uid(&self) -> Result<u64, UnpackError> {
        unsigned(&self.header.as_old().uid, "the user id")
    }

    /// Returns the group's number.
    pub(super) fn gid(&self) -> Result<u64, UnpackError> {
        unsigned(&self.header.as_old().gid, "the group id")
    }

    /// Returns the modification time in seconds.
    pub(super) fn mtime(&self) -> Result<i64, UnpackError> {
        signed(&self.header.as_old().mtime, "the modification time")
    }

    /// Returns the header as GNU tar's, for its sparse fields.
    pub(super) fn gnu(&self) -> Option<&tar::GnuHeader> {
        self.header.as_gnu()
    }
}

/// The sum of all bytes, the checksum field taken as spaces. Old writers summed signed bytes.
fn check(block: &[u8; BLOCK]) -> Result<(), UnpackError> {
    let field = &block[CHECKSUM];
    let Ok(expected) = signed(field, "the header checksum") else {
        let field = field.escape_ascii();
        return Err(malformed(format!("not a tar header: its checksum field says \"{field}\"")));
    };
    let spaces = 8 * i64::from(b' ');
    let others = || block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]);
    let found = spaces + others().map(|byte| i64::from(*byte)).sum::<i64>();
    let found_signed = || spaces + others().map(|byte| i64::from(*byte as i8)).sum::<i64>();
    if expected != found && expected != found_signed() {
        return Err(malformed(format!(
            "not a tar header: its checksum field says {expected}, its bytes sum to {found}"
        )));
    }
    Ok(())
}

fn dialect(block: &[u8; BLOCK]) -> Result<Dialect, UnpackError> {
    let magic = &block[257..265];
    match magic {
        b"ustar  \0" => Ok(Dialect::Gnu),
        [b'u', b's', b't', b'a', b'r', 0, ..] if &block[508..] == STAR_TRAILER => Ok(Dialect::Star),
        [b'u', b's', b't', b'a', b'r', 0, ..] => Ok(Dialect::Ustar),
        [0, 0, 0, 0, 0, 0, 0, 0] => Ok(Dialect::V7),
        _ => Err(malformed(format!("unknown tar dialect: magic \"{}\"", magic.escape_ascii()))),
    }
}

fn kind(byte: u8) -> Result<Type, UnpackError> {
    Ok(match byte {
        // 7 is a "contiguous file", which every system treats as a file.
        0 | b'0' | b'7' => Type::Entry(Kind::File),
        b'1' => Type::Entry(Kind::HardLink),
        b'2' => Type::Entry(Kind::Symlink),
        b'3' => Type::Entry(Kind::CharacterDevice),
        b'4' => Type::Entry(Kind::BlockDevice),
        b'5' => Type::Entry(Kind::Directory),
        b'6' => Type::Entry(Kind::Fifo),
        b'V' => Type::Entry(Kind::Label),
        b'S' => Type::OldSparse,
        b'x' => Type::Pax,
        b'g' => Type::GlobalPax,
        b'L' => Type::LongName,
        b'K' => Type::LongLink,
        other => {
            let other = std::ascii::escape_default(other);
            return Err(malformed(format!("unknown entry type '{other}'")));
        }
    })
}

/// Returns a field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}
