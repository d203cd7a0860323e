"""What a run reports: metrics, tags, files, child runs."""

import io
import math

import pytest

from kluis import Run
from kluis.exceptions import Conflict, NotFound, UserErrorException
from kluis.testing import fake_run


class Array:
    """Like numpy's and torch's: it gives itself up by `tolist`."""

    def __init__(self, value):
        self.value = value

    def tolist(self):
        return self.value


def test_a_metric_logged_again_becomes_a_list():
    with fake_run() as fake:
        run = fake.run
        run.log("once", 1)
        for value in (0.5, 0.25, 0.125):
            run.log("loss", value)
        run.log("text", "abc")
        run.log("yes", True)
        assert fake.metrics == {"once": 1, "loss": [0.5, 0.25, 0.125], "text": "abc", "yes": True}


def test_lists_are_lengthened_rows_and_tables_become_columns():
    with fake_run() as fake:
        run = fake.run
        run.log_list("l", [1, 2])
        run.log_list("l", (3,))
        run.log_row("one", x=1, y="a")
        run.log_row("two", x=1, y=2)
        run.log_row("two", x=3, y=4)
        run.log_table("t", {"a": [1, 2], "b": ["x", "y"]})
        assert fake.metrics == {
            "l": [1, 2, 3],
            "one": {"x": 1, "y": "a"},
            "two": {"x": [1, 3], "y": [2, 4]},
            "t": {"a": [1, 2], "b": ["x", "y"]},
        }


def test_numbers_that_json_has_not_come_back_as_numbers():
    with fake_run() as fake:
        fake.run.log_list("l", [float("nan"), float("inf"), float("-inf")])
        nan, *infinities = fake.metrics["l"]
        assert math.isnan(nan) and infinities == [math.inf, -math.inf]


def test_arrays_and_their_scalars_are_taken_as_what_they_hold():
    with fake_run() as fake:
        fake.run.log("scalar", Array(0.5))
        fake.run.log_list("l", [Array(1), 2])
        fake.run.log_row("row", x=Array([1, 2]))
        assert fake.metrics == {"scalar": 0.5, "l": [1, 2], "row": {"x": [1, 2]}}


def test_what_can_not_be_sent_is_a_type_error():
    endless: list = []
    endless.append(endless)
    with fake_run() as fake:
        for value in (object(), {1, 2}, endless, b"bytes"):
            with pytest.raises(TypeError):
                fake.run.log("m", value)
        assert fake.metrics == {}


def test_the_step_travels_and_big_integers_do_too():
    with fake_run() as fake:
        fake.run.log("loss", 1, step=7)
        fake.run.log("big", 2**80)
        assert fake._logged[0]["step"] == 7 and fake._logged[0]["time"].endswith("Z")
        assert fake.metrics["big"] == float(2**80)


def test_tags_and_properties():
    with fake_run(tags={"given": "1"}) as fake:
        run = fake.run
        run.tag("k", "v")
        run.tag("bare")
        run.set_tags({"n": 2})
        run.remove_tags("given")
        run.add_properties({"p": 1})
        assert run.get_tags() == run.tags == fake.tags == {"k": "v", "bare": "", "n": "2"}
        assert fake.properties == {"p": "1"}
        with pytest.raises(Conflict):
            run.add_properties({"p": 2})
        run.display_name = "my run"
        assert (run.name, fake.display_name) == ("my run", "my run")


