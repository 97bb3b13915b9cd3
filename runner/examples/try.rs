use runner::sandbox::*;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
fn dir(path: &str, at: &str, ro: bool, idmap: spec::Idmap) -> spec::Source {
    let m = std::fs::metadata(path).unwrap();
    spec::Source {
        path: path.into(),
        at: at.into(),
        kind: spec::Kind::Directory { device: m.dev(), inode: m.ino() },
        read_only: ro,
        recursive: false,
        idmap,
    }
}
fn main() {
    let z = zygote::Zygote::start(|_, _, _| ()).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let id = ids::Identity::Root { base: 0x7000_0000 };
        let lm = ids::layer_map(id).unwrap();
        let wm = ids::workspace_map(id, 0, 0).unwrap();
        let mut sources = vec![
            dir("/tmp/w/bb/rootfs", "l/0", true, spec::Idmap::Required(lm.clone(), lm.clone())),
            dir("/tmp/w/bb/ws", "ws", false, spec::Idmap::Required(wm.clone(), wm.clone())),
            dir("/tmp/w/bb/uppers", "up", false, spec::Idmap::Required(lm.clone(), lm.clone())),
        ];
        for (n, ma, mi) in [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("full", 1, 7),
            ("random", 1, 8),
            ("urandom", 1, 9),
            ("tty", 5, 0),
        ] {
            sources.push(spec::Source {
                path: format!("/dev/{n}"),
                at: format!("dev/{n}"),
                kind: spec::Kind::Device { major: ma, minor: mi },
                read_only: false,
                recursive: false,
                idmap: spec::Idmap::None,
            });
        }
        let t = std::time::Instant::now();
        let st = spec::StageSpec {
            identity: id,
            network: spec::Network::Private,
            sources,
            filters: seccomp::filters().unwrap(),
            sys_masks: ops::SYS_MASKS.iter().map(|s| s.to_string()).collect(),
        };
        eprintln!("filters {:?}", t.elapsed());
        let (stage, un) = match spawn::Stage::open(&z, st) {
            Ok(s) => s,
            Err(e) => {
                eprintln!("{e} {:?}", e.hint());
                return;
            }
        };
        eprintln!("stage {:?} unmapped {un:?}", t.elapsed());
        let args: Vec<String> = std::env::args().skip(1).collect();
        let n: usize = std::env::var("N").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let mut times = vec![];
        for i in 0..n {
            let name = format!("x{i}-{}", std::process::id());
            std::fs::create_dir(format!("/tmp/w/bb/uppers/{name}")).unwrap();
            let t = std::time::Instant::now();
            let s = spec::SandboxSpec {
                hostname: "runner".into(),
                layers: 1,
                upper: spec::Upper::Disk(name),
                binds: vec![spec::Bind { from: "ws".into(), to: "/workspace".into(), directory: true }],
                shm_bytes: 64 << 20,
                affinity: vec![],
                user: (0, 0),
                sweep: true,
            };
            let m = ids::step_map(id, 0).to_string();
            let script = ops::script(&s, m.clone(), m, false);
            let mut sb = match stage.build(script, None, &[]) {
                Ok(s) => s,
                Err(e) => {
                    eprintln!("build {e}");
                    return;
                }
            };
            let t1 = t.elapsed();
            if let Err(e) = sb.ready().await {
                eprintln!("ready: {e}");
                return;
            }
            let t2 = t.elapsed();
            let go = spec::Go {
                candidates: vec![args[0].clone().into()],
                argv: args.iter().map(|a| a.clone().into_bytes()).collect(),
                env: vec![b"PATH=/bin".to_vec()],
                cwd: b"/workspace".to_vec(),
                uid: 0,
                gid: 0,
                groups: Some(vec![]),
                capabilities: (1 << 0)
                    | (1 << 1)
                    | (1 << 3)
                    | (1 << 4)
                    | (1 << 5)
                    | (1 << 6)
                    | (1 << 7)
                    | (1 << 8)
                    | (1 << 10),
                rlimits: vec![],
            };
            let nul = std::fs::File::open("/dev/null").unwrap();
            let o = std::io::stdout();
            let e = std::io::stderr();
            if let Err(e) = sb.go(&go, [nul.as_fd(), o.as_fd(), e.as_fd()]).await {
                eprintln!("go: {e}");
                return;
            }
            let t3 = t.elapsed();
            let w = sb.word().await;
            let t4 = t.elapsed();
            times.push(t4);
            if n == 1 {
                eprintln!("{t1:?} {t2:?} {t3:?} {t4:?} {w:?}");
            }
            drop(sb);
        }
        times.sort();
        eprintln!("p50 {:?} min {:?}", times[times.len() / 2], times[0]);
    });
}
