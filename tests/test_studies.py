"""Studies: resuming, extending, --lr auto, and that only one works on a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from tiny import QUICK, answer_bits, ask, bands, states, trained, work

from ftlab import files, leaderboard, presence, runs, schedule, studies, train, training, tuning
from ftlab.context import splits
from ftlab.lab import Lab
from ftlab.records import BadInput, Question

FULL, PROBE = "full-test_resnet-s0", "linear_probe-test_resnet-s0"
AUTO = replace(QUICK, lr="auto")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "home"
    folder.mkdir()
    bands(folder)
    return folder


def started(events) -> list[str]:
    return [event["run"] for event in events if event["event"] == "started"]


# --- the same command resumes and extends ---


def test_the_default_name_is_stable_and_tells_questions_apart(home):
    assert ask(home).name == ask(home, ("linear_probe",), (0, 1)).name
    assert ask(home).name != ask(home, settings=replace(QUICK, batch=7)).name
    assert ask(home).name.startswith("bands-")


def test_views_that_nobody_asks_for_change_no_name_and_no_older_study(home):
    folder = ask(home)
    study, record = studies.read(folder), files.read_json(folder / "study.json")
    before = study.shared()  # as it was when there were no views
    assert before["settings"].pop("views") is None
    text = json.dumps(before, sort_keys=True)
    assert folder.name == f"bands-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    del record["settings"]["views"]
    files.write_json(folder / "study.json", record)
    assert studies.read(folder) == study
    two = ask(home, settings=replace(QUICK, views=2, flips=True))
    assert two != folder and studies.read(two).settings.views == 2


def test_the_same_command_extends_and_trains_only_what_is_new(home):
    folder = trained(home, name="grows")
    assert states(folder) == {FULL: "finished"}
    before = answer_bits(folder / FULL)
    events = work(home, ask(home, ("linear_probe",), (0, 1), name="grows"))
    new = [FULL.replace("s0", "s1"), PROBE.replace("s0", "s1"), PROBE]
    assert sorted(started(events)) == sorted(new)
    assert answer_bits(folder / FULL) == before
    assert not work(home, folder), "a finished study has nothing to do"
    study = studies.read(folder)
    assert (study.strategies, study.seeds) == (("full", "linear_probe"), (0, 1))


def test_a_repeated_backbone_strategy_or_seed_counts_once(home):
    folder = Lab(home).ask(
        Question("bands", ["test_resnet"] * 2, ["full"] * 2, (0,), QUICK, "random", name="repeated")
    )
    assert [cell.name for cell in studies.cells(studies.read(folder))] == [FULL]


def test_other_settings_under_the_same_name_are_refused_in_a_sentence(home):
    ask(home, name="taken")
    with pytest.raises(BadInput, match="taken asks something else.*choose another name"):
        ask(home, name="taken", settings=replace(QUICK, epochs=3))
    with pytest.raises(BadInput, match="asks something else"):
        ask(home, name="taken", knobs={"full": {"lr": 0.1}})


def test_a_deleted_run_folder_is_trained_again_alone_and_the_same(home):
    folder = trained(home, ("full", "linear_probe"), name="holes")
    before = answer_bits(folder / PROBE)
    shutil.rmtree(folder / PROBE)
    assert states(folder)[PROBE] == "queued"
    assert started(work(home, folder)) == [PROBE]
    assert answer_bits(folder / PROBE) == before


def test_one_seed_gives_one_answer_and_another_seed_another(home):
    first, again = trained(home, name="a"), trained(home, name="b")
    assert answer_bits(first / FULL) == answer_bits(again / FULL)
    other = trained(home, seeds=(1,), name="c") / FULL.replace("s0", "s1")
    assert answer_bits(other)["test"]["probs"] != answer_bits(first / FULL)["test"]["probs"]


def test_a_data_set_that_changed_ends_the_study_in_a_sentence(home, tmp_path):
    other = tmp_path / "home"
    other.mkdir()
    bands(other)
    folder = ask(other, name="old")
    shutil.rmtree(other / "data" / "bands")
    bands(other, n=50)
    with pytest.raises(BadInput, match="The data set bands has changed since the study old began"):
        work(other, folder)


def test_a_data_set_whose_patients_are_told_otherwise_ends_the_study_too(tmp_path):
    """Labels, pixels and splits are the same, and so is the hash; the intervals would not be."""
    other = tmp_path / "home"
    other.mkdir()
    bands(other)
    trained(other, ("linear_probe",), name="alone")
    items = other / "data" / "bands" / "items.csv"
    head, *rows = (line.split(",") for line in items.read_text().splitlines())
    for number, row in enumerate(rows):
        row[head.index("group")] = f"patient {number // 3}"
    files.write_text(items, "\n".join(map(",".join, (head, *rows))) + "\n")
    folder = ask(other, ("linear_probe", "full"), name="alone")
    with pytest.raises(BadInput, match="bands has changed since the study alone began"):
        work(other, folder)


def test_train_per_class_leaves_so_many_images_of_each_class_and_all_of_val_and_test(home):
    from ftlab.datasets import open_dataset

    data = open_dataset(home / "data", "bands")
    whole = splits(data, QUICK)
    few = splits(data, replace(QUICK, train_per_class=4))
    assert sorted(few["train"].labels.tolist()) == [0] * 4 + [1] * 4
    assert set(few["train"].rows) < set(whole["train"].rows)
    assert all((few[s].rows == whole[s].rows).all() for s in ("val", "test"))


# --- one at a time ---


def test_the_second_at_a_study_gets_a_sentence_and_changes_nothing(home):
    folder = ask(home, name="locked")
    question = (folder / "study.json").read_bytes()
    with presence.lock(folder):
        assert studies.state(folder, studies.read(folder)) == "running"
        with pytest.raises(presence.Busy, match="locked is being worked on already"):
            work(home, folder)
        with pytest.raises(presence.Busy):
            ask(home, ("full", "linear_probe"), name="locked", alone=True)
        with pytest.raises(BadInput, match="is being worked on"):
            Lab(home).delete("locked")
    assert (folder / "study.json").read_bytes() == question
    assert studies.state(folder, studies.read(folder)) == "queued"


def test_who_works_is_known_from_the_first_moment_on(home):
    folder = ask(home, name="known")
    with presence.lock(folder):
        note = presence.at_work(folder)
        assert presence.process_start(note["pid"]) == note["start"]
    assert presence.at_work(folder) is None


def test_a_failed_run_is_tried_again_by_the_same_command_but_not_beside_somebody_at_work(home):
    folder = ask(home, name="forgiven")
    runs.fail(folder / FULL, "because")
    with presence.lock(folder):
        ask(home, name="forgiven")
        assert (folder / FULL / "error.txt").exists()
    assert not work(home, folder), "a failed run is left alone until it is asked for again"
    ask(home, name="forgiven")
    work(home, folder)
    assert states(folder) == {FULL: "finished"}


def test_a_zombie_and_a_dead_process_have_no_start_time():
    import os
    import subprocess
    import time

    child = subprocess.Popen(["sleep", "0"])
    time.sleep(0.3)  # it has ended and nobody has waited for it
    assert presence.process_start(child.pid) is None
    child.wait()
    assert presence.process_start(child.pid) is None
    assert presence.process_start(os.getpid()) > 0


def test_progress_counts_epochs_and_ends_with_nothing_left(home):
    folder = ask(home, ("full", "linear_probe"), settings=replace(QUICK, batch=9), name="counts")

    def now():
        return schedule.progress(folder, studies.read(folder))

    assert now() == {"epochs_done": 0, "epochs": 4, "seconds_left": None}
    seen = [now()["epochs_done"] for e in Lab(home).work(folder, lambda: False) if "lrs" in e]
    assert seen == [1, 2, 3, 4]
    assert now() == {"epochs_done": 4, "epochs": 4, "seconds_left": 0}


# --- --lr auto ---


@pytest.fixture(scope="module")
def tuned(home):
    """A tuned study of two strategies with one seed, as it was just before each first run ended."""
    folder = ask(home, ("full", "linear_probe"), settings=AUTO, name="tuned")
    candidates = {}
    for event in Lab(home).work(folder, lambda: False):
        if event["event"] == "finished" and event["run"].startswith("tuning/"):
            run = folder / event["run"]
            candidates[run.name] = (runs.load_tensors(run / "best.safetensors")[0], runs.diary(run))
    return folder, candidates


def test_every_strategy_is_offered_the_same_grid_with_the_first_seed(tuned):
    folder, _ = tuned
    tried = sorted(path.name for path in (folder / "tuning").iterdir())
    expected = [
        f"{strategy}-test_resnet-lr{lr:g}-s0"
        for strategy in ("full", "linear_probe")
        for lr in tuning.GRID
    ]
    assert tried == sorted(expected)
    for name in tried:
        question = files.read_json(folder / "tuning" / name / "run.json")
        assert question["candidate"] and f"lr{question['knobs']['lr']:g}-" in name


def test_a_candidate_never_sees_the_test_split(home, tuned, monkeypatch):
    folder, _ = tuned
    for path in (folder / "tuning").glob("*/*"):
        assert path.name in ("run.json", "epochs.jsonl", "result.json"), path.name
        assert "test" not in files.read_json(path.parent / "result.json")

    def predict(network, split, settings):
        assert split.rows.tolist() != test, "a candidate was tested"
        return real(network, split, settings)

    from ftlab.datasets import open_dataset

    data = open_dataset(home / "data", "bands")
    test, real = data.indices("test").tolist(), training.predict
    for module in (training, train):
        monkeypatch.setattr(module, "predict", predict)
    other = ask(home, settings=AUTO, name="unseen")
    for event in Lab(home).work(other, lambda: False):
        if (
            event["event"] == "finished"
            and len(list((other / "tuning").glob("*/result.json"))) == 3
        ):
            break


def test_the_chosen_rate_is_the_best_on_validation_and_the_smaller_of_equals(tuned):
    folder, _ = tuned
    for strategy in ("full", "linear_probe"):
        values = {
            lr: files.read_json(
                folder / "tuning" / f"{strategy}-test_resnet-lr{lr:g}-s0" / "result.json"
            )["val"]["balanced_accuracy"]
            for lr in tuning.GRID
        }
        best = min(lr for lr in values if values[lr] == max(values.values()))
        run = files.read_json(folder / f"{strategy}-test_resnet-s0" / "run.json")
        assert run["knobs"]["lr"] == best and not run["candidate"]


def test_the_first_seeds_run_is_the_chosen_candidate_bit_for_bit(tuned):
    folder, candidates = tuned
    for name in (FULL, PROBE):
        question = files.read_json(folder / name / "run.json")
        tensors, diary = candidates[f"{name[:-3]}-lr{question['knobs']['lr']:g}-s0"]
        own, header = runs.load_tensors(folder / name / "best.safetensors")
        assert own.keys() == tensors.keys() and all(own[n].equal(t) for n, t in tensors.items())
        assert runs.diary(folder / name) == diary
        assert header["run"] == (folder / name / "run.json").read_text()


def test_a_first_seeds_run_trained_alone_at_that_rate_is_the_same(home, tuned):
    folder, _ = tuned
    before = answer_bits(folder / PROBE)
    shutil.rmtree(folder / PROBE)  # the candidates' weights are gone, too
    assert started(work(home, folder)) == [PROBE]
    assert answer_bits(folder / PROBE) == before


def test_what_tuning_cost_is_reported(home, tuned):
    folder, _ = tuned
    board = Lab(home).answer(folder)["leaderboard"]
    seconds = [r["seconds"] for r in map(files.read_json, folder.glob("tuning/*/result.json"))]
    report = {"grid": tuning.GRID, "seed": 0, "configurations": 6, "failed": 0, "given": []}
    chosen = [files.read_json(folder / run / "run.json")["knobs"]["lr"] for run in (FULL, PROBE)]
    ends = {"largest": tuning.GRID[-1], "smallest": tuning.GRID[0]}
    report |= {"chosen": 2} | {end: chosen.count(rate) for end, rate in ends.items()}
    assert board["rates"].startswith("tuned on the same grid for all")
    assert board["tuning"] == {**report, "seconds": pytest.approx(sum(seconds))}
    assert "tuned on the same grid for all" in str(board["verdicts"])


def test_all_seeds_train_at_the_chosen_rate_even_without_the_candidates(home, tuned):
    folder, _ = tuned
    shutil.copytree(folder, folder.with_name("moved"))
    question = files.read_json(folder / "study.json")
    moved = folder.with_name("moved")
    files.write_json(moved / "study.json", {**question, "name": "moved"})
    shutil.rmtree(moved / "tuning")
    events = work(home, ask(home, ("full",), (0, 1), settings=AUTO, name="moved"))
    assert started(events) == [FULL.replace("s0", "s1"), PROBE.replace("s0", "s1")]
    for name in (FULL, PROBE):
        rates = [
            files.read_json(moved / name.replace("s0", seed) / "run.json")["knobs"]["lr"]
            for seed in ("s0", "s1")
        ]
        assert rates[0] == rates[1]


def test_a_candidate_that_fails_is_not_chosen_and_is_counted(home, monkeypatch):
    folder = ask(home, settings=AUTO, name="one-bad")
    runs.fail(folder / "tuning" / "full-test_resnet-lr0.001-s0", "because")
    work(home, folder)
    assert files.read_json(folder / FULL / "run.json")["knobs"]["lr"] != 0.001
    report = tuning.report(folder, studies.read(folder))
    assert (report["configurations"], report["failed"]) == (2, 1)
    ask(home, settings=AUTO, name="one-bad")
    assert not work(home, folder), "a choice once made stands"
    assert tuning.report(folder, studies.read(folder)) == report


def test_a_run_begun_at_another_rate_than_the_one_chosen_begins_anew(home):
    folder = ask(home, settings=AUTO, name="changes-its-mind")
    runs.fail(folder / "tuning" / "full-test_resnet-lr0.01-s0", "Out of memory.")
    work(home, folder)
    first = files.read_json(folder / FULL / "run.json")["knobs"]["lr"]
    (folder / FULL / "result.json").unlink()  # killed as it ended
    chosen = folder / "tuning" / "full-test_resnet-lr0.01-s0"
    tried = folder / "tuning" / f"full-test_resnet-lr{first:g}-s0"
    result = files.read_json(tried / "result.json")
    files.write_json(tried / "result.json", {**result, "selected": -1.0})
    work(home, ask(home, ("full",), (0, 1), settings=AUTO, name="changes-its-mind"))
    best = {
        lr: files.read_json(chosen.with_name(f"full-test_resnet-lr{lr:g}-s0") / "result.json")
        for lr in tuning.GRID
    }
    expected = max(tuning.GRID, key=lambda lr: (best[lr]["selected"], -lr))
    assert expected != first
    for name in (FULL, FULL.replace("s0", "s1")):
        question = files.read_json(folder / name / "run.json")
        assert question["knobs"]["lr"] == expected
        assert question["plan"]["phases"][0]["lrs"]["head"] == expected


def test_nothing_to_train_is_no_study(home):
    for nothing in ({"strategies": ()}, {"backbones": ()}):
        question = replace(Question("bands", ["test_resnet"], ["full"], [0]), **nothing)
        with pytest.raises(BadInput, match="at least one backbone and one strategy"):
            Lab(home).ask(question)


def test_when_every_candidate_fails_the_run_fails_in_a_sentence(home):
    folder = ask(home, settings=AUTO, name="all-bad")
    for lr in tuning.GRID:
        runs.fail(folder / "tuning" / f"full-test_resnet-lr{lr:g}-s0", "because")
    (event,) = work(home, folder)
    assert event["reason"].startswith("No learning rate of the grid trains full")
    assert not work(home, folder)


def test_a_rate_given_for_one_strategy_is_not_tuned(home):
    knobs = {"linear_probe": {"lr": 0.5}}
    folder = ask(home, ("linear_probe",), settings=AUTO, knobs=knobs, name="given")
    study = studies.read(folder)
    assert not tuning.candidates(study, studies.cells(study)[0])
    plan, used = studies.plan_of(
        study, studies.cells(study)[0], Lab(home).layout("test_resnet"), None
    )
    assert used["lr"] == 0.5 and plan.phases[0].lrs == {"head": 0.5}


def test_a_stopped_tuning_resumes_to_the_same_choice(home, tuned):
    folder = ask(home, ("full",), settings=AUTO, name="halted")
    stop = iter([False] * 14)
    work(home, folder, lambda: next(stop, True))
    assert (folder / "stopped").exists() and not (folder / FULL / "result.json").exists()
    work(home, ask(home, ("full",), settings=AUTO, name="halted"))
    assert answer_bits(folder / FULL) == answer_bits(tuned[0] / FULL)


def test_a_rate_that_was_given_is_not_called_tuned_and_the_grids_end_is_told(home):
    folder = ask(home, ("full", "linear_probe"), settings=AUTO, knobs={"full": {"lr": 1e-5}})
    cells = {cell.strategy: cell for cell in studies.cells(studies.read(folder))}
    work(home, folder)
    board = leaderboard.leaderboard(folder)
    verdict = board["verdicts"]["test_resnet"]
    assert "tuned on the same grid for all but full, whose rate was given" in verdict
    found = files.read_json(cells["linear_probe"].folder(folder) / "run.json")
    at_the_end = found["knobs"]["lr"] == tuning.GRID[-1]
    assert board["tuning"]["given"] == ["full"] and board["tuning"]["chosen"] == 1
    assert board["tuning"]["largest"] == at_the_end
    caution = "for 1 of 1 the grid's largest rate was best, so a larger one might do better"
    assert tuning.edge({"largest": 1, "smallest": 0, "chosen": 1}) == caution
    below = "for 2 of 3 the grid's smallest rate was best, so a smaller one might do better"
    assert tuning.edge({"largest": 1, "smallest": 2, "chosen": 3}).endswith(f"better; {below}")
    assert not tuning.edge(None) and not tuning.edge({"largest": 0, "smallest": 0, "chosen": 1})
    assert (caution in board["rates"]) == at_the_end
