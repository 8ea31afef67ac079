"""A run's folder: what a kill at any moment leaves behind, and that the run still ends the same."""

from __future__ import annotations

import errno
import json
import math
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import (
    OPTIONS,
    QUICK,
    Command,
    answer_bits,
    ask,
    bands,
    epochs_written,
    kill_group,
    states,
    trained,
    wait_for,
    work,
)

from ftlab import console, files, prediction, runs, studies, train, training
from ftlab.lab import Lab
from ftlab.records import BadInput, Epoch

RUN = "full-test_resnet-s0"
FULL = "The disk is full: free some space, and the same command goes on."
FOUR = replace(QUICK, epochs=4, lr=0.01)


def epoch(number: int, best: bool = True) -> Epoch:
    return Epoch(0, number, {"head": 0.1}, 1.0, {"loss": 1.0}, 0.1, best)


class Weights:
    """Stands where a network stands: one tensor that counts the epochs."""

    def __init__(self):
        self.value = torch.zeros(1)

    def __call__(self):
        return {"w": self.value}


def recorded(folder, numbers=range(3)):
    """A run folder in which so many epochs were recorded."""
    runs.start(folder, {"format": 1})
    weights, moments = Weights(), {"w": {"step": torch.tensor(0.0)}}

    def epochs():
        for number in numbers:
            weights.value = torch.full((1,), float(number))
            moments["w"]["step"] = torch.tensor(float(number))
            yield epoch(number)

    list(runs.record(folder, None, weights, moments, epochs()))
    return folder


# --- single files ---


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError):
        files.write(tmp_path / "a.txt", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_tensors_come_back_in_the_same_bits_with_their_header(tmp_path):
    tensors = {"a": torch.randn(3, 4), "n": torch.tensor(7), "e": torch.zeros(0)}
    tensors["c"] = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    runs.save_tensors(tmp_path / "t.safetensors", tensors, {"epochs": "2"})
    back, header = runs.load_tensors(tmp_path / "t.safetensors")
    assert header == {"epochs": "2"} and back.keys() == tensors.keys()
    assert all(back[name].equal(tensor) for name, tensor in tensors.items())


def test_a_flipped_bit_anywhere_in_a_weight_file_is_noticed(tmp_path):
    path = tmp_path / "t.safetensors"
    runs.save_tensors(path, {"a": torch.randn(64)}, {})
    whole = path.read_bytes()
    for at in (len(whole) - 1, len(whole) - 200, len(whole) // 2, 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BadInput, match="damaged"):
            runs.load_tensors(path)
    path.write_bytes(whole[:-10])
    with pytest.raises(BadInput, match="damaged"):
        runs.load_tensors(path)


def test_a_damaged_record_is_bad_input_and_not_a_traceback(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(BadInput, match="run.json is damaged"):
        files.read_json(tmp_path / "run.json")
    assert files.read_json(tmp_path / "absent.json") is None


def test_json_holds_no_nan_and_no_numpy_number(tmp_path):
    record = {"a": np.float64("nan"), "b": np.int64(3), "c": np.array([1.5, np.inf]), 4: True}
    files.write_json(tmp_path / "r.json", record)
    assert files.read_json(tmp_path / "r.json") == {"a": None, "b": 3, "c": [1.5, None], "4": True}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("bad thing in /home/x/file.py\nmore"), "RuntimeError: bad thing in file.py"),
        (KeyError("k"), "KeyError: 'k'"),
        (ValueError(), "ValueError"),
        (PermissionError(13, "Permission denied", "/srv/home/x"), "Permission denied: x."),
        (OSError(errno.ENOSPC, ""), FULL),
        (ValueError("1/2 of a/b"), "ValueError: 1/2 of a/b"),
    ],
)  # fmt: skip
def test_an_unexpected_error_is_said_in_one_line_without_a_folder(error, words):
    assert files.in_words(error) == words


# --- every state a kill can leave ---


def test_a_new_run_has_nothing_to_resume(tmp_path):
    assert runs.resume(tmp_path) == ([], {}, {})


def test_resume_gives_back_what_was_recorded(tmp_path):
    epochs, weights, moments = runs.resume(recorded(tmp_path))
    assert [e.epoch for e in epochs] == [0, 1, 2]
    assert float(weights["w"]) == 2 and float(moments["w"]["step"]) == 2


def test_killed_in_a_line_of_the_diary_the_line_is_cut(tmp_path):
    recorded(tmp_path)
    with open(tmp_path / "epochs.jsonl", "a") as file:
        file.write(json.dumps({"phase": 0, "epoch": 3})[:9])
    assert len(runs.diary(tmp_path)) == 3
    assert len(runs.resume(tmp_path)[0]) == 3
    assert (tmp_path / "epochs.jsonl").read_text().count("\n") == 3


