//! What a run sees: its own folder, a clean environment, and nothing of what the operator covers.

use std::os::unix::fs::MetadataExt;

use kluis_core::run::Blame;
use serde_json::json;

use crate::harness::{Run, bwrap_works, make_private, skip};

const LOOK: &str = "
import json, os, pathlib
def look(path):
    try:
        p = pathlib.Path(path)
        return sorted(x.name for x in p.iterdir()) if p.is_dir() else p.read_bytes()[:20].hex()
    except OSError as e:
        return type(e).__name__
def link(path):
    try:
        return os.readlink(path)
    except OSError as e:
        return type(e).__name__
launcher = os.getppid()
base = os.environ['BASE']
print(json.dumps({
    'data': look(base + '/data'), 'key': look(base + '/data/root.key'), 'neighbour': look(base + '/runs/other-1'),
    'neighbours': look(base + '/runs'), 'own': 'tree' in look(os.environ['KLUIS_RUN_DIR']),
    'environ': look('/proc/%d/environ' % launcher), 'mem': look('/proc/%d/mem' % launcher),
    'root': look('/proc/%d/root' % launcher + base + '/data'), 'fd 0': link('/proc/%d/fd/0' % launcher),
    'private': look(pathlib.Path(os.environ['KLUIS_RUN_SOCKET']).parent.parent),
    'here': os.getcwd() == os.path.realpath(os.environ['KLUIS_RUN_DIR'] + '/tree'),
    'temporary': open(os.environ['TMPDIR'] + '/x', 'w').write('x'),
    'outputs': os.path.isdir('outputs') and os.path.isdir('logs'),
}))
";

async fn look(confine: &str) -> serde_json::Value {
    let run = Run::of_python(LOOK).await;
    let base = run.folder.path().canonicalize().unwrap();
    make_private(&base.join("runs/other-1"));
    make_private(&base.join("data"));
    std::fs::write(base.join("data/root.key"), "the root key").unwrap();
    let run = run
        .hand_over("confine", json!(confine))
        .hand_over("covered", json!([base.join("data"), base.join("runs")]))
        .context("environment", json!({"BASE": base}));
    serde_json::from_str(&run.finish().await.succeeded()).unwrap()
}

#[tokio::test]
async fn behind_bubblewrap_covered_folders_are_empty_and_processes_outside_closed() {
    if !bwrap_works() {
        return;
    }
    let seen = look("bwrap").await;
    assert_eq!(seen["data"], json!([]));
    assert_eq!(seen["key"], "FileNotFoundError");
    assert_eq!(seen["neighbours"], json!(["test_1-1"]));
    assert_eq!(seen["neighbour"], "FileNotFoundError");
    for closed in ["environ", "mem", "root", "fd 0"] {
        assert_eq!(seen[closed], "PermissionError", "{closed}");
    }
    assert_eq!(seen["private"].as_array().unwrap().len(), 1, "{}", seen["private"]);
    assert!(seen["own"] == true && seen["here"] == true && seen["outputs"] == true, "{seen}");
}

#[tokio::test]
async fn under_landlock_covered_folders_are_closed_and_the_own_one_is_open() {
    let seen = look("landlock").await;
    assert_eq!(seen["data"], "PermissionError");
    assert_eq!(seen["key"], "PermissionError");
    assert_eq!(seen["neighbours"], "PermissionError");
    assert_eq!(seen["neighbour"], "PermissionError");
    for closed in ["environ", "mem", "root", "fd 0"] {
        assert_eq!(seen[closed], "PermissionError", "{closed}");
    }
    assert!(seen["own"] == true && seen["here"] == true && seen["outputs"] == true, "{seen}");
}

/// A machine where no more namespaces can be made: a namespace with that limit.
const CLOSED: [&str; 4] = ["unshare", "-Ur", "sh", "-c"];
const CLOSE: &str = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\"";

fn closed_namespaces(run: Run) -> Run {
    run.within(&[&CLOSED[..], &[CLOSE]].concat())
}

