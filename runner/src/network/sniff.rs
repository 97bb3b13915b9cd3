//! Which host the first bytes of a connection name: by TLS (RFC 6066) or HTTP. Evidence for the record; nothing is
//! allowed or refused by it, since whoever connects can write there what it likes.

/// Bytes of a host name (RFC 1035).
const HOST_BYTES_MAX: usize = 255;

/// Reads the first bytes that a client sent.
pub fn host(bytes: &[u8]) -> Option<String> {
    let found = if bytes.first() == Some(&0x16) { server_name(bytes) } else { host_header(bytes) }?;
    let plain = found.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte));
    let fits = !found.is_empty() && found.len() <= HOST_BYTES_MAX;
    (plain && fits).then(|| String::from_utf8_lossy(found).to_ascii_lowercase())
}

/// Cuts a field with a length of `width` bytes off the front: the field and what follows it.
fn field(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

/// The `server_name` extension of a ClientHello (RFC 8446, section 4.1.2) in the first record.
fn server_name(record: &[u8]) -> Option<&[u8]> {
    // Type, version; a hello may be longer than its first record, and is then read as far as it goes.
    let body = record.get(5..)?;
    if body.first() != Some(&1) {
        return None;
    }
    // Message header, version, random.
    let rest = body.get(4 + 2 + 32..)?;
    let (_session, rest) = field(rest, 1)?;
    let (_ciphers, rest) = field(rest, 2)?;
    let (_compressions, rest) = field(rest, 1)?;
    let mut extensions = rest.get(2..)?;
    while let Some((kind, rest)) = extensions.split_at_checked(2) {
        let (value, rest) = field(rest, 2)?;
        if kind == [0, 0] {
            // A list of names, the first being of the only type there is.
            let list = value.get(2..)?;
            return field(list.get(1..)?, 2).map(|(name, _)| name);
        }
        extensions = rest;
    }
    None
}

/// The `Host` header of a request (RFC 9112).
fn host_header(request: &[u8]) -> Option<&[u8]> {
    let mut lines = request.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    if !first.windows(6).any(|window| window == b" HTTP/") {
        return None;
    }
    let header = lines.take_while(|line| !line.trim_ascii().is_empty()).find_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then_some(value)
    });
    header.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(name: &str) -> Vec<u8> {
        let mut extension = vec![0, 0];
        let length = name.len() as u16;
        extension.extend((length + 5).to_be_bytes());
        extension.extend((length + 3).to_be_bytes());
        extension.push(0);
        extension.extend(length.to_be_bytes());
        extension.extend(name.as_bytes());
        let mut extensions = vec![0, 23, 0, 0];
        extensions.append(&mut extension);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.append(&mut extensions);
        let mut record = vec![0x16, 3, 1];
        record.extend((body.len() as u16 + 4).to_be_bytes());
        record.extend([1, 0]);
        record.extend((body.len() as u16).to_be_bytes());
        record.append(&mut body);
        record
    }

    #[test]
    fn tls_and_http_name_their_host() {
        assert_eq!(host(&hello("Crates.Example.org")).as_deref(), Some("crates.example.org"));
        let request = b"GET / HTTP/1.1\r\nAccept: */*\r\nHOST:  deb.example.org:80 \r\n\r\nHost: body";
        assert_eq!(host(request).as_deref(), Some("deb.example.org:80"));
    }

    #[test]
    fn other_bytes_name_nobody() {
        for bytes in
            [&b""[..], b"SSH-2.0-x\r\nHost: a\r\n", b"GET / HTTP/1.1\r\n\r\nHost: body\r\n", b"\x16\x03\x01"]
        {
            assert_eq!(host(bytes), None);
        }
        assert_eq!(host(&hello("a b")), None);
        assert_eq!(host(&hello("\u{1b}[31m")), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(cut in 0usize..120, at in 0usize..120, value in any::<u8>()) {
            let mut bytes = hello("crates.example.org");
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            let _any = host(&bytes);
        }
    }
}
