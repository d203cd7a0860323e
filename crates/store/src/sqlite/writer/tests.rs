//! The writing thread when work goes wrong. A first piece of work that waits holds the batch open, so that what is queued
//! behind it shares its transaction.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc as threads;
use std::time::Duration;

use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::sealed::Mac;

use super::*;
use crate::sqlite::{Options, Sqlite};
use crate::{Authority, Store};

struct Home {
    sqlite: Sqlite,
    folder: tempfile::TempDir,
}

fn open(change: impl FnOnce(&mut Options)) -> Home {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path());
    change(&mut options);
    Home { sqlite: Sqlite::open(options).unwrap(), folder }
}

fn write<T>(change: T) -> Write<T> {
    let record = AuditRecord::new(Timestamp::default(), AuditAction::ServerStarted);
    Write::new(Authority::server(), AuditEntry { record, mac: Mac([0; 32]) }, change)
}

fn put(unit: &Unit<'_>, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
    sql::run(unit, "INSERT INTO sealed_blob (name, bytes) VALUES (?1, ?2)", (name, bytes)).map(drop)
}

async fn names(sqlite: &Sqlite) -> Vec<String> {
    let read = |c: &Connection| sql::all(c, "SELECT name FROM sealed_blob ORDER BY name", [], |row| Ok(row.get(0)?));
    sqlite.read(read).await.unwrap()
}

async fn log_size(sqlite: &Sqlite) -> u64 {
    sqlite.read(audit::head).await.unwrap().size
}

/// Opens a batch and keeps it open until the sender is dropped.
async fn hold(sqlite: &Sqlite) -> (threads::Sender<()>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (release, held) = threads::channel::<()>();
    let (begun, begins) = oneshot::channel();
    let sqlite = sqlite.clone();
    let task = tokio::spawn(async move {
        let work = move |_: &Unit<'_>, ()| {
            begun.send(()).expect("the test waits");
            held.recv().expect_err("nothing is sent");
            Ok(())
        };
        sqlite.write(write(()), work).await
    });
    begins.await.unwrap();
    (release, task)
}

