//! A process that writes is killed, again and again: everything it acknowledged is there, with its record, and the
//! Merkle log is whole. The process is this test binary, started anew for one ignored test; it learns by its standard
//! input where to write and tells by its standard output what was acknowledged.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kluis_core::audit::{AuditAction, AuditEntry};
use kluis_core::rng::{CountingRng, Rng};
use kluis_store::audit::AuditFilter;
use kluis_store::{Authority, Integrity, Options, Store, Write};

use crate::world::{World, entry, secret_name};

const ROUNDS: u64 = 30;
const WRITERS: u64 = 8;

/// What a child acknowledged, one line each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Acknowledged {
    /// A secret was set: its name and version.
    Set(String, String),
    /// A value was delivered: the number in its record.
    Delivered(u64),
}

impl Acknowledged {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        match (words.next()?, words.next()?, words.next()) {
            ("set", name, Some(version)) => Some(Self::Set(name.into(), version.into())),
            ("delivered", number, None) => number.parse().ok().map(Self::Delivered),
            _ => None,
        }
    }
}

fn child(command: &mut Command, folder: &Path, round: u64) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this binary starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    writeln!(stdin, "{}\n{round}", folder.display()).expect("it reads");
    child
}

fn this_binary() -> std::path::PathBuf {
    std::env::current_exe().expect("this binary has a path")
}

const CHILD: [&str; 4] = ["--exact", "crash::writes_until_it_is_killed", "--ignored", "--nocapture"];

/// Everything the child says until it is dead; it is killed after the pause that follows its first word.
fn kill_after(mut child: Child, pause: Option<Duration>) -> Vec<Acknowledged> {
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut heard: Vec<_> =
        lines.by_ref().map_while(Result::ok).filter_map(|line| Acknowledged::parse(&line)).take(1).collect();
    if let Some(pause) = pause {
        std::thread::sleep(pause);
        child.kill().expect("it is ours");
    }
    heard.extend(lines.map_while(Result::ok).filter_map(|line| Acknowledged::parse(&line)));
    child.wait().expect("it is ours");
    heard
}

/// Everything that was ever acknowledged is there, every row has its record, and the log is whole.
async fn check(folder: &Path, acknowledged: &[Acknowledged]) {
    let store = Store::open(Options::new(folder)).expect("it opens after a kill");
    let (_, world) = World::first_start(&store);
    let world = World { store: store.clone(), ..world };
    let mut records: HashMap<(AuditAction, u64), u64> = HashMap::new();
    let mut sets = 0;
    for (_, leaf) in store.audit_leaves(0, u32::MAX).await.unwrap() {
        let record = AuditEntry::from_leaf(&leaf).unwrap().record;
        sets += u64::from(record.action == AuditAction::SecretSet);
        if let Some(count) = record.count {
            *records.entry((record.action, count)).or_default() += 1;
        }
    }
    for acknowledged in acknowledged {
        match acknowledged {
            Acknowledged::Set(name, version) => {
                let found = store.secret_get(world.workspace, &secret_name(name)).await.unwrap();
                let found = found.unwrap_or_else(|| panic!("{name} was acknowledged and is gone"));
                assert_eq!(found.version.row.id.to_string(), *version);
            }
            Acknowledged::Delivered(number) => {
                let times = records.get(&(AuditAction::SecretDelivered, *number));
                assert_eq!(times, Some(&1), "delivery {number}");
            }
        }
    }
    assert_eq!(store.versions_using_key(world.workspace, world.key).await.unwrap(), sets, "a row without its record");
    let proof = store.audit_prove(Vec::new()).await.unwrap();
    assert!(proof.holds(), "{proof:?}");
    let last = AuditFilter { newest: true, limit: 1, ..AuditFilter::default() };
    let (seq, _) = crate::world::records(&store, last).await.remove(0);
    assert_eq!(seq + 1, proof.stored.size, "the index has caught up");
    store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    let mut acknowledged = Vec::new();
    let chance = CountingRng::new(7);
    for round in 0..ROUNDS {
        let mut pause = [0; 2];
        chance.fill(&mut pause);
        let pause = Duration::from_micros(u64::from(u16::from_be_bytes(pause)) * 2);
        let child = child(Command::new(this_binary()).args(CHILD), &folder, round);
        let heard = tokio::task::spawn_blocking(move || kill_after(child, Some(pause))).await.unwrap();
        assert!(!heard.is_empty(), "round {round}: it never got to work");
        acknowledged.extend(heard);
        check(&folder, &acknowledged).await;
    }
    let kinds = acknowledged.iter().filter(|a| matches!(a, Acknowledged::Set(..))).count();
    assert!(kinds > 100 && acknowledged.len() - kinds > 100, "{kinds} of {}", acknowledged.len());
    sound(&folder).await;
}

async fn sound(folder: &Path) {
    let store = Store::open(Options::new(folder)).unwrap();
    for _ in 0..1000 {
        if store.health().integrity != Integrity::Checking {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let health = store.health();
    assert_eq!((health.integrity, health.findings), (Integrity::Sound, Vec::new()));
}

/// A limit on file sizes stands for a disk that fails: the write-ahead log can not be written, and not because the disk
/// is full. The process ends, and what it had acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_can_not_be_written_ends_the_process() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -c 0; ulimit -f 1200; exec \"$0\" \"$@\""])
        .arg(this_binary())
        .args(CHILD);
    let child = child(limited.stderr(Stdio::null()), &folder, 0);
    let heard = tokio::task::spawn_blocking(move || kill_after(child, None)).await.unwrap();
    assert!(heard.len() > 10, "{}", heard.len());
    check(&folder, &heard).await;
    sound(&folder).await;
}

/// Sets secrets and delivers values until somebody ends it.
#[test]
#[ignore = "started by the tests above, which kill it"]
fn writes_until_it_is_killed() {
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    let (folder, round) = (lines.next().expect("a folder"), lines.next().expect("a number"));
    let round: u64 = round.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async {
        let store = Store::open(Options::new(folder)).expect("it opens");
        let world = match store.installation_load().await.expect("readable") {
            None => World::new(&store).await,
            Some(_) => World::first_start(&store).1,
        };
        let world = World { rng: CountingRng::new(1000 + round), ..world };
        let mut writers = tokio::task::JoinSet::new();
        let world = std::sync::Arc::new(world);
        for writer in 0..WRITERS {
            let world = world.clone();
            writers.spawn(async move { write_for_ever(&world, round, writer).await });
        }
        writers.join_all().await;
    });
}

async fn write_for_ever(world: &World, round: u64, writer: u64) {
    for i in 0_u64.. {
        let name = format!("s-{round}-{writer}-{i}");
        let set =
            Write::new(Authority::server(), entry(AuditAction::SecretSet), vec![world.new_secret(&name, "sealed")]);
        let version = set.change[0].version.row.id;
        world.store.secret_version_insert(set).await.expect("nothing stands in the way");
        say(&format!("set {name} {version}"));

        let found = world.found(&name).await;
        let number = (round << 40) | (writer << 32) | i;
        let mut delivered = entry(AuditAction::SecretDelivered);
        delivered.record.count = Some(number);
        let read = Write::new(Authority::server(), delivered, vec![world.read_of(&found, false)]);
        world.store.secret_read(read).await.expect("nothing has changed");
        say(&format!("delivered {number}"));
    }
}

/// One line at a time, whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}