#[tokio::test]
async fn where_namespaces_are_closed_landlock_takes_over_and_without_either_the_run_is_refused() {
    if !bwrap_works() {
        return;
    }
    let ended = closed_namespaces(Run::of_command(&["true"]).await).finish().await;
    ended.succeeded();
    assert!(ended.system().contains("started under Landlock"), "{}", ended.system());
    assert_eq!(ended.stderr(), "", "what bubblewrap said is not the user's");

    let run = closed_namespaces(Run::of_command(&["touch", "outputs/ran"]).await);
    let ended = run.hand_over("confine", json!("bwrap")).finish().await;
    let (exit, blame, reason) = ended.end();
    assert_eq!((exit, blame), (None, Some(Blame::Kluis)));
    assert!(reason.contains("can not be confined") && reason.contains("namespace"), "{reason}");
    assert!(ended.fake.told().outputs.is_empty());
}

#[tokio::test]
async fn without_walls_a_run_runs_only_when_the_operator_says_so_and_the_log_tells() {
    let ended = Run::of_command(&["true"]).await.hand_over("confine", json!("none")).finish().await;
    ended.succeeded();
    assert!(ended.system().contains("without confinement"));
}

#[tokio::test]
async fn what_is_covered_can_not_be_uploaded_through_the_launcher() {
    if !bwrap_works() {
        return;
    }
    let script = "
import os
from kluis import Run, ServiceException
run = Run.get_context()
base = os.environ['BASE']
os.symlink(base + '/data/root.key', 'innocent')
for path in [base + '/data/root.key', 'innocent', '/proc/self/environ', '/proc/%d/mem' % os.getppid()]:
    try:
        run.upload_file('outputs/stolen', path)
        print('taken', path)
    except ServiceException as error:
        print(error.code)
os.symlink(base + '/data/root.key', 'outputs/innocent')
open('outputs/fine', 'w').write('x')
";
    for confine in ["bwrap", "landlock"] {
        let run = Run::of_python(script).await;
        let base = run.folder.path().canonicalize().unwrap();
        make_private(&base.join("data"));
        std::fs::write(base.join("data/root.key"), "the root key").unwrap();
        let run = run
            .hand_over("confine", json!(confine))
            .hand_over("covered", json!([base.join("data")]))
            .context("environment", json!({"BASE": base}));
        let ended = run.finish().await;
        assert_eq!(ended.succeeded(), "bad_request\n".repeat(4), "{confine}");
        let told = ended.fake.told();
        assert_eq!(told.outputs.keys().collect::<Vec<_>>(), ["outputs/fine"], "{confine}");
    }
}

#[tokio::test]
async fn a_run_inherits_its_three_streams_and_nothing_else() {
    // `ls` opens the folder itself, as 3.
    for confine in ["auto", "landlock"] {
        let run = Run::of_command(&["ls", "/proc/self/fd"]).await.hand_over("confine", json!(confine));
        assert_eq!(run.finish().await.succeeded(), "0\n1\n2\n3\n");
    }
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    let ended = Run::of_shell("ulimit -n").await.finish().await;
    assert_eq!(ended.succeeded(), format!("{soft}\n"), "the launcher's own limit is higher");
}

