import re

import numpy as np
import pytest
from test_statistics import study, two_classes

from ftlab import metrics, statistics
from ftlab.verdict import NAMES, verdict


def said_of(validation, runs, y_true, **options):
    runs = {name: dict(enumerate(probs)) for name, probs in runs.items()}
    return verdict(validation, runs, y_true, options.pop("groups", None), **options)


def points(sentence):
    """The numbers of a verdict that are written with a decimal."""
    return [float(number) for number in re.findall(r"-?\d+\.\d", sentence)]


PROBS = two_classes([0.2, 0.8])


def test_a_clear_winner_on_validation_beats_full():
    y_true, full, lp_ft = study(np.random.default_rng(11), n=400, gain=2)
    row = statistics.paired(y_true, full, lp_ft, None, "balanced_accuracy")
    runs = {"full": full, "lp_ft": lp_ft}
    assert said_of(
        {"full": 0.7, "lp_ft": 0.8}, runs, y_true, rates="tuned on the same grid for all"
    ) == (
        f"lp_ft, best on validation, beats full by {100 * row['difference']:.1f} points of "
        f"balanced accuracy (95 % CI {100 * row['low']:.1f} to {100 * row['high']:.1f}, 5 seeds, "
        "400 test images); learning rates were tuned on the same grid for all."
    )


def test_validation_alone_chooses_who_is_compared():
    """lp_ft is far better on test, but gradual is what validation chose."""
    y_true, full, lp_ft = study(np.random.default_rng(12), n=400, gain=2)
    runs = {"full": full, "lp_ft": lp_ft, "gradual": full}
    said = said_of({"gradual": 0.9, "lp_ft": 0.8, "full": 0.7}, runs, y_true)
    assert said.startswith("Undecided: gradual, best on validation, and full say exactly the same")
    assert "lp_ft" not in said


def test_an_interval_with_0_inside_decides_nothing():
    y_true, full, lp_ft = study(np.random.default_rng(13), seeds=3, gain=0.05)
    said = said_of({"full": 0.7, "lp_ft": 0.8}, {"full": full, "lp_ft": lp_ft}, y_true)
    gap, low, high = points(said)
    assert low < 0 < high
    assert said.startswith(f"Undecided: lp_ft, best on validation, is {gap} points of")
    assert said.endswith("3 seeds, 80 test images) includes 0; learning rates were not tuned.")


def test_a_choice_that_test_contradicts_is_reported_as_such():
    y_true, worse, better = study(np.random.default_rng(14), n=400, gain=2)
    said = said_of({"full": 0.7, "lp_ft": 0.8}, {"full": better, "lp_ft": worse}, y_true)
    gap, low, high = points(said)
    assert said.startswith("full beats lp_ft by ")
    assert 0 < low < gap < high
    assert "although lp_ft is best on validation" in said


def test_where_full_is_best_on_validation_it_is_compared_with_the_runner_up():
    y_true, worse, better = study(np.random.default_rng(15), n=400, gain=2)
    runs = {"full": better, "gradual": better, "lp_ft": worse}
    said = said_of({"full": 0.8, "gradual": 0.6, "lp_ft": 0.7}, runs, y_true)
    assert said.startswith("full, best on validation, beats the runner-up lp_ft by ")


def test_without_full_the_best_two_on_validation_are_compared():
    y_true, worse, better = study(np.random.default_rng(16), n=400, gain=2)
    said = said_of({"gradual": 0.6, "lp_ft": 0.7}, {"gradual": worse, "lp_ft": better}, y_true)
    assert said.startswith("lp_ft, best on validation, beats the runner-up gradual by ")
    assert "; full is not among the finished strategies;" in said


def test_one_seed_decides_nothing_however_large_the_difference():
    y_true, full, lp_ft = study(np.random.default_rng(17), n=400, seeds=1, gain=2)
    said = said_of({"full": 0.7, "lp_ft": 0.8}, {"full": full, "lp_ft": lp_ft}, y_true)
    assert min(points(said)) > 0
    assert said.startswith("Undecided: lp_ft") and "with one seed the seed noise is unknown" in said


@pytest.mark.parametrize(
    ("validation", "runs", "says"),
    [
        ({"full": 0.7}, {"full": {0: PROBS}}, "full alone has finished"),
        ({"full": 0.7, "lp_ft": 0.8}, {"full": {0: PROBS}, "lp_ft": {}}, "full alone"),
        (
            {"full": 0.7, "lp_ft": 0.8},
            {"full": {0: PROBS}, "lp_ft": {1: PROBS}},
            "no finished seed",
        ),
        ({}, {}, "No run has finished; full is not"),
    ],
)
def test_a_study_with_nothing_to_compare_says_so(validation, runs, says):
    assert says in verdict(validation, runs, np.array([0, 1]), None)


def test_failed_runs_and_groups_are_mentioned():
    y_true, full, lp_ft = study(np.random.default_rng(18))
    runs = {"full": full, "lp_ft": lp_ft}
    groups = np.arange(80) // 4
    said = said_of({"full": 0.7, "lp_ft": 0.8}, runs, y_true, groups=groups, failed=2)
    assert "5 seeds, 80 test images in 20 groups" in said
    assert said.endswith("; learning rates were not tuned; 2 failed runs are left out.")


def test_a_metric_that_test_cannot_give_decides_nothing():
    _, full, lp_ft = study(np.random.default_rng(19))
    runs = {"full": full, "lp_ft": lp_ft}
    said = said_of({"full": 0.7, "lp_ft": 0.8}, runs, np.zeros(80, int), metric="auroc")
    assert said.startswith("Undecided: AUROC is undefined on these test images")


def test_every_metric_with_intervals_has_a_name_for_people():
    assert set(NAMES) == set(metrics.RESAMPLED)


def test_twenty_images_do_not_settle_by_how_much_one_that_is_always_right_beats_a_constant():
    """Nothing varies, neither between seeds nor between images; McNemar's test has p = 0.002."""
    y_true = np.arange(20) % 2
    runs = {"full": [np.tile([0.9, 0.1], (20, 1))] * 3, "lp_ft": [np.eye(2)[y_true]] * 3}
    gap, low, high = points(said := said_of({"full": 0.7, "lp_ft": 0.8}, runs, y_true))
    assert said.startswith("lp_ft, best on validation, beats full by 50.0 points of balanced")
    assert high - gap == pytest.approx(gap - low)
    assert 10 < gap - low < 25


def test_two_images_a_class_decide_nothing():
    y_true = np.arange(4) % 2
    runs = {"full": [np.tile([0.9, 0.1], (4, 1))] * 5, "lp_ft": [np.eye(2)[y_true]] * 5}
    said = said_of({"full": 0.7, "lp_ft": 0.8}, runs, y_true)
    assert said.startswith("Undecided: lp_ft, best on validation, is 50.0 points")
