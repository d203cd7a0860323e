"""The hidden prompt, on a real pseudo-terminal."""

import pexpect

from kluis_server import KLUIS


def spawn(server, *args):
    return pexpect.spawn(KLUIS, list(args), env=server.environment(TERM="xterm"), cwd=str(server.home), timeout=20, encoding="utf-8")


def test_a_secret_is_asked_for_twice_and_not_echoed(server):
    child = spawn(server, "secret", "set", "prompted")
    child.expect("(?i)prompted.*:")
    child.sendline("typed in silence")
    child.expect("(?i)again.*:")
    child.sendline("typed in silence")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "typed in silence" not in (child.before or "")
    assert server.ok("secret", "get", "prompted") == "typed in silence"


def test_two_different_answers_set_nothing(server):
    child = spawn(server, "secret", "set", "mistyped")
    child.expect(":")
    child.sendline("one")
    child.expect(":")
    child.sendline("two")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus not in (0, None)
    assert server.cli("secret", "get", "mistyped").returncode == 3


def test_a_value_is_not_shown_on_a_terminal_without_reveal(server):
    server.ok("secret", "set", "shy", "-", stdin=b"not for the screen")
    child = spawn(server, "secret", "get", "shy")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus != 0 and "not for the screen" not in (child.before or "")
    child = spawn(server, "secret", "get", "shy", "--reveal")
    child.expect("not for the screen")
    child.expect(pexpect.EOF)


def test_without_a_terminal_nothing_prompts(server):
    done = server.cli("secret", "set", "nobody-there")
    assert done.returncode == 2
    assert server.cli("secret", "get", "nobody-there").returncode == 3