#[tokio::test]
async fn the_environment_has_the_runs_variables_and_no_session_no_ticket_no_submitter() {
    let run = Run::of_command(&["env"])
        .await
        .env("KLUIS_TOKEN", "kls_usr_token")
        .env("AWS_SECRET_ACCESS_KEY", "from the agent")
        .env("LD_LIBRARY_PATH", "/agent")
        .env("CUDA_VISIBLE_DEVICES", "1")
        .context("environment", json!({"EPOCHS": "3"}));
    let out = run.finish().await.succeeded();
    let names: Vec<&str> = out.lines().map(|line| line.split('=').next().unwrap()).collect();
    // What Azure's clients find, and no more of it.
    let (azure, mut sorted): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| {
        let of_proxies = name.to_ascii_lowercase().ends_with("_proxy");
        of_proxies || ["AZURE", "IDENTITY_", "MSI_"].iter().any(|prefix| name.starts_with(prefix))
    });
    assert_eq!(azure.iter().filter(|name| !name.to_ascii_lowercase().ends_with("_proxy")).count(), 16, "{azure:?}");
    sorted.retain(|name| !["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"].contains(name));
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "CUDA_VISIBLE_DEVICES",
            "EPOCHS",
            "HOME",
            "KLUIS_ATTEMPT",
            "KLUIS_EXPERIMENT",
            "KLUIS_RANK",
            "KLUIS_RUN_DIR",
            "KLUIS_RUN_ID",
            "KLUIS_RUN_SOCKET",
            "KLUIS_VAULT_URL",
            "KLUIS_WORKSPACE",
            "KLUIS_WORLD_SIZE",
            "NODE_EXTRA_CA_CERTS",
            "PATH",
            "PYTHONPATH",
            "PYTHONUNBUFFERED",
            "TMPDIR",
        ]
    );
    for secret in ["kls_tkt", "kls_usr", "0123456789abcdef0123456789abcdef"] {
        assert!(!out.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn secrets_in_variables_and_files_are_there_when_asked_for_and_gone_afterwards() {
    let script = "echo $PGPASSWORD; cat $KLUIS_SECRETS_DIR/deep/key.pem; stat -c %a $KLUIS_SECRETS_DIR/deep/key.pem; \
                  echo $KLUIS_SECRETS_DIR > outputs/where; tr '\\0' ' ' < /proc/$PPID/cmdline | grep -c horse";
    let run = Run::of_shell(script)
        .await
        .secret("db", "correct horse")
        .secret("key", "the private key\n")
        .context("secret_env", json!({"PGPASSWORD": "db"}))
        .context("secret_files", json!({"deep/key.pem": "key"}));
    let ended = run.finish().await;
    assert_eq!(ended.stdout(), "***\n***400\n0\n");
    let folder = String::from_utf8(ended.fake.told().outputs["outputs/where"].clone()).unwrap();
    assert!(folder.starts_with("/dev/shm/kluis-") && !std::path::Path::new(folder.trim()).exists(), "{folder}");

    let run = Run::of_shell("true").await.context("secret_env", json!({"PGPASSWORD": "db"}));
    let (exit, blame, reason) = run.finish().await.end();
    assert_eq!((exit, blame), (None, Some(Blame::Script)));
    assert!(reason.contains("`db`") && reason.contains("PGPASSWORD"), "{reason}");
}

#[tokio::test]
async fn a_preloaded_library_of_the_run_meets_no_process_outside_its_walls() {
    // The dynamic linker complains about it in every program that it is told to load it into.
    let run = Run::of_command(&["sh", "-c", "true"]).await.context("environment", json!({"LD_PRELOAD": "/no/such.so"}));
    let ended = run.finish().await;
    ended.succeeded();
    assert_eq!(ended.stderr().matches("/no/such.so").count(), 1, "{}", ended.stderr());
}

#[tokio::test]
async fn the_launcher_can_not_be_traced_and_leaves_no_core() {
    let running = Run::of_shell("echo ready; sleep 60").await.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data == b"ready\n")).await;
    let proc = std::path::PathBuf::from(format!("/proc/{}", running.pid()));
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    assert!(["0000000000000000", "0000000000000020"].contains(&effective), "{effective}");
    assert_eq!(std::fs::metadata(proc.join("mem")).unwrap().uid(), 0);
    running.signal(rustix::process::Signal::TERM);
    running.finish().await;
}