type Command = Box<dyn FnOnce(&Unit<'_>, ()) -> Result<(), Error> + Send>;

/// Does all of these in one transaction; what each answered.
async fn together(sqlite: &Sqlite, commands: Vec<Command>) -> Vec<Result<(), Error>> {
    let (release, first) = hold(sqlite).await;
    let mut tasks = Vec::new();
    for command in commands {
        let sqlite = sqlite.clone();
        let before = sqlite.0.writer.queue.capacity();
        let queue = sqlite.0.writer.queue.clone();
        tasks.push(tokio::spawn(async move { sqlite.write(write(()), command).await }));
        while queue.capacity() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    drop(release);
    let mut answers = vec![first.await.unwrap()];
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

fn puts(name: &'static str) -> Command {
    Box::new(move |unit, ()| put(unit, name, vec![1]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_fails_is_rolled_back_alone() {
    let home = open(|_| {});
    let fails: Command = Box::new(|unit, ()| {
        put(unit, "half", vec![1])?;
        put(unit, "half", vec![1])
    });
    let answers = together(&home.sqlite, vec![puts("a"), fails, puts("b")]).await;
    assert_eq!(answers, [Ok(()), Ok(()), Err(Error::Conflict("a row with this key exists")), Ok(())]);
    assert_eq!(names(&home.sqlite).await, ["a", "b"]);
    assert_eq!(log_size(&home.sqlite).await, 3, "the failed one's record is gone with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_panics_is_rolled_back_alone() {
    let home = open(|_| {});
    let panics: Command = Box::new(|unit, ()| {
        put(unit, "half", vec![1])?;
        let mut statement = unit.prepare_cached("SELECT name FROM sealed_blob")?;
        let mut rows = statement.query([])?;
        rows.next()?;
        panic!("in the middle of a statement")
    });
    let answers = together(&home.sqlite, vec![puts("a"), panics, puts("b")]).await;
    assert!(matches!(&answers[2], Err(Error::Unavailable(_))), "{answers:?}");
    assert_eq!((&answers[1], &answers[3]), (&Ok(()), &Ok(())));
    assert_eq!(names(&home.sqlite).await, ["a", "b"]);
    assert_eq!(log_size(&home.sqlite).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_panics_after_its_pin_leaves_no_pin() {
    let home = open(|_| {});
    let work = |unit: &Unit<'_>, ()| -> Result<(), Error> {
        unit.save()?;
        put(unit, "pin", vec![1])?;
        panic!("after the pin")
    };
    assert!(matches!(home.sqlite.deliver(write(()), work).await, Err(Error::Unavailable(_))));
    assert_eq!(names(&home.sqlite).await, Vec::<String>::new());
    assert_eq!(log_size(&home.sqlite).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_answered_before_the_commit() {
    let home = open(|_| {});
    let (release, first) = hold(&home.sqlite).await;
    let done = Arc::new(AtomicBool::new(false));
    let task = tokio::spawn({
        let (sqlite, done) = (home.sqlite.clone(), done.clone());
        async move {
            // Even an error: it may come from what was not yet committed.
            let refused = |_: &Unit<'_>, ()| -> Result<(), Error> { Err(Error::NotFound) };
            let answer = sqlite.write(write(()), refused).await;
            done.store(true, Ordering::SeqCst);
            answer
        }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!done.load(Ordering::SeqCst));
    drop(release);
    assert_eq!(task.await.unwrap(), Err(Error::NotFound));
    assert_eq!(first.await.unwrap(), Ok(()));
}

/// As SQLite does on a full disk or a failed file: the transaction ends under the batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_ends_early_fails_everyone_in_it() {
    let home = open(|_| {});
    let ends: Command = Box::new(|unit, ()| {
        unit.execute_batch("ROLLBACK")?;
        Err(Error::Full)
    });
    let answers = together(&home.sqlite, vec![puts("a"), ends]).await;
    assert_eq!(answers, [Err(Error::Full), Err(Error::Full), Err(Error::Full)]);
    assert_eq!(names(&home.sqlite).await, Vec::<String>::new());
    assert_eq!(log_size(&home.sqlite).await, 0);

    let hides: Command = Box::new(|unit, ()| Ok(unit.execute_batch("ROLLBACK")?));
    let answers = together(&home.sqlite, vec![puts("a"), hides]).await;
    assert!(answers.iter().all(|a| matches!(a, Err(Error::Unavailable(_)))), "{answers:?}");

    assert_eq!(together(&home.sqlite, vec![puts("a")]).await, [Ok(()), Ok(())]);
    assert_eq!(names(&home.sqlite).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_keeps_what_it_has() {
    let home = open(|options| options.max_pages = Some(200));
    let mut stored = 0_u64;
    let full = loop {
        let name = format!("blob-{stored:04}");
        let work = move |unit: &Unit<'_>, ()| put(unit, &name, vec![7; 20_000]);
        match home.sqlite.write(write(()), work).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "200 pages do not hold this much");
    };
    assert_eq!(full, Error::Full);
    assert_eq!(names(&home.sqlite).await.len() as u64, stored);
    let proof = home.sqlite.read(|c| audit::prove(c, Vec::new())).await.unwrap();
    assert!(proof.holds() && proof.stored.size == stored, "{proof:?}");

    // Erasing makes room, and the store goes on.
    let erase = |unit: &Unit<'_>, ()| sql::run(unit, "DELETE FROM sealed_blob WHERE name < 'blob-0005'", []);
    assert_eq!(home.sqlite.write(write(()), erase).await, Ok(5));
    let again = |unit: &Unit<'_>, ()| put(unit, "again", vec![7; 20_000]);
    home.sqlite.write(write(()), again).await.unwrap();
    assert!(home.sqlite.read(|c| audit::prove(c, Vec::new())).await.unwrap().holds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_every_write_of_a_batch_is_whole_or_not_there() {
    let home = open(|options| options.max_pages = Some(120));
    for round in 0..40 {
        let commands = (0..3_u8)
            .map(|i| -> Command {
                Box::new(move |unit, ()| {
                    put(unit, &format!("{round:02}-{i}-a"), vec![i; 5000])?;
                    put(unit, &format!("{round:02}-{i}-b"), vec![i; 5000])
                })
            })
            .collect();
        let answers = together(&home.sqlite, commands).await;
        let there = names(&home.sqlite).await;
        for (i, answer) in answers.iter().skip(1).enumerate() {
            let found = there.iter().filter(|name| name.starts_with(&format!("{round:02}-{i}-"))).count();
            assert_eq!(found, if answer.is_ok() { 2 } else { 0 }, "round {round}: {answer:?}");
            assert!(matches!(answer, Ok(()) | Err(Error::Full)));
        }
        assert!(home.sqlite.read(|c| audit::prove(c, Vec::new())).await.unwrap().holds());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_much_to_say_fills_several_pages() {
    let home = open(|_| {});
    let record = AuditRecord::new(Timestamp::default(), AuditAction::ServerStarted);
    let audit = vec![AuditEntry { record, mac: Mac([0; 32]) }; 3000];
    let command = Write { authority: Authority::server(), audit, change: () };
    home.sqlite.deliver(command, |_, ()| Ok(())).await.unwrap();
    let pages = |c: &Connection| {
        sql::all(c, "SELECT count, length(entries) FROM audit_page ORDER BY first_seq", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
    };
    let pages = home.sqlite.read(pages).await.unwrap();
    assert!(pages.len() > 2 && pages.iter().all(|(_, bytes)| *bytes < 70_000), "{pages:?}");
    assert_eq!(pages.iter().map(|(count, _)| count).sum::<i64>(), 3000);
    assert!(home.sqlite.read(|c| audit::prove(c, Vec::new())).await.unwrap().holds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_short() {
    let home = open(|_| {});
    for i in 0..60 {
        let work = move |unit: &Unit<'_>, ()| put(unit, &i.to_string(), vec![1; 400_000]);
        home.sqlite.write(write(()), work).await.unwrap();
    }
    let log = std::fs::metadata(home.folder.path().join("kluis.db-wal")).unwrap().len();
    assert!(log < 16 * 1024 * 1024, "{log} bytes after 24 MB");
}

/// The store is the only thing that must be dropped for its files to close.
#[test]
fn a_store_outlives_the_runtime_it_was_used_on() {
    let home = open(|_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(home.sqlite.write(write(()), |unit, ()| put(unit, "a", vec![1]))).unwrap();
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let store = Store::Sqlite(home.sqlite.clone());
    assert_eq!(runtime.block_on(names(&home.sqlite)), ["a"]);
    store.close();
}
