"""`kluis exec`: a command here, as a run, with this process's streams, terminal and signals."""

import json
import os
import signal
import subprocess
import time

import pexpect

from kluis_server import KLUIS, canary, wait_for


def spawn(server, *args, cwd=None):
    return pexpect.spawn(
        KLUIS, ["exec", *args], env=server.environment(TERM="xterm-256color"), cwd=str(cwd or server.home), timeout=60,
        encoding="utf-8", dimensions=(33, 99),
    )  # fmt: skip


def start(server, *args):
    return subprocess.Popen(
        [KLUIS, "exec", *args], env=server.environment(), cwd=server.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def test_standard_input_passes_through_and_output_is_masked(server):
    value = canary()
    server.ok("secret", "set", "shown", "-", stdin=value.encode())
    script = 'cat; echo "$SHOWN"; echo "$SHOWN" >&2; exit 5'
    done = server.cli("exec", "--secret-env", "SHOWN=shown", "--", "sh", "-c", script, stdin=b"typed\n" * 50000)
    assert done.returncode == 5
    assert done.stdout == b"typed\n" * 50000 + b"***\n"
    assert b"***\n" in done.stderr and value.encode() not in done.stdout + done.stderr


def test_the_command_starts_where_it_was_typed_with_a_clean_environment(server, tmp_path):
    done = server.cli("exec", "--env", "GIVEN=1", "--", "sh", "-c", "pwd; echo $GIVEN$LEAKED", cwd=tmp_path, env={"LEAKED": "2"})
    assert done.stdout.decode() == f"{tmp_path}\n1\n"
    assert "no secrets were declared" in done.stderr.decode()


def test_exit_codes_are_the_commands(server):
    for script, code in (("true", 0), ("exit 9", 9), ("kill -9 $$", 137), ("exec no-such-command", 127)):
        assert server.cli("exec", "--", "sh", "-c", script).returncode == code, script
    done = server.cli("exec", "--json", "--", "sh", "-c", "echo data; exit 4")
    assert done.returncode == 4 and done.stdout == b"data\n"
    assert json.loads(done.stderr.splitlines()[-1])["exit"] == {"code": 4}


def test_signals_reach_the_command_and_it_ends_with_its_caller(server):
    for number, said in ((signal.SIGINT, b"int"), (signal.SIGTERM, b"term"), (signal.SIGHUP, b"hup")):
        script = "trap 'echo int; exit 1' INT; trap 'echo term; exit 1' TERM; trap 'echo hup; exit 1' HUP; echo ready; read x"
        process = start(server, "--", "sh", "-c", script)
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert (out, process.returncode) == (said + b"\n", 1)
    process = start(server, "--", "sh", "-c", "echo $$; sleep 1000")
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_for("the command to end with its caller", lambda: not os.path.exists(f"/proc/{pid}"), 60)


def test_a_reader_that_leaves_ends_the_command(server):
    process = start(server, "--", "yes")
    process.stdout.read(100)
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE


def test_on_a_terminal_the_command_has_a_terminal(server):
    child = spawn(server, "--", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo all; stty size; echo $TERM; read x; stty size; echo got $x; exit 3")
    child.expect("all\r\n33 99\r\nxterm-256color\r\n")
    child.setwinsize(40, 120)
    time.sleep(0.5)
    child.sendline("typed")
    child.expect("40 120\r\ngot typed\r\n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def test_ctrl_c_is_the_commands_and_an_interactive_shell_works(server):
    value = canary().replace('"', "").replace("&", "").replace("<", "")
    server.ok("secret", "set", "typed", "-", stdin=value.encode())
    child = spawn(server, "--secret-env", "TYPED=typed", "--", "bash", "--norc", "-i")
    child.expect("[#$] ")
    child.sendline("sleep 1000")
    time.sleep(0.5)
    child.sendintr()
    child.sendline("echo after=$?")
    child.expect("after=130")
    child.sendline('echo "<$TYPED>"')
    child.expect(r"<\*\*\*>\r\n")
    assert value not in child.before
    child.sendline("exit 6")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 6


def test_the_terminal_is_as_it_was_afterwards(server):
    shell = pexpect.spawn(
        "sh", ["-c", f"stty -a >before; {KLUIS} exec -- true; stty -a >after; cmp before after && echo same"],
        env=server.environment(TERM="xterm"), cwd=str(server.home), timeout=60, encoding="utf-8",
    )  # fmt: skip
    shell.expect("same")


def test_a_run_is_repeated_by_hand_where_it_was(server, tmp_path):
    server.ok("secret", "set", "liked", "-", stdin=b"the liked value")
    (tmp_path / "train.py").write_text(
        "import os, sys\nprint(os.environ['LEVEL'], len(os.environ['LIKED']), sys.argv[1:])\nsys.exit(2)\n"
    )
    run = server.ok(
        "run", "submit", "--secret-env", "LIKED=liked", "--secret-file", "key=liked", "--env", "LEVEL=7", "train.py", "--fast", cwd=tmp_path
    ).strip()  # fmt: skip
    assert server.cli("run", "wait", run).returncode == 2
    done = server.cli("exec", "--like", run)
    assert (done.returncode, done.stdout) == (2, b"7 15 ['--fast']\n"), done.stderr.decode()
    done = server.cli("exec", "--like", run, "--env", "LEVEL=8", "--", "sh", "-c", "ls; echo $LEVEL; cat $KLUIS_SECRETS_DIR/key")
    assert done.stdout.decode().split() == ["logs", "outputs", "train.py", "8", "***"], done.stderr.decode()
    assert server.cli("exec", "--like", "no_such_run_1_a", "--", "true").returncode == 3


def test_a_canceled_command_ends(server):
    process = start(server, "--", "sh", "-c", "echo $KLUIS_RUN_ID; sleep 1000")
    run = process.stdout.readline().decode().strip()
    server.ok("run", "cancel", run)
    process.communicate(timeout=90)
    assert process.returncode == 120
