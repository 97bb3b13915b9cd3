//! Sparse files: four ways to write them, one tree.

use fixtures::tarballs::{BLOCK, Header};

use crate::case::Kind::{Limit, Malformed};
use crate::case::{Rule, bad, good, rule};
use crate::{patched, tar};

pub fn rules() -> Vec<Rule> {
    vec![forms(), maps(), old()]
}

/// `abc` at 1000, and 3000 bytes in all.
const FACT: &[&str] = &["s = * {size 3000, abc at 1000}"];

fn with_map(map: &[u8], size: &[u8]) -> Vec<u8> {
    tar().pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]).file("s", "abc").finish()
}

fn inside(content: &[u8], size: &'static [u8]) -> Vec<u8> {
    let mut whole = content.to_vec();
    whole.resize(content.len().next_multiple_of(BLOCK), 0);
    whole.extend_from_slice(b"abc");
    tar()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", size),
        ])
        .file("GNUSparseFile.1/s", whole)
        .finish()
}

fn forms() -> Rule {
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"3000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1000"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"3000"),
        ("GNU.sparse.numbytes", b"0"),
    ];
    let version = |major: &'static [u8], minor: &'static [u8]| {
        let records =
            [("GNU.sparse.major", major), ("GNU.sparse.minor", minor), ("GNU.sparse.size", b"3000")];
        tar().pax(&records).file("s", "abc").finish()
    };
    rule(
        "every form of sparse file becomes the file it describes",
        vec![
            good("0.0", tar().pax(records).file("s", "abc").finish(), FACT),
            good("0.1", with_map(b"1000,3,3000,0", b"3000"), FACT),
            good(
                "0.1, only a hole",
                tar().pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"")]).file("s", "").finish(),
                &["s = * {size 9}"],
            ),
            good("1.0", inside(b"2\n1000\n3\n3000\n0\n", b"3000"), FACT),
            bad("2.0", version(b"2", b"0"), Malformed, &["unknown sparse format 2.0"]),
            bad(
                "1 and no minor",
                tar().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.size", b"3")]).file("s", "abc").finish(),
                Malformed,
                &["unknown sparse format 1.?"],
            ),
            bad(
                "unknown key",
                tar().pax(&[("GNU.sparse.new", b"1")]).file("s", "abc").finish(),
                Malformed,
                &["unknown pax record"],
            ),
            bad(
                "0.0, a length first",
                tar().pax(&[records[0], records[3]]).file("s", "abc").finish(),
                Malformed,
                &["without an offset before it"],
            ),
            bad(
                "0.0, two offsets",
                tar().pax(&[records[0], records[2], records[4]]).file("s", "abc").finish(),
                Malformed,
                &["two sparse offsets"],
            ),
            bad(
                "0.0, an offset last",
                tar().pax(&[records[0], records[2], records[3], records[4]]).file("s", "abc").finish(),
                Malformed,
                &["without a length after it"],
            ),
            bad(
                "without a size",
                tar().pax(&[("GNU.sparse.map", b"0,3")]).file("s", "abc").finish(),
                Malformed,
                &["without its real size"],
            ),
            bad("1.0, letters in the map", inside(b"x\n", b"3000"), Malformed, &["no number"]),
            bad("1.0, a number without end", inside(&[b'1'; 30], b"3000"), Malformed, &["too many digits"]),
            bad("1.0, a map longer than the file", inside(b"9\n1\n1\n", b"3000"), Malformed, &["sparse map"]),
            bad(
                "1.0, a count beyond memory",
                inside(b"9999999999999\n", b"3000"),
                Limit(65_536),
                &["9999999999999 segments"],
            ),
            bad(
                "name that is empty",
                tar().pax(&[("GNU.sparse.name", b"")]).file("s", "abc").finish(),
                Malformed,
                &["GNU.sparse.name"],
            ),
        ],
    )
}

fn maps() -> Rule {
    let many = ("0,0,".repeat(65_535) + "0,3").into_bytes();
    let more = ("0,0,".repeat(65_536) + "0,3").into_bytes();
    rule(
        "the segments of a sparse file are in order, inside, and hold all that is stored",
        vec![
            good("side by side", with_map(b"10,1,11,2", b"20"), &["s = * {size 20, abc at 10}"]),
            good("to the very end", with_map(b"17,3", b"20"), &["s = * {size 20, abc at 17}"]),
            good("65,536 of them", with_map(&many, b"3"), &["s = abc"]),
            bad("beyond the end", with_map(b"10,3", b"12"), Malformed, &["leaves the file"]),
            bad("overlapping", with_map(b"10,2,11,1", b"20"), Malformed, &["overlaps"]),
            bad("backwards", with_map(b"10,2,5,1", b"20"), Malformed, &["overlaps"]),
            bad("beyond numbers", with_map(b"10,18446744073709551615", b"20"), Malformed, &["overlaps"]),
            bad(
                "fewer than stored",
                with_map(b"10,2", b"20"),
                Malformed,
                &["covers 2 bytes, the archive holds 3"],
            ),
            bad("more than stored", with_map(b"10,4", b"20"), Malformed, &["covers 4 bytes"]),
            bad("odd", with_map(b"10,2,5", b"20"), Malformed, &["odd number"]),
            bad("65,537 of them", with_map(&more, b"3"), Limit(65_536), &["segments of a sparse file"]),
            bad(
                "a hole beyond the limit",
                with_map(b"0,3", b"99999999999999"),
                Limit(64 << 30),
                &["bytes of content"],
            ),
        ],
    )
}

fn old() -> Rule {
    let at_1000: &[(usize, &'static [u8])] =
        &[(386, b"00000001750\0"), (398, b"00000000003\0"), (483, b"00000005670\0")];
    let gnu = |patches: &[(usize, &'static [u8])]| {
        let mut header = patched(b'S', "s", patches);
        header.magic = *b"ustar  \0";
        header
    };
    let mut extended = Header { size: 3, ..gnu(&[(483, b"00000005670\0"), (482, b"\x01")]) };
    let mut block = [0; BLOCK];
    block[..24].copy_from_slice(b"00000001750\x0000000000003\0");
    let one = tar().raw(&extended, b"").bytes(&block).bytes(b"abc").bytes(&[0; BLOCK - 3]).finish();
    block[504] = 1;
    extended.size = 0;
    let endless = tar().raw(&extended, b"").bytes(&block.repeat(3)).unfinished();
    rule(
        "GNU's old sparse header is followed through its blocks",
        vec![
            good("one segment", tar().entry(gnu(at_1000), b"abc").finish(), FACT),
            good("in a block after it", one, FACT),
            bad("blocks that do not end", endless, Malformed, &["truncated", "sparse map"]),
            bad(
                "without GNU's magic",
                tar().entry(patched(b'S', "s", at_1000), b"abc").finish(),
                Malformed,
                &["without a GNU header"],
            ),
            bad(
                "real size smaller",
                tar().entry(gnu(&[at_1000[0], at_1000[1], (483, b"00000000005\0")]), b"abc").finish(),
                Malformed,
                &["leaves the file"],
            ),
        ],
    )
}
