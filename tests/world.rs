//! A world on this machine: two network namespaces joined by a cable, servers in the far one, and the runner in the near
//! one, which it takes for its host's. Nothing outside them is touched.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The far side's addresses.
pub const FAR: &str = "203.0.113.1";
/// A second one of it.
pub const OTHER: &str = "203.0.113.9";
/// The near side's own: what is a host's address to a job.
pub const NEAR: &str = "203.0.113.2";
/// The far side's IPv6 address.
pub const FAR_V6: &str = "2001:db8:1::1";

/// What the far side's resolver knows.
const NAMES: &[(&str, &str)] = &[
    ("a.example.test", FAR),
    ("a.example.test", FAR_V6),
    ("b.example.test", OTHER),
    ("one.deb.example.test", FAR),
    ("loopback.example.test", "127.0.0.1"),
    ("metadata.example.test", "169.254.169.254"),
    ("near.example.test", NEAR),
];

/// The two namespaces and what serves in them.
pub struct World {
    near: Child,
    far: Child,
    directory: tempfile::TempDir,
    /// Bytes that the far side's server was sent by `PUT`.
    pub received: Arc<AtomicU64>,
    /// Connections that the near side's own services saw: none may come from a job.
    pub visits: Arc<AtomicU64>,
    /// Names that the resolver was asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Lays the cable and starts the servers. `v6`: with IPv6.
    pub fn new(v6: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let resolv = directory.path().join("resolv.conf");
        fs::write(&resolv, format!("search example.test\nnameserver {FAR}\n")).unwrap();
        let bind =
            format!("mount --bind {} /etc/resolv.conf && echo ready && exec sleep 3600", resolv.display());
        let near = holder(&["--net", "--mount", "--propagation", "private", "sh", "-c", &bind]);
        let far = holder(&["--net", "sh", "-c", "echo ready; exec sleep 3600"]);
        let (n, f) = (near.id(), far.id());
        inside(n, &format!("ip link add veth0 type veth peer name veth1 netns {f}"));
        for (pid, link, addresses) in [(n, "veth0", &[NEAR][..]), (f, "veth1", &[FAR, OTHER])] {
            inside(pid, "ip link set lo up");
            for address in addresses {
                inside(pid, &format!("ip addr add {address}/24 dev {link}"));
            }
            if v6 {
                let address = if pid == n { "2001:db8:1::2" } else { FAR_V6 };
                inside(pid, &format!("ip addr add {address}/64 dev {link} nodad"));
            } else {
                inside(pid, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
            }
            inside(pid, &format!("ip link set {link} up"));
        }
        inside(n, &format!("ip route add default via {FAR}"));
        inside(n, "ip route add unreachable 198.51.100.0/24");
        if v6 {
            inside(n, &format!("ip -6 route add default via {FAR_V6}"));
        }
        let world = Self {
            near,
            far,
            directory,
            received: Arc::default(),
            visits: Arc::default(),
            asked: Arc::default(),
        };
        world.serve();
        world
    }

    /// Servers of the far side; and services of the near one, on loopback and on all addresses.
    fn serve(&self) {
        let (received, asked, visits) =
            (Arc::clone(&self.received), Arc::clone(&self.asked), Arc::clone(&self.visits));
        in_namespace(self.far.id(), move || {
            let any: IpAddr = "::".parse().unwrap();
            let listen = |port| {
                TcpListener::bind((any, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))).unwrap()
            };
            for port in [80, 443, 8000] {
                let (listener, received) = (listen(port), Arc::clone(&received));
                each(listener, move |stream| talk(stream, &received));
            }
            let asked_by_tcp = Arc::clone(&asked);
            each(listen(53), move |stream| resolve_stream(stream, &asked_by_tcp));
            for address in [FAR, OTHER] {
                let echo = UdpSocket::bind((address, 7)).unwrap();
                thread::spawn(move || datagrams(&echo, |bytes| Some(bytes.to_vec())));
            }
            let resolver = UdpSocket::bind((FAR, 53)).unwrap();
            thread::spawn(move || datagrams(&resolver, |bytes| answer(bytes, &asked)));
        });
        in_namespace(self.near.id(), move || {
            for address in ["0.0.0.0:80", "0.0.0.0:8000"] {
                let visits = Arc::clone(&visits);
                each(TcpListener::bind(address).unwrap(), move |_| {
                    visits.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
    }

    /// The same command, with the near namespace as its host's.
    pub fn within(&self, command: &Command) -> Command {
        let mut inner = Command::new("nsenter");
        let pid = self.near.id();
        inner.args([format!("--net=/proc/{pid}/ns/net"), format!("--mount=/proc/{pid}/ns/mnt")]);
        inner.arg(format!("--wd={}", command.get_current_dir().unwrap().display())).arg("--");
        inner.arg(command.get_program()).args(command.get_args()).env_clear().stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inner.env(name, value);
            }
        }
        inner
    }

    /// Puts a node over the machine's own tun device, for the near side.
    pub fn open_tun(&self, node: &std::path::Path) {
        let mount = format!("--mount=/proc/{}/ns/mnt", self.near.id());
        let mut command = Command::new("nsenter");
        let ran = command.arg(mount).args(["--", "mount", "--bind"]).arg(node).arg("/dev/net/tun").status();
        assert!(ran.unwrap().success());
    }

    /// Runs a command line in the near namespace.
    pub fn near(&self, line: &str) {
        inside(self.near.id(), line);
    }

    /// Changes what the near side's resolv.conf says.
    pub fn resolv_conf(&self, text: &str) {
        fs::write(self.directory.path().join("resolv.conf"), text).unwrap();
    }

    /// How often a name was asked for.
    pub fn questions(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for holder in [&mut self.near, &mut self.far] {
            let _gone = holder.kill();
            let _reaped = holder.wait();
        }
    }
}

/// A process that holds namespaces until it is killed.
fn holder(arguments: &[&str]) -> Child {
    let mut child = Command::new("unshare").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

#[track_caller]
fn inside(pid: u32, line: &str) {
    let network = format!("--net=/proc/{pid}/ns/net");
    let ran = Command::new("nsenter").arg(network).arg("--").args(line.split(' ')).output().unwrap();
    assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Runs this on a thread that has moved to another network namespace; sockets made there stay there.
fn in_namespace(pid: u32, work: impl FnOnce() + Send + 'static) {
    let moved = thread::spawn(move || {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work();
    });
    moved.join().unwrap();
}

fn each(listener: TcpListener, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
}

/// `HELLO`: says so; `GET N`: sends N bytes; `PUT N`: counts what comes and says how much; HTTP: answers 200.
fn talk(mut stream: TcpStream, received: &AtomicU64) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let _reader_gone = match words.as_slice() {
        ["HELLO"] => stream.write_all(b"hello\n"),
        ["GET", bytes] => {
            let mut left: usize = bytes.parse().unwrap();
            let chunk = vec![b'y'; 64 << 10];
            while left > 0 {
                let part = &chunk[..left.min(chunk.len())];
                if stream.write_all(part).is_err() {
                    return;
                }
                left -= part.len();
            }
            Ok(())
        }
        ["PUT", bytes] => {
            let mut left: usize = bytes.parse().unwrap();
            let mut buffer = vec![0; 64 << 10];
            let mut count = 0;
            while left > 0 {
                match reader.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => {
                        count += length;
                        left = left.saturating_sub(length);
                        received.fetch_add(length as u64, Ordering::SeqCst);
                    }
                }
            }
            stream.write_all(format!("{count}\n").as_bytes())
        }
        _ => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
}

fn datagrams(socket: &UdpSocket, reply: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(bytes) = reply(&buffer[..length]) {
            let _gone: Result<usize, _> = socket.send_to(&bytes, from);
        }
    }
}

fn resolve_stream(mut stream: TcpStream, asked: &Mutex<Vec<String>>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let reply = answer(&query, asked).unwrap_or_default();
        let framed = [&(reply.len() as u16).to_be_bytes()[..], &reply].concat();
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}

/// Answers a question from the table.
fn answer(query: &[u8], asked: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *query.get(at)? > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
    let name = labels.join(".").to_ascii_lowercase();
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    asked.lock().unwrap().push(name.clone());
    let mut reply = query.get(..at + 5)?.to_vec();
    reply[2] |= 0x80;
    reply[6..12].fill(0);
    let mut known: HashMap<&str, Vec<IpAddr>> = HashMap::new();
    for (name, address) in NAMES {
        known.entry(name).or_default().push(address.parse().unwrap());
    }
    let Some(addresses) = known.get(name.as_str()) else {
        reply[3] = 0x83;
        return Some(reply);
    };
    reply[3] = 0x80;
    for address in addresses {
        let (of_kind, octets) = match address {
            IpAddr::V4(v4) => (1u16, v4.octets().to_vec()),
            IpAddr::V6(v6) => (28, v6.octets().to_vec()),
        };
        if of_kind == kind {
            reply[7] += 1;
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60, 0, octets.len() as u8]);
            reply.extend(octets);
        }
    }
    Some(reply)
}