#[tokio::test]
async fn a_covered_path_that_could_not_be_hidden_is_refused_before_the_ticket_is_used() {
    let missing = tempfile::tempdir().unwrap().path().join("not-there");
    for path in [json!("data"), json!("./data"), json!(missing)] {
        let ended = Run::of_command(&["true"]).await.hand_over("covered", json!([path])).finish().await;
        assert!(!ended.status.success() && ended.stderr.contains("to be hidden from the run"), "{}", ended.stderr);
        let told = ended.fake.told();
        assert!(told.redeemed_with.is_empty() && told.end.is_none());
    }
}

#[tokio::test]
async fn a_bubblewrap_that_a_run_could_have_planted_is_not_started() {
    if !bwrap_works() {
        return;
    }
    let run = Run::of_command(&["true"]).await;
    let bin = run.folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let planted = bin.join("bwrap");
    std::fs::write(&planted, format!("#!/bin/sh\ntouch {}/ran\n", bin.display())).unwrap();
    std::fs::set_permissions(&planted, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ended = run.env("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display())).finish().await;
    ended.succeeded();
    assert!(ended.system().contains("bubblewrap"), "{}", ended.system());
    assert!(!bin.join("ran").exists());
}

/// A folder in memory that only this user can enter, as `XDG_RUNTIME_DIR` is.
fn runtime_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("kluis-test-runtime-").tempdir_in("/dev/shm").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    folder
}

#[tokio::test]
async fn the_sessions_sockets_of_the_user_are_hidden_from_a_run() {
    let script = "
import os, socket
try:
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ['BUS'])
    print('connected')
except OSError as e:
    print(type(e).__name__)
try:
    print(sorted(os.listdir(os.path.dirname(os.environ['BUS']))))
except OSError as e:
    print(type(e).__name__)
";
    let runtime = runtime_folder();
    let bus = runtime.path().join("bus");
    let _bus = std::os::unix::net::UnixListener::bind(&bus).unwrap();
    let go = async |confine: &str| {
        let run = Run::of_python(script).await.hand_over("confine", json!(confine));
        let run = run.env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
        run.context("environment", json!({"BUS": bus})).finish().await.succeeded()
    };
    if bwrap_works() {
        assert_eq!(go("bwrap").await, "FileNotFoundError\n[]\n");
    }
    // Before ABI 9, Landlock forbids no connection; the folder is closed all the same.
    assert!(go("landlock").await.ends_with("PermissionError\n"));
}

#[tokio::test]
async fn programs_that_are_started_outside_and_the_kernels_settings_can_not_be_changed_by_a_run() {
    if !bwrap_works() {
        return;
    }
    let script = "
import os, sys
try:
    os.utime(os.environ['PROGRAM'])
    print('changed')
except OSError as e:
    print(e.errno == 30)
for path in [os.environ['PROGRAM'] + '-new', '/proc/sys/kernel/core_pattern']:
    try:
        os.close(os.open(path, os.O_WRONLY | (os.O_CREAT if path.endswith('-new') else 0)))
        print('open', path)
    except OSError as e:
        print(e.errno in (1, 13, 30))
";
    let run = Run::of_python(script).await;
    let environment = json!({"PROGRAM": env!("CARGO_BIN_EXE_kluis-launch")});
    assert_eq!(run.context("environment", environment).finish().await.succeeded(), "True\n".repeat(3));
    // What belongs to the run is its own, wherever its folder lies.
    Run::of_shell("echo x > outputs/x && echo y > $TMPDIR/y").await.finish().await.succeeded();
}

const OUTSIDE: &str = "
import os, signal, socket
pid = int(os.environ['OUTSIDE'])
def attempt(what, do):
    try:
        do()
        print(what, 'done')
    except OSError as e:
        print(what, type(e).__name__)
attempt('signal', lambda: os.kill(pid, signal.SIGTERM))
attempt('launcher', lambda: os.kill(os.getppid(), signal.SIGTERM))
attempt('environ', lambda: open('/proc/%d/environ' % pid, 'rb').read())
attempt('memory', lambda: open('/proc/%d/mem' % pid, 'rb').close())
attempt('root', lambda: os.listdir('/proc/%d/root/' % pid))
attempt('socket', lambda: socket.socket(socket.AF_UNIX).connect(os.environ['NAME'].replace('@', chr(0))))
own = socket.socket(socket.AF_UNIX)
own.bind(chr(0) + 'kluis-own-%d' % os.getpid()); own.listen()
attempt('own socket', lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + 'kluis-own-%d' % os.getpid()))
child = os.fork()
if child == 0:
    signal.pause()
