//! Trees become tar archives: the same tree, the same bytes.
//!
//! Plain ustar headers, with pax records for what they cannot hold; no names of users, no times but the files' own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use tar::{Builder, EntryType, Header};

use crate::tree::{Kind, Known, Node, TreeError, kept_attributes, walk_unread};
use crate::unpack::Moment;

/// Bytes of the pipe between the thread that packs and whoever reads.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks on their way.
const CHUNKS: usize = 16;

/// Bytes of a name that a header holds.
const NAME_BYTES: usize = 100;
/// Ids that a header's octal digits hold.
const ID_MAX: u32 = 0o777_7777;
/// Bytes that a header's octal digits hold.
const SIZE_MAX: u64 = 0o777_7777_7777;
/// Seconds that a header's octal digits hold.
const SECONDS_MAX: i64 = 0o777_7777_7777;

/// Appends one name. `hard_link` is the earlier name of the same file; `content` has as many bytes as the node says.
pub(crate) fn entry<W: Write>(
    builder: &mut Builder<W>,
    path: &[u8],
    node: &Node,
    hard_link: Option<&[u8]>,
    xattrs: &[(Vec<u8>, Vec<u8>)],
    content: impl Read,
) -> io::Result<()> {
    let kind = match (hard_link, node.kind) {
        (Some(_), _) => EntryType::Link,
        (None, Kind::Directory) => EntryType::Directory,
        (None, Kind::File) => EntryType::Regular,
        (None, Kind::Symlink) => EntryType::Symlink,
        (None, Kind::Fifo) => EntryType::Fifo,
        (None, Kind::Whiteout | Kind::Other) => return Ok(()),
    };
    let mut name = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
    if node.kind == Kind::Directory {
        name.push(b'/');
    }
    let link = hard_link.or(node.target.as_deref()).unwrap_or_default();
    let size = if kind == EntryType::Regular { node.size } else { 0 };
    let mut header = Header::new_ustar();
    let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
    let keys: Vec<String> =
        xattrs.iter().map(|(key, _)| format!("SCHILY.xattr.{}", String::from_utf8_lossy(key))).collect();
    put(&mut header.as_old_mut().name, &name, "path", &mut records);
    put(&mut header.as_old_mut().linkname, link, "linkpath", &mut records);
    header.set_entry_type(kind);
    header.set_mode(node.mode);
    header.set_uid(u64::from(id(node.uid, "uid", &mut records)));
    header.set_gid(u64::from(id(node.gid, "gid", &mut records)));
    if size > SIZE_MAX {
        records.push(("size", size.to_string().into_bytes()));
    }
    header.set_size(if size > SIZE_MAX { 0 } else { size });
    let (seconds, nanoseconds) = (node.mtime.seconds, node.mtime.nanoseconds);
    if nanoseconds != 0 || !(0..=SECONDS_MAX).contains(&seconds) {
        records.push(("mtime", time(seconds, nanoseconds).into_bytes()));
    }
    header.set_mtime(seconds.clamp(0, SECONDS_MAX) as u64);
    header.set_cksum();
    records.extend(keys.iter().zip(xattrs).map(|(key, (_, value))| (key.as_str(), value.clone())));
    if !records.is_empty() {
        builder.append_pax_extensions(records.iter().map(|(key, value)| (*key, &value[..])))?;
    }
    builder.append(&header, content.take(size))
}

/// Puts a name into its field, and into a record if it does not fit.
fn put<'k>(field: &mut [u8; NAME_BYTES], name: &[u8], key: &'k str, records: &mut Vec<(&'k str, Vec<u8>)>) {
    let fits = name.len().min(field.len());
    field[..fits].copy_from_slice(&name[..fits]);
    if name.len() > field.len() {
        records.push((key, name.to_vec()));
    }
}

fn id<'k>(id: u32, key: &'k str, records: &mut Vec<(&'k str, Vec<u8>)>) -> u32 {
    if id <= ID_MAX {
        return id;
    }
    records.push((key, id.to_string().into_bytes()));
    0
}

/// Decimal seconds; before 1970 the fraction counts downwards.
fn time(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let (seconds, nanoseconds) = (seconds + 1, 1_000_000_000 - nanoseconds);
    let sign = if seconds == 0 { "-" } else { "" };
    format!("{sign}{seconds}.{nanoseconds:09}")
}

/// Packs everything below a directory, sorted by name, in a thread of its own. What has changed or gone meanwhile, and what
/// cannot be read, is an error of the reader. Sockets and devices are left out.
pub(crate) fn pack_directory(root: OwnedFd) -> impl Read + Send + 'static {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<io::Result<Vec<u8>>>(CHUNKS);
    std::thread::spawn(move || {
        let out = io::BufWriter::with_capacity(CHUNK_BYTES, Sender(sender.clone()));
        if let Err(error) = pack(root.as_fd(), out, Style::default()) {
            // A reader that has gone does not need to know.
            let _ = sender.send(Err(error));
        }
    });
    Receiver { receiver, chunk: Vec::new(), position: 0 }
}