def test_files_folders_and_streams_are_uploaded(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    with fake_run() as fake:
        run = fake.run
        run.upload_file("outputs/a.txt", "a.txt")
        run.upload_file("outputs/p.txt", tmp_path / "a.txt")
        run.upload_file("outputs/s.bin", io.BytesIO(b"stream"))
        run.upload_folder("outputs/all", tmp_path / "sub")
        assert fake.files == {
            "outputs/a.txt": b"a",
            "outputs/p.txt": b"a",
            "outputs/s.bin": b"stream",
            "outputs/all/b.txt": b"b",
        }
        with pytest.raises(UserErrorException, match="no file"):
            run.upload_file("x", "missing")
        with pytest.raises(UserErrorException, match="no folder"):
            run.upload_folder("x", "a.txt")


def test_an_image_is_a_file_or_a_plot(tmp_path):
    class Plot:
        def savefig(self, file, **_):
            file.write(b"drawn")

    (tmp_path / "i.jpg").write_bytes(b"jpg")
    with fake_run() as fake:
        fake.run.log_image("photo", path="i.jpg")
        fake.run.log_image("curve", plot=Plot())
        assert fake.files == {"outputs/images/photo.jpg": b"jpg", "outputs/images/curve.png": b"drawn"}
        for arguments in ({}, {"path": "i.jpg", "plot": Plot()}):
            with pytest.raises(UserErrorException, match="a path or a plot"):
                fake.run.log_image("x", **arguments)


def test_child_runs_report_on_their_own_and_end_with_their_block():
    with fake_run(secrets={"a": "1"}) as fake:
        run = fake.run
        with run.child_run(name="fold 1") as child:
            child.log("acc", 0.9)
            child.tag("k", "v")
            assert child.get_secret("a") == "1"
            assert child.parent is run and child.name == "fold 1"
        with pytest.raises(RuntimeError), run.child_run() as failing:
            raise RuntimeError("hunter2")
        one, two = fake.children.values()
        assert (one.id, one.display_name, one.status, one.metrics, one.tags) == (child.id, "fold 1", "completed", {"acc": 0.9}, {"k": "v"})
        # The error's message stays out of what is reported: it may hold a value.
        assert (two.id, two.status, two.reason) == (failing.id, "failed", "RuntimeError")
        assert fake.metrics == {}


def test_several_children_at_once():
    with fake_run() as fake:
        run = fake.run
        assert len(run.create_children(count=2)) == 2
        tagged = run.create_children(tag_key="lr", tag_values=["0.1", "0.01"])
        assert [fake.children[c.id].tags for c in tagged] == [{"lr": "0.1"}, {"lr": "0.01"}]
        assert len({c.id for c in tagged}) == 2
        for wrong in ({}, {"tag_values": ["x"]}, {"count": 3, "tag_key": "k", "tag_values": ["x"]}):
            with pytest.raises(ValueError):
                run.create_children(**wrong)
        named = run.child_run(run_id="my-child")
        assert named.id == "my-child"
        with pytest.raises(Conflict):
            run.child_run(run_id="my-child")


def test_the_submitted_runs_own_end_is_its_exit_code():
    with fake_run() as fake:
        fake.run.complete()
        fake.run.fail("details", "code")
        assert (fake.status, fake.flushes) == ("running", 2)


def test_cancel_inside_the_run_warns_and_goes_on(caplog):
    with fake_run() as fake:
        fake.run.cancel()
        assert "changes nothing" in caplog.text and fake.status == "running"


def test_a_child_run_knows_what_was_reported_of_it():
    with fake_run(tags={"of": "the run"}) as fake:
        run = fake.run
        first = run.child_run(name="fold 1")
        (second,) = run.create_children(tag_key="lr", tag_values=["0.1"])
        first.tag("k", "v")
        first.tag("gone")
        first.remove_tags("gone")
        first.add_properties({"p": 1})
        assert (first.get_status(), first.get_tags(), first.get_properties()) == ("Running", {"k": "v"}, {"p": "1"})
        assert second.tags == {"lr": "0.1"}
        first.complete()
        second.cancel()
        assert (first.status, second.status) == ("Completed", "Canceled")
        assert (first.get_details()["status"], first.get_details()["tags"]) == ("Completed", {"k": "v"})
        assert list(run.get_children()) == [second, first]
        assert list(run.get_children(tags={"k": "v"})) == list(run.get_children(status="completed")) == [first]
        assert list(first.get_children()) == []
        # What the run itself says comes from its launcher.
        assert run.get_tags() == {"of": "the run"}


def test_a_child_runs_failure_is_its_status():
    with fake_run() as fake:
        with pytest.raises(RuntimeError), fake.run.child_run() as child:
            raise RuntimeError
        assert child.get_status() == "Failed"


def test_several_files_are_uploaded_under_their_names(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    with fake_run() as fake:
        fake.run.upload_files(["outputs/1", "outputs/2"], ["a", tmp_path / "b"])
        assert fake.files == {"outputs/1": b"a", "outputs/2": b"b"}
        for wrong in ((["x"], []), ("a", "b")):
            with pytest.raises(ValueError):
                fake.run.upload_files(*wrong)


def test_a_run_knows_what_it_is():
    with fake_run(experiment="churn", workspace="team", run_id="churn_1_0a") as fake:
        run = fake.run
        assert (run.id, run.number, run.experiment.name, run.get_status()) == ("churn_1_0a", 1, "churn", "Running")
        details = run.get_details()
        assert (details["workspace"], details["attempt"], details["submittedBy"]) == ("team", 1, "tester")


@pytest.mark.parametrize("method", ["get_metrics", "wait_for_completion", "get_file_names", "get_all_logs", "get_secrets_read", "get_properties"])
def test_what_only_the_laptop_can_do_says_so(method):
    with fake_run() as fake, pytest.raises(UserErrorException, match="kluis.Run.get"):
        getattr(fake.run, method)()


def test_an_unknown_child_is_refused_by_the_launcher():
    with fake_run() as fake:
        child = fake.run.child_run()
        del fake.children[child.id]
        with pytest.raises(NotFound):
            child.log("m", 1)


def test_outside_again_the_context_is_offline():
    with fake_run():
        pass
    assert Run.get_context().id.startswith("OfflineRun_")
