"""The leaderboard: rows are means over seeds of what runs saved, verdicts name what is missing."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from tiny import QUICK, ask, bands, trained

from ftlab import console, files, leaderboard, runs, statistics
from ftlab.lab import Lab

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("leaderboard") / "home"
    home.mkdir()
    bands(home, classes=3, n=60)
    return home, trained(home, ("full", "linear_probe", "truncated"), SEEDS, name="board")


def rows(folder):
    board = leaderboard.leaderboard(folder)
    return {row["strategy"]: row for row in board["rows"]}


def results(folder, strategy):
    return [files.read_json(folder / f"{strategy}-test_resnet-s{s}" / "result.json") for s in SEEDS]


def test_rows_are_means_over_seeds_best_first(study):
    _, folder = study
    board = leaderboard.leaderboard(folder)
    means = [row["balanced_accuracy"]["mean"] for row in board["rows"]]
    assert means == sorted(means, reverse=True) and len(means) == 3
    for strategy, row in rows(folder).items():
        answers = results(folder, strategy)
        assert row["seeds"] == list(SEEDS)
        for metric in ("accuracy", "macro_f1", "kappa", "ece", "average_precision"):
            assert row[metric] == pytest.approx(fmean(a["test"][metric] for a in answers))
        for cost in ("seconds", "trained_parameters", "stored_bytes"):
            assert row[cost] == pytest.approx(fmean(a[cost] for a in answers))


def test_an_interval_holds_the_mean_of_the_saved_predictions(study):
    _, folder = study
    for strategy, row in rows(folder).items():
        values = []
        for seed in SEEDS:
            test = runs.predictions(folder / f"{strategy}-test_resnet-s{seed}")
            hit = test["probs"].argmax(1) == test["y_true"]
            values.append(np.mean([hit[test["y_true"] == c].mean() for c in range(3)]))
        interval = row["balanced_accuracy"]
        assert interval["mean"] == pytest.approx(np.mean(values))
        assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1


def test_the_difference_to_full_is_paired_and_full_has_none(study):
    _, folder = study
    board = rows(folder)
    assert board["full"]["to_full"] is None
    for strategy in ("linear_probe", "truncated"):
        difference = (
            board[strategy]["balanced_accuracy"]["mean"]
            - board["full"]["balanced_accuracy"]["mean"]
        )
        assert board[strategy]["to_full"]["difference"] == pytest.approx(difference)
        assert board[strategy]["to_full"]["p_holm"] is None, "three seeds are too few for a p-value"


def test_the_ensemble_is_the_mean_of_all_probabilities_and_no_strategy(study):
    _, folder = study
    board = leaderboard.leaderboard(folder)
    (ensemble,) = board["ensembles"]
    tests = [
        runs.predictions(folder / f"{strategy}-test_resnet-s{seed}")
        for strategy in ("full", "linear_probe", "truncated")
        for seed in SEEDS
    ]
    mean, y_true = sum(test["probs"] for test in tests) / 9, tests[0]["y_true"]
    hit = mean.argmax(1) == y_true
    value = np.mean([hit[y_true == c].mean() for c in range(3)])
    assert ensemble["balanced_accuracy"]["mean"] == pytest.approx(value)
    assert ensemble["accuracy"] == pytest.approx(hit.mean())
    assert ensemble["runs"] == 9 and ensemble["balanced_accuracy"]["sd"] is None
    alone = statistics.interval(y_true, [mean], None, "balanced_accuracy")
    assert ensemble["balanced_accuracy"] == pytest.approx(alone)
    full = rows(folder)["full"]["balanced_accuracy"]["mean"]
    assert ensemble["to_full"]["difference"] == pytest.approx(value - full)
    assert ensemble["to_full"]["p"] is None is ensemble["to_full"]["p_holm"]
    total = sum(r["seconds"] for s in rows(folder) for r in results(folder, s))
    assert ensemble["seconds"] == pytest.approx(total)
    assert {row["strategy"] for row in board["rows"]} == {"full", "linear_probe", "truncated"}
    assert "ensemble" not in str(board["verdicts"])


def test_one_run_is_no_ensemble(study):
    home, _ = study
    folder = trained(home, settings=replace(QUICK, epochs=1), name="single")
    assert leaderboard.leaderboard(folder)["ensembles"] == []


def test_each_strategy_names_its_own_default_rate_when_none_is_tuned(study):
    _, folder = study
    board = leaderboard.leaderboard(folder)
    assert board["rates"] == "not tuned" and board["tuning"] is None
    assert {s: row["lr"] for s, row in rows(folder).items()} == {
        "full": 1e-4,
        "linear_probe": 1e-3,
        "truncated": 1e-4,
    }
    assert "learning rates were not tuned" in board["verdicts"]["test_resnet"]


def test_a_study_without_a_finished_run_has_an_empty_board(study):
    home, _ = study
    folder = ask(home, name="empty")
    board = leaderboard.leaderboard(folder)
    assert board["rows"] == [] and board["verdicts"] == {}


def test_a_failed_run_is_a_row_with_its_reason_and_is_counted_in_the_verdict(study, tmp_path):
    import shutil

    home, folder = study
    copy = tmp_path / "home" / "checkpoints" / "board"
    shutil.copytree(folder, copy)
    (copy / "truncated-test_resnet-s1" / "result.json").unlink()
    runs.fail(copy / "truncated-test_resnet-s1", "because")
    answer = Lab(tmp_path / "home").answer(copy)
    (failed,) = [row for row in answer["runs"] if row["state"] == "failed"]
    assert failed["run"] == "truncated-test_resnet-s1" and failed["reason"] == "because"
    assert "1 failed run is left out" in answer["leaderboard"]["verdicts"]["test_resnet"]
    seeds = {row["strategy"]: row["seeds"] for row in answer["leaderboard"]["rows"]}
    assert seeds == {"full": [0, 1, 2], "linear_probe": [0, 1, 2], "truncated": [0, 2]}


def test_the_board_reads_well_and_is_strict_json(study, capsys):
    home, folder = study
    answer = Lab(home).answer(folder)
    console.leaderboard(answer)
    text = capsys.readouterr().out
    assert "balanced accuracy %" in text and "learning rates not tuned." in text
    assert "ensemble of all 9 runs" in text
    assert all(len(line) < 200 for line in text.splitlines()[:5])
    console.emit(answer)
    assert "NaN" not in capsys.readouterr().out


def test_intervals_and_amounts_in_a_persons_words():
    assert console.percent({"mean": 0.841, "low": 0.79, "high": 0.8888}) == "84.1 [79.0, 88.9]"
    assert console.percent({"mean": None}) == "-" == console.percent(None)
    assert [console.amount(n) for n in (7, 2_220_000, 23_508_032, 4e12)] == [
        "7", "2.22 M", "23.5 M", "4e+03 G",
    ]  # fmt: skip
    assert [console.duration(s) for s in (None, 0.4, 61, 3_725)] == [
        "unknown", "0 s", "1 min 01 s", "1 h 02 min",
    ]  # fmt: skip
