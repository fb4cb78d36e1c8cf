//! What networks cost, side by side with docker and podman, in one run: starts, nouns, packets, names, many containers, many ports.
//!
//! ```text
//! cargo bench --bench network                  # as root; peers that are not installed are skipped, and it says so
//! cargo bench --bench network -- start ports   # only these parts: start noun packets names crowd ports
//! ONGGI_BENCH_RUNS=3 cargo bench --bench network
//! ```
//! Each engine has a network namespace as its host, so that none of them passes another's rules, and one more that is the world outside.
//! Packets are sent by this program, with sockets that it opens in the containers' namespaces: what is compared is the way, not the
//! programs at its ends. Told are medians, and how many times better than docker. Nothing is asserted.

mod side_by_side;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use side_by_side::{Engine, Figure, Outcome, Part, Row, at, outside_of, turned};

fn main() -> Outcome<()> {
    let parts: [(&str, Part); 6] = [("start", start), ("noun", noun), ("packets", packets), ("names", names), ("crowd", crowd), ("ports", ports)];
    side_by_side::run("network", true, &parts)
}

/// The host as its neighbour outside knows it.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn start(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    engines.iter().try_for_each(|engine| engine.does(&["network", "create", "own"]))?;
    let kinds: [(&str, &[&str]); 4] = [
        ("run --rm --network none", &["--network", "none"]),
        ("run --rm, default network", &[]),
        ("run --rm --network own", &["--network", "own"]),
        ("run --rm --network own -p", &["--network", "own", "-p", "8080:80"]),
    ];
    let mut rows = kinds.map(|(title, _)| Row::new(title));
    for round in 0..runs {
        for ((_, words), row) in kinds.iter().zip(&mut rows) {
            turned(engines, round)
                .for_each(|engine| row.time(engine, || engine.does(&[&["run", "--rm"], *words, &[&engine.image, "true"]].concat())));
        }
    }
    rows.iter().for_each(Row::print);
    engines.iter().try_for_each(|engine| engine.does(&["network", "rm", "own"]))
}

fn noun(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    for engine in engines {
        engine.does(&["network", "create", "first"])?;
        engine.does(&["run", "-d", "--name", "member", "--network", "first", &engine.image, "sleep", "1000"])?;
    }
    let mut rows = ["network create", "network connect", "network disconnect", "network ls", "network rm"].map(Row::new);
    for round in 0..runs {
        for engine in turned(engines, round) {
            let [create, connect, disconnect, ls, rm] = &mut rows;
            create.time(engine, || engine.does(&["network", "create", "second"]));
            connect.time(engine, || engine.does(&["network", "connect", "second", "member"]));
            disconnect.time(engine, || engine.does(&["network", "disconnect", "second", "member"]));
            ls.time(engine, || engine.does(&["network", "ls"]));
            rm.time(engine, || engine.does(&["network", "rm", "second"]));
        }
    }
    rows.iter().for_each(Row::print);
    engines.iter().try_for_each(|engine| engine.does(&["rm", "-f", "member"]).and_then(|()| engine.does(&["network", "rm", "first"])))
}

/// A container that runs, as this program needs it.
struct Member {
    pid: String,
    namespace: PathBuf,
    address: IpAddr,
}

/// Starts a container that does nothing.
fn member(engine: &Engine, name: &str, more: &[&str]) -> Outcome<Member> {
    engine.does(&[&["run", "-d", "--name", name], more, &[&engine.image, "sleep", "1000"]].concat())?;
    let pid = engine.says(&["inspect", "-f", "{{.State.Pid}}", name])?.trim().to_string();
    let address = engine.says(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name])?;
    Ok(Member { namespace: format!("/proc/{pid}/ns/net").into(), pid, address: address.trim().parse()? })
}

/// One way from a client to a server: where the client is, and what it connects to.
type Way<'a> = (&'a str, &'a Path, SocketAddr);

fn packets(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut members = Vec::new();
    for engine in engines {
        engine.does(&["network", "create", "own"])?;
        let server = member(engine, "server", &["--network", "own", "-p", "8080:80"])?;
        members.push((server, member(engine, "client", &["--network", "own"])?));
    }
    let titles = ["container to container", "outside to a published port", "host to its own 127.0.0.1"];
    let mut rates = titles.map(|title| Figure::new(format!("{title}, Gbit/s")).more_is_better());
    let mut answers = titles.map(|title| Figure::new(format!("{title}, µs")));
    let mut slowest = titles.map(|title| Figure::new(format!("{title}, 99 %")));
    for round in 0..runs {
        for engine in turned(engines, round) {
            let Some((server, client)) = engines.iter().position(|other| other.name == engine.name).and_then(|at| members.get(at)) else { continue };
            let (outside, host) = (outside_of(dir, engine.name), engine.place.clone().ok_or("it has no host of its own")?);
            let listener = at(&server.namespace, || Ok(TcpListener::bind(("0.0.0.0", 80))?))?;
            let ways: [Way; 3] = [
                (titles[0], &client.namespace, (server.address, 80).into()),
                (titles[1], &outside, (HOST, 8080).into()),
                (titles[2], &host, (Ipv4Addr::LOCALHOST, 8080).into()),
            ];
            for (way, (title, from, to)) in ways.into_iter().enumerate() {
                let measured = connection(&listener, from, to).and_then(|(near, far)| Ok((ping_pong(&near, &far)?, rate(near, far)?)));
                match measured {
                    Ok(((median, late), rate)) => {
                        answers[way].add(engine, median);
                        slowest[way].add(engine, late);
                        rates[way].add(engine, rate);
                    }
                    Err(why) => println!("  {}: {title}: {why}", engine.name),
                }
            }
        }
    }
    rates.iter().chain(&answers).chain(&slowest).for_each(Figure::print);
    engines.iter().try_for_each(|engine| engine.does(&["rm", "-f", "server", "client"]).and_then(|()| engine.does(&["network", "rm", "own"])))
}

