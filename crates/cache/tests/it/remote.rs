//! Caches at the other end of a connection: real servers where they are installed, and a small one of
//! our own that can misbehave.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{Cache, Key, Memcached, Redis, RedisLogin, RemoteOptions, plain};
use metrics::Registry;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(600);

fn keys(names: &[&str]) -> Vec<Key> {
    names.iter().map(|n| Key::from(*n)).collect()
}

/// A server that is started for a test and ended with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: impl Fn(u16) -> Vec<String>) -> Option<(Server, String)> {
    // Let go of before the server wants it.
    let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
    let port = free().unwrap().port();
    let mut command = Command::new(program);
    command
        .args(args(port))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        println!("SKIPPED: {program} is not installed");
        return None;
    };
    let address = format!("127.0.0.1:{port}");
    let server = Server(child);
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < end, "{program} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((server, address))
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done().await {
        assert!(Instant::now() < end, "it never came true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What every remote cache does.
async fn keeps(cache: &dyn Cache) {
    let all = keys(&["a", "b:1-2", "c"]);
    assert_eq!(cache.get_many(&all).await, [None, None, None]);
    let large = Bytes::from(vec![b'\n'; 200_000]);
    let entries = vec![
        (Arc::clone(&all[0]), Bytes::from_static(b"1")),
        (Arc::clone(&all[2]), large.clone()),
    ];
    cache.put_many(entries, LONG).await;
    until(async || cache.get_many(&all[2..]).await[0].is_some()).await;
    let found = cache.get_many(&all).await;
    assert_eq!(found, [Some(Bytes::from_static(b"1")), None, Some(large)]);
    let empty = vec![(Key::from("empty"), Bytes::new())];
    cache.put_many(empty, LONG).await;
    until(async || cache.get_many(&keys(&["empty"])).await[0].is_some()).await;
    let short = vec![(Key::from("short"), Bytes::from_static(b"x"))];
    cache.put_many(short, Duration::from_secs(2)).await;
    until(async || cache.get_many(&keys(&["short"])).await[0].is_some()).await;
    until(async || cache.get_many(&keys(&["short"])).await[0].is_none()).await;
    let many: Vec<Key> = (0..1000).map(|i| Key::from(format!("k{i}"))).collect();
    let entries = many
        .iter()
        .map(|k| (Arc::clone(k), Bytes::copy_from_slice(k.as_bytes())));
    cache.put_many(entries.collect(), LONG).await;
    until(async || cache.get_many(&many).await.iter().all(Option::is_some)).await;
    let found = cache.get_many(&many).await;
    for (key, bytes) in many.iter().zip(found) {
        assert_eq!(bytes.as_deref(), Some(key.as_bytes()));
    }
}

#[tokio::test]
async fn real_memcached_servers_share_the_keys() {
    let args = |port: u16| {
        let user = ["-u", "nobody", "-l", "127.0.0.1", "-p"];
        let mut args: Vec<String> = user.map(String::from).to_vec();
        args.push(port.to_string());
        args
    };
    let (Some((_a, a)), Some((_b, b))) = (start("memcached", args), start("memcached", args))
    else {
        return;
    };
    let options = RemoteOptions::default();
    let cache = Memcached::new("t", vec![a, b], plain(), options, &Registry::new()).unwrap();
    keeps(&cache).await;
    // A key that the protocol cannot carry is never there.
    let odd = keys(&["has blank", ""]);
    let entries = odd
        .iter()
        .map(|k| (Arc::clone(k), Bytes::from_static(b"x")));
    cache.put_many(entries.collect(), LONG).await;
    assert_eq!(cache.get_many(&odd).await, [None, None]);
}

#[tokio::test]
async fn a_real_redis_keeps_behind_its_password() {
    let args = |port: u16| {
        let fixed = [
            "--save",
            "",
            "--requirepass",
            "secret",
            "--bind",
            "127.0.0.1",
        ];
        let mut args: Vec<String> = fixed.map(String::from).to_vec();
        args.extend(["--port".to_owned(), port.to_string()]);
        args
    };
    let Some((_redis, address)) = start("redis-server", args) else {
        return;
    };
    let login = RedisLogin {
        password: "secret".to_owned(),
        db: 3,
        ..RedisLogin::default()
    };
    let make = |login| {
        let servers = vec![address.clone()];
        let options = RemoteOptions::default();
        Redis::new("t", servers, login, plain(), options, &Registry::new()).unwrap()
    };
    keeps(&make(login.clone())).await;
    let apart = make(RedisLogin {
        prefix: "mine:".to_owned(),
        ..login
    });
    keeps(&apart).await;
    let wrong = make(RedisLogin::default());
    assert_eq!(wrong.get_many(&keys(&["a"])).await, [None]);
}

/// The answer of a Redis server to a command without arguments.
fn told(address: &str, command: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .unwrap();
    let mut answer = vec![0; 8192];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_master_of_now() {
    let plain_server = |port: u16, more: &[&str]| {
        let fixed = [
            "--save",
            "",
            "--bind",
            "127.0.0.1",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let mut args: Vec<String> = fixed.iter().chain(more).map(|a| a.to_string()).collect();
        args.extend(["--port".to_owned(), port.to_string()]);
        args
    };
    let Some((first, first_address)) = start("redis-server", |port| plain_server(port, &[])) else {
        return;
    };
    let (_, port) = first_address.split_once(':').unwrap();
    let replica = |own: u16| plain_server(own, &["--replicaof", "127.0.0.1", port]);
    let (_second, second_address) = start("redis-server", replica).unwrap();
    until(async || told(&first_address, "INFO replication").contains("state=online")).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sentinel.conf");
    let sentinel = |own: u16| {
        let text = format!(
            "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n",
            dir.path().display()
        );
        std::fs::write(&config, text).unwrap();
        vec![config.display().to_string()]
    };
    let Some((_sentinel, sentinel_address)) = start("redis-sentinel", sentinel) else {
        return;
    };
    until(async || told(&sentinel_address, "INFO sentinel").contains("slaves=1")).await;

    // The first one that is named is not there.
    let sentinels = vec!["127.0.0.1:1".to_owned(), sentinel_address.clone()];
    let make = |name: &str| {
        let each = Duration::from_secs(1);
        let dial = cache::sentinel(name.to_owned(), sentinels.clone(), each, plain(), plain());
        let (servers, login) = (vec![name.to_owned()], RedisLogin::default());
        let options = RemoteOptions::default();
        Redis::new("t", servers, login, dial, options, &Registry::new()).unwrap()
    };
    let cache = make("main");
    keeps(&cache).await;
    let size = told(&first_address, "DBSIZE");
    assert!(size.starts_with(':') && size != ":0\r\n", "{size}");
    let other = make("nobody");
    assert_eq!(other.get_many(&keys(&["a"])).await, [None]);

    // The master goes; what was its replica is found, and takes what is to be stored.
    drop(first);
    let key = keys(&["after"]);
    let end = Instant::now() + Duration::from_secs(30);
    while cache.get_many(&key).await[0].is_none() {
        assert!(
            Instant::now() < end,
            "{}",
            told(&sentinel_address, "INFO sentinel")
        );
        let entry = (Arc::clone(&key[0]), Bytes::from_static(b"2"));
        cache.put_many(vec![entry], LONG).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(told(&second_address, "INFO replication").contains("role:master"));
}

/// How our own server behaves.
#[derive(Clone, Copy)]
enum Mood {
    Good,
    Silent,
    Nonsense,
    Lies,
}

/// A memcached of our own; counts connections.
async fn fake(mood: Arc<Mutex<Mood>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let store: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(talk(stream, Arc::clone(&mood), Arc::clone(&store)));
        }
    });
    (address, count)
}

async fn talk(
    stream: TcpStream,
    mood: Arc<Mutex<Mood>>,
    store: Arc<Mutex<HashMap<String, Vec<u8>>>>,
) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let mut answer = Vec::new();
        if words[0] == "set" {
            let mut bytes = vec![0; words[4].parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut bytes).await.unwrap();
            bytes.truncate(bytes.len() - 2);
            store.lock().unwrap().insert(words[1].clone(), bytes);
            answer.extend(b"STORED\r\n");
        } else {
            for key in &words[1..] {
                if let Some(bytes) = store.lock().unwrap().get(key) {
                    answer.extend(format!("VALUE {key} 0 {}\r\n", bytes.len()).as_bytes());
                    answer.extend(bytes);
                    answer.extend(b"\r\n");
                }
            }
            answer.extend(b"END\r\n");
        }
        let mood = *mood.lock().unwrap();
        match mood {
            Mood::Good => {}
            Mood::Silent => std::future::pending().await,
            Mood::Nonsense => answer = b"VALUE a 0 99999999999999\r\n".to_vec(),
            Mood::Lies => answer = b"VALUE other 0 1\r\nx\r\nEND\r\n".to_vec(),
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        line.clear();
    }
}

#[tokio::test]
async fn trouble_is_a_miss_and_after_a_while_a_server_is_left_alone() {
    let mood = Arc::new(Mutex::new(Mood::Good));
    let (address, connections) = fake(Arc::clone(&mood)).await;
    let options = RemoteOptions {
        timeout: Duration::from_millis(100),
        failures: 3,
        pause: Duration::from_millis(300),
        max_entry_bytes: 10,
        ..RemoteOptions::default()
    };
    let cache = Memcached::new("t", vec![address], plain(), options, &Registry::new()).unwrap();
    let one = keys(&["a"]);
    let entries = vec![
        (Arc::clone(&one[0]), Bytes::from_static(b"1")),
        (Key::from("large"), Bytes::from_static(b"more than ten")),
    ];
    cache.put_many(entries, LONG).await;
    until(async || cache.get_many(&one).await[0].is_some()).await;
    assert_eq!(cache.get_many(&keys(&["large"])).await, [None]);
    for bad in [Mood::Silent, Mood::Nonsense, Mood::Lies] {
        *mood.lock().unwrap() = bad;
        for _ in 0..3 {
            assert_eq!(cache.get_many(&one).await, [None]);
        }
        let before = connections.load(Ordering::SeqCst);
        let started = Instant::now();
        assert_eq!(cache.get_many(&one).await, [None]);
        assert!(started.elapsed() < Duration::from_millis(80), "not asked");
        assert_eq!(connections.load(Ordering::SeqCst), before);
        *mood.lock().unwrap() = Mood::Good;
        tokio::time::sleep(Duration::from_millis(350)).await;
        until(async || cache.get_many(&one).await[0].is_some()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_stored_in_time_is_dropped() {
    let mood = Arc::new(Mutex::new(Mood::Silent));
    let (address, _) = fake(mood).await;
    let options = RemoteOptions {
        writers: 1,
        queue: 2,
        ..RemoteOptions::default()
    };
    let registry = Registry::new();
    let cache = Memcached::new("t", vec![address], plain(), options, &registry).unwrap();
    let started = Instant::now();
    for i in 0..50 {
        let entry = (Key::from(format!("k{i}")), Bytes::from_static(b"x"));
        cache.put_many(vec![entry], LONG).await;
    }
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waits");
}

#[tokio::test]
async fn no_server_is_no_cache() {
    let cache = Memcached::new(
        "t",
        Vec::new(),
        plain(),
        RemoteOptions::default(),
        &Registry::new(),
    )
    .unwrap();
    assert_eq!(cache.get_many(&keys(&["a", "b"])).await, [None, None]);
}

/// The next number of a splitmix64 sequence.
fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[tokio::test]
async fn whatever_a_server_answers_is_an_entry_or_a_miss() {
    let all = keys(&["a", "b", "c"]);
    let memcached = b"VALUE a 0 3\r\nxyz\r\nVALUE c 0 0\r\n\r\nEND\r\n";
    let redis = b"*3\r\n$3\r\nxyz\r\n$-1\r\n$0\r\n\r\n";
    let mut state = 7;
    for round in 0..3000 {
        let plain: &[u8] = if round % 2 == 0 { memcached } else { redis };
        let mut bytes = plain.to_vec();
        if round > 1 {
            for _ in 0..1 + dice(&mut state) % 4 {
                let at = dice(&mut state) as usize % bytes.len();
                match dice(&mut state) % 3 {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = dice(&mut state) as u8,
                    _ => bytes.insert(at, b"0123456789$*\r\n -"[dice(&mut state) as usize % 16]),
                }
            }
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let dial: cache::Dial = Arc::new(move |_| {
            let answer = std::io::Cursor::new(bytes.clone());
            let io = tokio::io::join(answer, tokio::io::sink());
            Box::pin(std::future::ready(Ok(Box::new(io) as Box<dyn cache::Io>)))
        });
        let (servers, options) = (vec!["x:1".to_owned()], RemoteOptions::default());
        let registry = Registry::new();
        let cache: Box<dyn Cache> = match round % 2 {
            0 => Box::new(Memcached::new("t", servers, dial, options, &registry).unwrap()),
            _ => {
                let login = RedisLogin::default();
                Box::new(Redis::new("t", servers, login, dial, options, &registry).unwrap())
            }
        };
        let found = cache.get_many(&all).await;
        assert_eq!(found.len(), 3, "{shown:?}");
        if round < 2 {
            let xyz = Some(Bytes::from_static(b"xyz"));
            assert_eq!(found, [xyz, None, Some(Bytes::new())], "{shown:?}");
        }
    }
}