attempt('own child', lambda: os.kill(child, signal.SIGKILL))
os.wait()
";

#[tokio::test]
async fn a_run_reaches_no_process_outside_and_its_own_ones_as_ever() {
    use std::os::linux::net::SocketAddrExt;
    for confine in ["bwrap", "landlock"] {
        if confine == "bwrap" && !bwrap_works() {
            continue;
        }
        // Neither launcher nor server: those can be looked into by nobody anyway.
        let mut outside = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let name = format!("kluis-outside-{}-{confine}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _listening = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        let environment = json!({"OUTSIDE": outside.id().to_string(), "NAME": format!("@{name}")});
        let run = Run::of_python(OUTSIDE).await.hand_over("confine", json!(confine));
        let ended = run.context("environment", environment).finish().await;
        let lives = outside.try_wait().unwrap().is_none();
        outside.kill().unwrap();
        outside.wait().unwrap();
        let said = ended.stdout();
        for closed in ["environ", "memory", "root"] {
            assert!(said.contains(&format!("{closed} PermissionError")), "{confine}: {said}");
        }
        if ended.system().contains("can not keep the run from signalling") {
            skip("this kernel's Landlock has no scopes, so signals and abstract sockets are not tested");
            continue;
        }
        ended.succeeded();
        for closed in ["signal", "launcher", "socket"] {
            assert!(said.contains(&format!("{closed} PermissionError")), "{confine}: {said}");
        }
        for open in ["own socket", "own child"] {
            assert!(said.contains(&format!("{open} done")), "{confine}: {said}");
        }
        assert!(lives, "{confine}");
    }
}

#[tokio::test]
async fn under_landlock_secret_files_lie_where_other_runs_do_not_see_them_or_nowhere() {
    let files = |run: Run| {
        let run = run.secret("key", "the private key").context("secret_files", json!({"key.pem": "key"}));
        run.hand_over("confine", json!("landlock"))
    };
    let (exit, blame, reason) = files(Run::of_command(&["true"]).await).finish().await.end();
    assert_eq!((exit, blame), (None, Some(Blame::Kluis)));
    assert!(reason.contains("can not be kept from other runs"), "{reason}");

    let runtime = runtime_folder();
    // As another run of this user has it.
    let other = runtime.path().join(format!("kluis-{}/run-1-1-1", rustix::process::geteuid().as_raw()));
    make_private(&other);
    std::fs::write(other.join("key.pem"), "another run's").unwrap();
    let run = files(Run::of_shell("cat $KLUIS_SECRETS_DIR/key.pem; echo; cat $OTHER/key.pem || echo closed").await);
    let run = run.env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let ended = run.context("environment", json!({"OTHER": other})).finish().await;
    assert_eq!(ended.succeeded(), "***\nclosed\n");
}

#[tokio::test]
async fn the_launchers_keys_are_kept_out_of_swap_and_the_runs_limit_is_as_it_was() {
    let running = Run::of_shell("ulimit -l; ulimit -Hl; echo ready; while [ ! -e stop ]; do sleep 0.05; done").await;
    let running = running.start().await;
    running.fake.until("the script", |told| told.logs.iter().any(|r| r.data.ends_with(b"ready\n"))).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim().to_owned();
    assert_ne!(locked, "0 kB");
    std::fs::write(running.folder.path().join("runs/test_1-1/tree/stop"), "").unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |bytes| (bytes / 1024).to_string());
    let expected = format!("{}\n{}\nready\n", shown(limit.current), shown(limit.maximum));
    assert_eq!(running.finish().await.succeeded(), expected);
}