def test_killed_between_diary_and_last_the_diary_is_cut_back(tmp_path):
    recorded(tmp_path)
    line = (tmp_path / "epochs.jsonl").read_text().splitlines()[-1]
    with open(tmp_path / "epochs.jsonl", "a") as file:
        file.write(line.replace('"epoch": 2', '"epoch": 3') + "\n")
    assert [e.epoch for e in runs.resume(tmp_path)[0]] == [0, 1, 2]


def test_killed_between_the_two_renames_the_previous_state_counts(tmp_path):
    recorded(tmp_path)
    (tmp_path / "last.safetensors").replace(tmp_path / "previous.safetensors")
    assert float(runs.resume(tmp_path)[1]["w"]) == 2


@pytest.mark.parametrize("damage", [b"", b"\0" * 400, b"<html>"])
def test_a_damaged_last_state_falls_back_to_the_one_before(tmp_path, damage):
    recorded(tmp_path)
    (tmp_path / "last.safetensors").write_bytes(damage)
    epochs, weights, moments = runs.resume(tmp_path)
    assert [e.epoch for e in epochs] == [0, 1]
    assert float(weights["w"]) == 1 and float(moments["w"]["step"]) == 1


def test_with_both_states_damaged_the_run_starts_over(tmp_path):
    recorded(tmp_path)
    for name in ("last", "previous"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"x")
    assert runs.resume(tmp_path) == ([], {}, {})
    assert runs.diary(tmp_path) == []


def test_without_its_diary_a_state_is_of_no_use_and_the_run_starts_over(tmp_path):
    recorded(tmp_path)
    (tmp_path / "epochs.jsonl").unlink()
    assert runs.resume(tmp_path) == ([], {}, {})


def test_what_a_kill_left_half_written_is_swept(tmp_path):
    recorded(tmp_path)
    (tmp_path / ".last.safetensors.0a1b2c3d.tmp").write_bytes(b"half")
    runs.start(tmp_path, {"format": 2})
    assert not list(tmp_path.glob(".*"))
    assert files.read_json(tmp_path / "run.json") == {"format": 1}, "the question never changes"


def test_saving_weights_puts_down_one_temporary_file_of_our_own_name(tmp_path, monkeypatch):
    seen = []
    replace_file = runs.os.replace

    def watch(source, target):
        seen.extend(path.name for path in tmp_path.iterdir())
        replace_file(source, target)

    monkeypatch.setattr(runs.os, "replace", watch)
    runs.save_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(2)}, {})
    assert len(seen) == 1 and seen[0].startswith(".t.safetensors.") and seen[0].endswith(".tmp")


def test_the_state_of_a_run_is_read_off_its_files(tmp_path):
    def state(*at, stopped=False):
        return runs.state(tmp_path, at, stopped)

    assert state() == "queued"
    runs.start(tmp_path, {})
    assert (state(), state(stopped=True)) == ("interrupted", "stopped")
    assert (state(tmp_path.name), state("another")) == ("running", "queued")
    assert state("another", tmp_path.name) == "running", "beside another"
    runs.fail(tmp_path, "because")
    assert (state(), state(tmp_path.name)) == ("failed", "running")
    files.write_json(tmp_path / "result.json", {})
    assert state() == "finished"


# --- a real run, broken and resumed ---


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(home, what a run of four epochs answers when nothing disturbs it)."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    home.mkdir()
    bands(home)
    folder = trained(home, settings=FOUR, name="calm")
    assert sum(e.best for e in runs.diary(folder / RUN)) > 1, "else the best file is hardly tested"
    return home, answer_bits(folder / RUN)


class Killed(BaseException):
    """Ends a run where it stands, as SIGKILL does: nothing catches it, nothing is tidied up."""


def killed_at(file: str, nth: int, patch) -> None:
    """Be killed when a file of that name is about to be put in place for the nth time."""
    put, seen = runs.os.replace, []

    def strike(source, target):
        seen.append(target.name)
        if seen.count(file) == nth:
            raise Killed
        put(source, target)

    patch.setattr(runs.os, "replace", strike)


MOMENTS = [  # the file that is about to be put in place, and for which time
    ("run.json", 1),
    ("best.safetensors", 1),
    ("last.safetensors", 1),
    ("best.safetensors", 2),
    ("previous.safetensors", 2),  # the diary and the best file know of an epoch, the state does not
    ("last.safetensors", 3),  # between the two renames: there is no last state at all
    ("test.npz", 1),
    ("result.json", 1),
]