/// Both ends of a new connection.
fn connection(listener: &TcpListener, from: &Path, to: SocketAddr) -> Outcome<(TcpStream, TcpStream)> {
    let near = at(from, || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(Duration::from_secs(5)))?;
        end.set_write_timeout(Some(Duration::from_secs(5)))?;
    }
    Ok((near, far))
}

/// Microseconds from one byte to the byte that answers it: the median, and what one of a hundred takes longer than.
fn ping_pong(mut near: &TcpStream, mut far: &TcpStream) -> Outcome<(f64, f64)> {
    const TIMES: usize = 2000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut byte = [0];
            for _ in 0..TIMES {
                if far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).is_err() {
                    return;
                }
            }
        });
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            near.write_all(&[1])?;
            near.read_exact(&mut [0])?;
            times.push(began.elapsed());
        }
        Ok(middle_and_late(&mut times))
    })
}

/// Gigabits a second, from the far end to the near one: what a server sends.
fn rate(mut near: TcpStream, mut far: TcpStream) -> Outcome<f64> {
    const LONG: Duration = Duration::from_millis(1500);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (began, bytes) = (Instant::now(), vec![7; 128 << 10]);
            while began.elapsed() < LONG && far.write_all(&bytes).is_ok() {}
        });
        let (began, mut room, mut count) = (Instant::now(), vec![0; 256 << 10], 0);
        loop {
            match near.read(&mut room)? {
                0 => return Ok(count as f64 * 8.0 / 1e9 / began.elapsed().as_secs_f64()),
                more => count += more,
            }
        }
    })
}

fn middle_and_late(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let told = |at: usize| times[at].as_secs_f64() * 1e6;
    (told(times.len() / 2), told(times.len() * 99 / 100))
}

fn names(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut clients = Vec::new();
    for engine in engines {
        engine.does(&["network", "create", "own"])?;
        member(engine, "server", &["--network", "own"])?;
        clients.push(member(engine, "client", &["--network", "own"])?);
    }
    let mut figures = [Figure::new("a name, µs"), Figure::new("a name, 99 %"), Figure::new("names a second, 16 at a time").more_is_better()];
    for round in 0..runs {
        for engine in turned(engines, round) {
            let Some(client) = engines.iter().position(|other| other.name == engine.name).and_then(|at| clients.get(at)) else { continue };
            match ask(client) {
                Ok(found) => figures.iter_mut().zip(found).for_each(|(figure, value)| figure.add(engine, value)),
                Err(why) => println!("  {}: names: {why}", engine.name),
            }
        }
    }
    figures.iter().for_each(Figure::print);
    engines.iter().try_for_each(|engine| engine.does(&["rm", "-f", "server", "client"]).and_then(|()| engine.does(&["network", "rm", "own"])))
}