/// How a tree becomes an archive.
#[derive(Debug, Clone, Copy, Default)]
struct Style {
    /// The marks of overlayfs become whiteouts.
    marks: bool,
    /// Files of ours: owners and times mean nothing.
    anonymous: bool,
}

/// Writes a tree of the store as a layer, sorted by name: the marks of overlayfs become whiteouts again.
pub fn pack_tree(root: BorrowedFd<'_>, out: impl Write) -> io::Result<()> {
    let out = io::BufWriter::with_capacity(CHUNK_BYTES, out);
    pack(root, out, Style { marks: true, anonymous: false })
}

/// Writes files of ours, which belong to nobody and have no time: the same content gives the same bytes.
pub(crate) fn pack_reproducible(root: BorrowedFd<'_>, out: impl Write) -> io::Result<()> {
    let out = io::BufWriter::with_capacity(CHUNK_BYTES, out);
    pack(root, out, Style { marks: false, anonymous: true })
}

fn pack(root: BorrowedFd<'_>, out: impl Write, style: Style) -> io::Result<()> {
    let mut builder = Builder::new(out);
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut failure = None;
    let walked = walk_unread(root, &Known::default(), &mut |path, mut node| {
        if style.anonymous {
            (node.uid, node.gid, node.mtime) = (0, 0, Moment::default());
            node.mode = if node.kind == Kind::Directory { 0o755 } else { 0o644 };
        }
        append(root, &mut builder, &mut links, path, &node, style).map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            failure = Some(error);
            TreeError { action: "pack", path: crate::unpack::shown_name(path), errno }
        })
    });
    match (walked, failure) {
        (Ok(()), _) => builder.into_inner()?.flush(),
        (Err(error), Some(source)) => Err(io::Error::new(source.kind(), format!("{}: {source}", error.path))),
        (Err(error), None) => Err(io::Error::new(io::Error::from(error.errno).kind(), error.to_string())),
    }
}

fn append<W: Write>(
    root: BorrowedFd<'_>,
    builder: &mut Builder<W>,
    links: &mut HashMap<(u64, u64), Vec<u8>>,
    path: &[u8],
    node: &Node,
    style: Style,
) -> io::Result<()> {
    match node.kind {
        Kind::File => {}
        Kind::Directory => {
            let handle = open_below(root, if path.is_empty() { b"." } else { path })?;
            entry(builder, path, node, None, &kept_attributes(&handle)?, io::empty())?;
            let mark = join(path, b".wh..wh..opq");
            return if style.marks && node.opaque { whiteout(builder, &mark, node) } else { Ok(()) };
        }
        Kind::Whiteout if style.marks => {
            let (above, leaf) = path
                .iter()
                .rposition(|byte| *byte == b'/')
                .map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
            return whiteout(builder, &join(above, &[b".wh.", leaf].concat()), node);
        }
        Kind::Whiteout | Kind::Other | Kind::Symlink | Kind::Fifo => {
            return entry(builder, path, node, None, &[], io::empty());
        }
    }
    let file = open_below(root, path)?;
    let stat = rustix::fs::fstat(&file)?;
    if stat.st_nlink > 1 {
        if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            let first = first.clone();
            return entry(builder, path, node, Some(&first), &[], io::empty());
        }
        links.insert((stat.st_dev, stat.st_ino), path.to_vec());
    }
    let xattrs = kept_attributes(&file)?;
    let mut content = Exact { file, left: node.size };
    entry(builder, path, node, None, &xattrs, &mut content)?;
    if content.left > 0 { Err(io::Error::other("it became shorter while it was read")) } else { Ok(()) }
}

fn join(directory: &[u8], leaf: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    [directory, slash, leaf].concat()
}

/// Appends the empty file that stands for a mark.
fn whiteout<W: Write>(builder: &mut Builder<W>, path: &[u8], of: &Node) -> io::Result<()> {
    let node = Node { kind: Kind::File, mode: 0, size: 0, opaque: false, ..of.clone() };
    entry(builder, path, &node, None, &[], io::empty())
}

/// Opens a file below a handle, links not followed; beyond PATH_MAX directory by directory.
fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<File> {
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, file, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NAMETOOLONG | rustix::io::Errno::NOSYS) => {}
        result => return Ok(result?.into()),
    }
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let leaf = names.pop().unwrap_or_default();
    let mut at = openat(root, c".", directory, Mode::empty())?;
    for name in names {
        at = openat(&at, name, directory, Mode::empty())?;
    }
    Ok(openat(&at, leaf, file, Mode::empty())?.into())
}

/// As many bytes of a file as it had, and not one more.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (buffer.len() as u64).min(self.left) as usize;
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct Sender(std::sync::mpsc::SyncSender<io::Result<Vec<u8>>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.send(Ok(bytes.to_vec())) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Receiver {
    receiver: std::sync::mpsc::Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    position: usize,
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() {
            match self.receiver.recv() {
                Ok(chunk) => (self.chunk, self.position) = (chunk?, 0),
                // All was sent.
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.chunk[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}