@pytest.mark.parametrize(("file", "nth"), MOMENTS)
def test_killed_at_any_write_and_resumed_the_run_ends_in_the_same_bits(
    undisturbed, monkeypatch, file, nth
):
    home, calm = undisturbed
    folder = ask(home, settings=FOUR, name=f"killed-at-{file.split('.')[0]}-{nth}")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(file, nth, patch)
        work(home, folder)
    assert not (folder / RUN / "result.json").exists()
    work(home, ask(home, settings=FOUR, name=folder.name))
    assert answer_bits(folder / RUN) == calm
    kept = {path.name for path in (folder / RUN).iterdir()}
    assert kept == {"run.json", "epochs.jsonl", "best.safetensors", "test.npz", "result.json"}


def test_a_run_killed_with_sigkill_again_and_again_ends_in_the_same_bits(undisturbed):
    """Whatever moment the kills strike at; each lets at least one more epoch be written."""
    home, calm = undisturbed
    moments = random.Random(0)
    ask(home, settings=FOUR, name="chaos")
    folder = home / "checkpoints" / "chaos"
    options = ("compare", "bands", "--strategies", "full", "--seeds", 1, "--name", "chaos")
    for _ in range(3):
        before = epochs_written(folder)
        process = Command(home, *options, *OPTIONS, "--epochs", 4, "--lr", 0.01)
        try:
            wait_for(lambda n=before, p=process: epochs_written(folder) > n or p.poll() is not None)
            time.sleep(moments.random() * 0.2)
        finally:
            kill_group(process)
    work(home, folder)
    assert answer_bits(folder / RUN) == calm


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_next_step_and_the_same_command_resumes(undisturbed, number, code):
    home, calm = undisturbed
    name = f"signal{code}"
    folder = home / "checkpoints" / name
    settings = replace(FOUR, epochs=400)
    process = Command(
        home, *("compare", "bands", "--strategies", "full", "--seeds", 1, "--name", name),
        *OPTIONS, "--epochs", 400, "--lr", 0.01, "--json",
    )  # fmt: skip
    try:
        wait_for(lambda: epochs_written(folder))
        process.send_signal(number)
        began = time.monotonic()
        out, err = process.communicate(timeout=120)
    finally:
        kill_group(process)
    assert process.returncode == code and time.monotonic() - began < 60
    assert "Stopped" in err and "Traceback" not in err
    last = json.loads(out.splitlines()[-1])
    assert last["state"] == "stopped" and last["runs"][0]["state"] == "stopped"
    done = runs.diary(folder / RUN)
    assert 0 < len(done) < 400

    stop = iter([False] * 5 * 3)  # whole epochs only: a step more or less of the next is dropped
    work(home, ask(home, settings=settings, name=name), lambda: next(stop, True))
    more = runs.diary(folder / RUN)
    assert len(more) > len(done) and states(folder) == {RUN: "stopped"}
    assert [e.val for e in more[: len(done)]] == [e.val for e in done]


def test_a_run_copied_elsewhere_needs_only_its_folder(undisturbed, tmp_path):
    import shutil

    home, _ = undisturbed
    shutil.copytree(home / "checkpoints" / "calm" / RUN, tmp_path / "anywhere")
    network, question = prediction.restore(tmp_path / "anywhere", tmp_path / "cache")
    assert not network.training and question["run"] == RUN
    _, header = runs.load_tensors(tmp_path / "anywhere" / "best.safetensors")
    assert header["run"] == (tmp_path / "anywhere" / "run.json").read_text()


def test_a_full_disk_ends_the_study_in_a_sentence_and_corrupts_nothing(undisturbed, monkeypatch):
    home, calm = undisturbed
    folder = ask(home, ("full", "linear_probe"), settings=FOUR, name="full-disk")
    save, saved = runs.save_tensors, []

    def full(path, *arguments):
        saved.append(path)
        if len(saved) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, *arguments)

    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(runs, "save_tensors", full)
        work(home, folder)
    assert files.in_words(caught.value).startswith("The disk is full")
    assert states(folder) == {RUN: "interrupted", "linear_probe-test_resnet-s0": "queued"}
    work(home, folder)
    assert answer_bits(folder / RUN) == calm


def test_an_error_inside_one_run_is_put_in_words_and_the_study_goes_on(undisturbed, monkeypatch):
    home, _ = undisturbed
    folder = ask(home, ("full", "linear_probe"), name="one-fails")
    fit = training.fit

    def broken(network, plan, *rest, **more):
        if len(plan.phases[0].lrs) > 1:
            raise RuntimeError("shapes differ in /usr/lib/torch/x.py\nand so on")
        return fit(network, plan, *rest, **more)

    monkeypatch.setattr(training, "fit", broken)
    events = work(home, folder)
    failed = [e for e in events if e["event"] == "failed"]
    assert [e["reason"] for e in failed] == ["RuntimeError: shapes differ in x.py"]
    assert states(folder) == {RUN: "failed", "linear_probe-test_resnet-s0": "finished"}
    assert (folder / RUN / "error.txt").read_text() == "RuntimeError: shapes differ in x.py\n"
    assert "Traceback" in (folder / "log.txt").read_text()
    assert "1 failed run is left out" in str(Lab(home).answer(folder)["leaderboard"]["verdicts"])


