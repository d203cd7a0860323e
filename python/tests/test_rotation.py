"""A running script hears of a rotation when it asks to."""

import logging
import queue

import pytest

from kluis.testing import fake_run

SOON = 5.0


def test_the_callback_gets_the_names_and_reads_the_new_value():
    with fake_run(secrets={"a": "old", "b": "1"}) as fake:
        assert fake.run.get_secret("a") == "old"
        heard: queue.Queue = queue.Queue()
        stop = fake.run.on_rotate(lambda names: heard.put({n: fake.run.get_secret(n, refresh=True) for n in names}))
        fake.rotate("a", "new")
        assert heard.get(timeout=SOON) == {"a": "new"}
        fake.rotate("a", "newer")
        assert heard.get(timeout=SOON) == {"a": "newer"}
        stop()


def test_only_what_was_read_is_told_of():
    with fake_run(secrets={"a": "1", "b": "1"}) as fake:
        fake.run.get_secret("a")
        heard: queue.Queue = queue.Queue()
        stop = fake.run.on_rotate(heard.put)
        fake.rotate("b", "2")
        fake.rotate("a", "2")
        assert heard.get(timeout=SOON) == ["a"]
        stop()


def test_after_stop_nothing_is_heard_and_stop_does_not_wait():
    with fake_run(secrets={"a": "1"}) as fake:
        fake.run.get_secret("a")
        heard: queue.Queue = queue.Queue()
        stop = fake.run.on_rotate(heard.put)
        stop()
        stop()
        fake.rotate("a", "2")
        with pytest.raises(queue.Empty):
            heard.get(timeout=0.3)


def test_a_callback_that_raises_is_logged_without_its_message_and_called_again(caplog):
    with fake_run(secrets={"a": "1"}) as fake:
        fake.run.get_secret("a")
        heard: queue.Queue = queue.Queue()

        def callback(names):
            heard.put(names)
            raise RuntimeError(f"hunter2 {names}")

        stop = fake.run.on_rotate(callback)
        with caplog.at_level(logging.ERROR, logger="kluis"):
            for value in ("2", "3"):
                fake.rotate("a", value)
                assert heard.get(timeout=SOON) == ["a"]
            stop()
        assert "RuntimeError" in caplog.text and "hunter2" not in caplog.text
