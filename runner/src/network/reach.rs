//! Connections into a job's own network, from outside: to tell whether a service is ready, and to publish its ports.
//!
//! A socket belongs to the network namespace in which it was made. The stage makes them, and here they are connected: only
//! ever to the job's loopback interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as Unconnected};
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Makes a stream socket of the job's network that is not connected; of IPv6 if so.
pub type MakeSocket<'m> = dyn Fn(bool) -> io::Result<OwnedFd> + 'm;

/// How long one look at a service may take: on a loopback interface everything is at once, unless its queue is full.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read for its first line.
const STATUS_LINE_BYTES_MAX: usize = 1024;
/// Connections through one published port at once.
const CONNECTIONS_MAX: usize = 256;

/// Connects to a port of the job's loopback interface, by IPv4, else by IPv6.
async fn connect(make: &MakeSocket<'_>, port: u16) -> io::Result<TcpStream> {
    let addresses = [(false, IpAddr::V4(Ipv4Addr::LOCALHOST)), (true, IpAddr::V6(Ipv6Addr::LOCALHOST))];
    let mut first = None;
    for (v6, address) in addresses {
        let connected = match make(v6) {
            Ok(socket) => {
                let socket = TcpSocket::from_std_stream(Unconnected::from(socket));
                socket.connect(SocketAddr::new(address, port)).await
            }
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()))
}

/// Whether a port accepts connections.
///
/// # Errors
/// Why it does not.
pub async fn accepts(make: &MakeSocket<'_>, port: u16) -> io::Result<()> {
    match timeout(LOOK_PATIENCE, connect(make, port)).await {
        Ok(connected) => connected.map(drop),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The status with which a request is answered. `host`: what it names.
///
/// # Errors
/// Why there is no answer, or none of HTTP.
pub async fn http_status(make: &MakeSocket<'_>, port: u16, host: &str, path: &str) -> io::Result<u16> {
    let ask = async {
        let mut stream = connect(make, port).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: runner\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut chunk = [0; 256];
        while !answer.contains(&b'\n') && answer.len() < STATUS_LINE_BYTES_MAX {
            match stream.read(&mut chunk).await? {
                0 => break,
                length => answer.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            }
        }
        status_of(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer of HTTP"))
    };
    timeout(LOOK_PATIENCE, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The status of an answer's first line: `HTTP/1.1 200 OK`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (version, rest) = line.split_once(' ')?;
    let code = rest.split(' ').next()?;
    let is_http = version.strip_prefix("HTTP/").is_some_and(|number| !number.is_empty());
    (is_http && code.len() == 3).then(|| code.parse().ok())?
}

/// A port of this machine's loopback that leads to one of the job's.
#[derive(Debug)]
pub struct Doorway {
    listener: TcpListener,
    port: u16,
}

impl Doorway {
    /// Listens on 127.0.0.1:`host`, for connections to `port` of the job's loopback.
    ///
    /// # Errors
    /// When the port is taken, or not for everybody to take.
    pub fn open(host: u16, port: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), host))?;
        Ok(Self { listener: socket.listen(128)?, port })
    }

    /// Lets connections through, for ever.
    pub async fn serve(&self, make: &MakeSocket<'_>) {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                    Ok((outside, _)) => open.push(self.carry(outside, make)),
                    // Out of descriptors, for a moment: accepting again at once would spin.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(()) = open.next() => {}
            }
        }
    }

    /// One connection. Where the service does not accept it, it ends at once.
    async fn carry(&self, mut outside: TcpStream, make: &MakeSocket<'_>) {
        if let Ok(mut inside) = connect(make, self.port).await {
            let _either_side_may_leave = copy_bidirectional(&mut outside, &mut inside).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_first_line() {
        for (answer, status) in [
            (&b"HTTP/1.1 200 OK\r\nX: y\r\n"[..], Some(200)),
            (b"HTTP/1.0 503\r\n", Some(503)),
            (b"HTTP/1.1 20", None),
            (b"HTTP/ 200 OK", None),
            (b"SSH-2.0-x 200 OK", None),
            (b"\xff\xfe 200", None),
            (b"", None),
        ] {
            assert_eq!(status_of(answer), status, "{answer:?}");
        }
    }
}