# --- memory that runs out ---

NOTE = (
    "memory ran out in epoch 2; from there on each batch was computed in two halves whose "
    "gradients are added up, so that BatchNorm saw half as many images at once"
)


def memory_for(whole: int, patch, error=torch.OutOfMemoryError, halves=math.inf) -> list[int]:
    """Let so many whole batches fit, and so many in halves; the pieces of each asked for."""
    asked, losses = [], train.losses

    def short(*batch, pieces, **more):
        asked.append(pieces)
        if asked.count(pieces) > (whole if pieces == 1 else halves):
            raise error(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            )
        return losses(*batch, pieces=pieces, **more)

    patch.setattr(train, "losses", short)
    return asked


@pytest.fixture(scope="module")
def halved(undisturbed):
    """What a run answers whose memory ran out in the middle of its second epoch of four steps."""
    home, calm = undisturbed
    folder = ask(home, settings=FOUR, name="halved")
    with pytest.MonkeyPatch.context() as patch:
        asked = memory_for(5, patch, RuntimeError)
        work(home, folder)
    assert asked == [1] * 6 + [2] * 4 * 3
    return folder, answer_bits(folder / RUN)


def test_a_run_whose_memory_runs_out_goes_on_in_halves_and_says_so(undisturbed, halved, capsys):
    home, calm = undisturbed
    folder, found = halved
    assert found["epochs"][0] == calm["epochs"][0] and found["epochs"][1] != calm["epochs"][1]
    assert len(found["epochs"]) == 4
    assert (found["result"]["halved_from"], calm["result"]["halved_from"]) == (1, None)
    (row,) = Lab(home).answer(folder)["runs"]
    assert (row["state"], row["note"]) == ("finished", NOTE)
    assert "note" not in Lab(home).answer(folder.with_name("calm"))["runs"][0]
    console.leaderboard(Lab(home).answer(folder))
    assert f"\n{RUN}: {NOTE}.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "nth", "left", "damaged"),
    [
        ("halved.json", 1, 0, ()),  # memory runs out once more, at the same place
        ("last.safetensors", 3, 0, ()),  # the state before is that of the first epoch in halves
        ("last.safetensors", 2, 4, ("previous",)),  # starts over: its first epoch was whole
        ("result.json", 1, 0, ()),
    ],
)
def test_a_run_in_halves_that_is_killed_ends_in_the_same_bits(
    undisturbed, halved, monkeypatch, file, nth, left, damaged
):
    home, _ = undisturbed
    folder = ask(home, settings=FOUR, name=f"halved-{file.split('.')[0]}-{nth}")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        memory_for(5, patch)
        killed_at(file, nth, patch)
        work(home, folder)
    for name in damaged:
        (folder / RUN / f"{name}.safetensors").write_bytes(b"x")
    memory_for(left, monkeypatch)
    work(home, folder)
    assert answer_bits(folder / RUN) == halved[1]


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, torch.OutOfMemoryError])
def test_out_of_memory_in_halves_too_says_what_to_make_smaller(undisturbed, monkeypatch, error):
    home, _ = undisturbed
    folder = ask(home, name=f"memory-{error.__name__}")
    asked = memory_for(1, monkeypatch, error, halves=2)
    (event,) = [e for e in work(home, folder) if e["event"] == "failed"]
    assert event["reason"] == "Out of memory at batch 8; try a smaller --batch or --size."
    assert asked == [1, 1, 2, 2, 2]


def test_an_absurd_rate_fails_its_run_in_a_sentence_and_the_study_goes_on(undisturbed):
    home, _ = undisturbed
    settings = replace(QUICK, optimizer="sgd")
    knobs = {"full": {"lr": 1e30}}
    folder = ask(home, ("full", "linear_probe"), settings=settings, knobs=knobs, name="absurd")
    work(home, folder)
    assert states(folder) == {RUN: "failed", "linear_probe-test_resnet-s0": "finished"}
    reason = (folder / RUN / "error.txt").read_text()
    assert reason == "The loss stopped being a number at learning rate 1e+30; try a smaller one.\n"
    assert studies.state(folder, studies.read(folder)) == "finished"