/// Asks the container's name server where `server` is, one question after the other, then sixteen at a time.
fn ask(client: &Member) -> Outcome<[f64; 3]> {
    const ONE_BY_ONE: u16 = 1000;
    const AT_A_TIME: u16 = 16;
    const TURNS: u16 = 300;
    let conf = std::fs::read_to_string(format!("/proc/{}/root/etc/resolv.conf", client.pid))?;
    let server: IpAddr = conf.lines().find_map(|line| line.strip_prefix("nameserver ")).ok_or("resolv.conf names no server")?.trim().parse()?;
    let socket = at(&client.namespace, || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect((server, 53))?;
        Ok(socket)
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = [0; 512];
    let mut hear = || -> Outcome<()> {
        let length = socket.recv(&mut answer)?;
        // RFC 1035, 4.1.1: no error, and one answer at least.
        let is_found = length > 12 && answer[3] & 15 == 0 && answer[6..8] != [0, 0];
        if is_found { Ok(()) } else { Err(format!("`server` is not known: {:02x?}", &answer[..length.min(12)]).into()) }
    };
    let mut times = Vec::new();
    for id in 0..ONE_BY_ONE {
        let began = Instant::now();
        socket.send(&question(id))?;
        hear()?;
        times.push(began.elapsed());
    }
    let (median, late) = middle_and_late(&mut times);
    let began = Instant::now();
    for turn in 0..TURNS {
        (0..AT_A_TIME).try_for_each(|one| socket.send(&question(turn * AT_A_TIME + one)).map(drop))?;
        (0..AT_A_TIME).try_for_each(|_| hear())?;
    }
    Ok([median, late, f64::from(TURNS * AT_A_TIME) / began.elapsed().as_secs_f64()])
}

/// A question for the IPv4 address of `server` (RFC 1035, 4.1).
fn question(id: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend(b"\x06server\x00\x00\x01\x00\x01");
    packet
}

fn crowd(_: &Path, engines: &[Engine], _: usize) -> Outcome<()> {
    const MANY: usize = 100;
    let (mut first, mut last) = (Row::new("run -d, the first 10 on a bridge"), Row::new("run -d, the last 10 of 100"));
    let (mut memory, mut rm) = (Figure::new("memory beside 100 of them, MiB"), Row::new("rm -f of all 100"));
    for engine in engines {
        engine.does(&["network", "create", "own"])?;
        let names: Vec<String> = (0..MANY).map(|number| format!("crowd{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            let run = || engine.does(&["run", "-d", "--network", "own", "--name", name, &engine.image, "sleep", "1000"]);
            match number {
                ..10 => first.time(engine, run),
                90.. => last.time(engine, run),
                _ => run()?,
            }
        }
        memory.add(engine, memory_beside(engine, &names)?);
        let words: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        rm.time(engine, || engine.does(&words));
        engine.does(&["network", "rm", "own"])?;
    }
    [first, last, rm].iter().for_each(Row::print);
    memory.print();
    Ok(())
}

/// What looks after containers (monitors, shims, conmon), and the daemon with all that it has started. In MiB, what is shared counted once.
fn memory_beside(engine: &Engine, names: &[String]) -> Outcome<f64> {
    let words: Vec<&str> = ["inspect", "-f", "{{.State.Pid}}"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let inits: BTreeSet<u32> = engine.says(&words)?.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let all: Vec<(u32, u32, String)> =
        std::fs::read_dir("/proc")?.flatten().filter_map(|entry| parent_and_name(entry.file_name().to_str()?)).collect();
    let mut beside: BTreeSet<u32> = all.iter().filter(|(pid, ..)| inits.contains(pid)).map(|(_, parent, _)| *parent).collect();
    if engine.name == "docker" {
        // Of all daemons of this machine the one that is in this engine's host.
        let here = |pid: u32| engine.place.as_deref().is_some_and(|place| inode(place) == inode(Path::new(&format!("/proc/{pid}/ns/net"))));
        beside
            .extend(all.iter().filter(|(pid, _, name)| ["dockerd", "containerd", "docker-proxy"].contains(&&**name) && here(*pid)).map(|one| one.0));
    }
    let share = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse::<f64>().ok()
    };
    Ok(beside.iter().filter_map(share).sum::<f64>() / 1024.0)
}

fn parent_and_name(pid: &str) -> Option<(u32, u32, String)> {
    let number = pid.parse().ok()?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |key: &str| Some(text.lines().find_map(|line| line.strip_prefix(key))?.trim().to_string());
    Some((number, field("PPid:")?.parse().ok()?, field("Name:")?))
}

fn inode(place: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(place).ok().map(|facts| facts.ino())
}

/// Docker starts two processes for each port, so that the peers have only some.
fn ports(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut run = Row::new("run -d, 1,000 ports (peers: 200)");
    let mut more = Row::new("run --rm -p, beside them");
    let (mut first, mut last) = (Figure::new("connect to the first of them, µs"), Figure::new("connect to the last of them, µs"));
    for engine in engines {
        let count = if engine.name == "onggi" { 1000 } else { 200 };
        let (low, high) = (20000, 20000 + count - 1);
        let range = format!("{low}-{high}:{low}-{high}");
        let mut made = None;
        run.time(engine, || {
            made = Some(member(engine, "ports", &["-p", &range])?);
            Ok(())
        });
        let Some(server) = made else { continue };
        for _ in 0..runs.min(5) {
            more.time(engine, || engine.does(&["run", "--rm", "-p", "8080:80", &engine.image, "true"]));
            for (figure, port) in [(&mut first, low), (&mut last, high)] {
                figure.add(engine, connect_time(&server, &outside_of(dir, engine.name), port)?);
            }
        }
        engine.does(&["rm", "-f", "ports"])?;
    }
    [run, more].iter().for_each(Row::print);
    [first, last].iter().for_each(Figure::print);
    Ok(())
}

/// Microseconds from SYN to the answer to it, through a published port.
fn connect_time(server: &Member, outside: &Path, port: u16) -> Outcome<f64> {
    let listener = at(&server.namespace, || Ok(TcpListener::bind(("0.0.0.0", port))?))?;
    let mut times = at(outside, || {
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            let connected = TcpStream::connect_timeout(&(HOST, port).into(), Duration::from_secs(5))?;
            times.push(began.elapsed());
            listener.accept()?;
            drop(connected);
        }
        Ok(times)
    })?;
    Ok(middle_and_late(&mut times).0)
}
