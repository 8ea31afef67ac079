import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ftlab import metrics


def two_classes(p):
    p = np.asarray(p, float)
    return np.stack([1 - p, p], 1)


def sample(classes, n=60, seed=0, decimals=1):
    """Labels and probs with ties, as coarse rounding makes them; every class occurs."""
    rng = np.random.default_rng(seed)
    y_true = rng.permutation(np.arange(n) % classes)
    probs = rng.dirichlet(np.ones(classes), size=n) + 0.4 * np.eye(classes)[y_true]
    probs = np.round(probs, decimals) + 1e-3
    return y_true, probs / probs.sum(1, keepdims=True)


# --- one run ---


def test_metrics_of_four_images_agree_with_hand_arithmetic():
    """Classes 0 0 1 1; p(1) ranks them 0 1 0 1, so the third image is missed.

    One of the four pairs is ranked wrongly. Precision is 1 and 2/3 where recall steps up.
    """
    values = metrics.score(np.array([0, 0, 1, 1]), two_classes([0.1, 0.4, 0.3, 0.9]))
    assert values["accuracy"] == values["balanced_accuracy"] == 0.75
    assert values["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert values["auroc"] == 0.75
    assert values["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert values["log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.9]).mean())


def test_one_picture_called_a_class_that_is_not_there_costs_f1_no_third():
    """Two of three classes, 20 images, all right but one that is called the third."""
    y_true = np.repeat([0, 1], 10)
    probs = np.eye(3)[y_true] * 0.9 + 0.1 / 3
    assert metrics.score(y_true, probs)["macro_f1"] == 1
    probs[0] = probs[0][[1, 2, 0]]
    called = probs.argmax(1)
    hits = [(called[y_true == c] == c).sum() for c in (0, 1)]
    expected = np.mean([2 * h / (10 + (called == c).sum()) for c, h in enumerate(hits)])
    found = metrics.score(y_true, probs)["macro_f1"]
    assert found == pytest.approx(expected) and found > 0.9
    weights = np.ones((1, 20))
    assert metrics.resampled("macro_f1", y_true, probs, weights)[0] == pytest.approx(expected)


def test_the_trapezoid_interpolates_where_average_precision_steps():
    """Precision 1 at recall 1/2, then 1/2 and 2/3 at recall 1/2 and 1."""
    values = metrics.score(np.array([0, 0, 1, 1]), two_classes([0.1, 0.4, 0.3, 0.9]))
    assert values["auprc"] == pytest.approx(0.5 * 1 + 0.5 * (1 / 2 + 2 / 3) / 2)


def test_always_the_majority_class_is_accurate_but_not_balanced():
    """The 98.2 % benign images of ISIC 2020."""
    y_true = np.array([0] * 982 + [1] * 18)
    values = metrics.score(y_true, two_classes(np.full(1000, 0.1)))
    assert values["accuracy"] == 0.982
    assert values["balanced_accuracy"] == 0.5
    assert values["auroc"] == 0.5
    assert values["average_precision"] == pytest.approx(0.018)
    assert values["kappa"] == 0


def test_calibration_error_agrees_with_hand_arithmetic():
    """Bin (12/15, 13/15]: 0.82 and 0.86, one right; bin (14/15, 1]: 0.95 and 1, both right."""
    y_true = np.array([1, 0, 1, 0])
    probs = two_classes([0.82, 0.86, 0.95, 0.0])
    gaps = [abs(0.5 - 0.84), abs(1 - 0.975)]
    assert metrics.score(y_true, probs)["ece"] == pytest.approx(np.mean(gaps))


@pytest.mark.parametrize("classes", [3, 5])
def test_with_more_classes_the_curves_are_means_of_one_against_the_rest(classes):
    y_true, probs = sample(classes)
    values = metrics.score(y_true, probs)
    one_hot = np.eye(classes)[y_true]
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(y_true, probs, multi_class="ovr"))
    assert values["average_precision"] == pytest.approx(
        sk.average_precision_score(one_hot, probs, average="macro")
    )


def test_a_class_without_images_is_skipped_without_a_warning():
    y_true, probs = sample(3)
    present = y_true != 2
    y_true, probs = y_true[present], probs[present]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = metrics.score(y_true, probs)
    recalls = [(probs.argmax(1) == c)[y_true == c].mean() for c in (0, 1)]
    areas = [sk.roc_auc_score(y_true == c, probs[:, c]) for c in (0, 1)]
    assert values["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert values["auroc"] == pytest.approx(np.mean(areas))


def test_images_of_one_class_only_leave_auroc_and_kappa_undefined_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = metrics.score(np.array([0, 0]), two_classes([0.1, 0.2]))
    assert values["accuracy"] == 1
    assert np.isnan([values["auroc"], values["kappa"], values["average_precision"]]).all()


def test_probs_in_single_precision_give_the_same_values_without_a_warning():
    y_true, probs = sample(4, decimals=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = metrics.score(y_true, probs.astype(np.float32))
    assert single == pytest.approx(metrics.score(y_true, probs), abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(2, 4))
def test_the_order_of_images_changes_nothing(random, classes):
    y_true, probs = sample(classes)
    order = random.sample(range(len(y_true)), len(y_true))
    shuffled = metrics.score(y_true[order], probs[order])
    assert shuffled == pytest.approx(metrics.score(y_true, probs))


@pytest.mark.parametrize(
    ("y_true", "probs", "says"),
    [
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "nan"),
        ([0, 1], [[3.0, -1.0], [0.2, 1.4]], "not logits"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "class numbers from 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "class numbers"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"\(1,\) and \(2, 2\)"),
        ([], np.empty((0, 2)), r"\(0,\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(y_true, probs, says):
    with pytest.raises(ValueError, match=says):
        metrics.score(np.array(y_true), np.array(probs))


# --- classes ---


def test_confusion_has_true_classes_in_rows():
    y_true = np.array([0, 0, 1])
    probs = np.eye(3)[[0, 2, 1]]
    assert metrics.confusion(y_true, probs).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_each_class_s_rates_agree_with_hand_arithmetic():
    """Two of class 0, one of them called 2; one of class 1, right; none of class 2."""
    rates = metrics.per_class(np.array([0, 0, 1]), np.eye(3)[[0, 2, 1]])
    assert rates["sensitivity"][:2] == [0.5, 1.0]
    assert np.isnan(rates["sensitivity"][2])
    assert rates["specificity"] == pytest.approx([1.0, 1.0, 2 / 3])
    assert rates["prevalence"] == pytest.approx([2 / 3, 1 / 3, 0])
    assert rates["n"] == [2, 1, 0]


# --- two classes ---


def test_the_operating_point_beats_every_other_threshold():
    y_true, probs = sample(2, n=200, decimals=2)
    chosen = metrics.operating_point(y_true, probs)
    best = metrics.at_threshold(y_true, probs, chosen)["balanced_accuracy"]
    others = np.linspace(0, 1, 1001)
    assert best >= max(metrics.at_threshold(y_true, probs, t)["balanced_accuracy"] for t in others)


def test_the_operating_point_lies_midway_between_neighbours():
    point = metrics.operating_point(np.array([0, 0, 1]), two_classes([0.02, 0.1, 0.2]))
    assert point == pytest.approx(0.15)


def test_equal_operating_points_go_to_the_one_nearest_a_half():
    """Classes 0 1 0 1 by p: a cut behind the first and one behind the third are as good."""
    y_true = np.array([0, 1, 0, 1])
    assert metrics.operating_point(y_true, two_classes([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.35)
    assert metrics.operating_point(y_true, two_classes([0.6, 0.7, 0.8, 0.9])) == pytest.approx(0.65)


def test_one_probability_for_all_leaves_the_threshold_at_a_half():
    assert metrics.operating_point(np.array([0, 1]), two_classes([0.3, 0.3])) == 0.5


def test_at_one_half_the_threshold_calls_what_argmax_calls():
    y_true, probs = sample(2)
    probs[0] = 0.5
    values, rates = metrics.score(y_true, probs), metrics.per_class(y_true, probs)
    assert metrics.at_threshold(y_true, probs, 0.5) == pytest.approx(
        {
            "threshold": 0.5,
            "balanced_accuracy": values["balanced_accuracy"],
            "sensitivity": rates["sensitivity"][1],
            "specificity": rates["sensitivity"][0],
            "accuracy": values["accuracy"],
        }
    )


def test_thresholds_are_for_two_classes_that_both_occur():
    with pytest.raises(ValueError, match="two classes"):
        metrics.at_threshold(*sample(3), 0.5)
    with pytest.raises(ValueError, match="both classes"):
        metrics.operating_point(np.array([1, 1]), two_classes([0.3, 0.4]))


# --- many resamples ---


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_resample_has_the_value_scikit_learn_gives_its_images(classes):
    """Small samples, so that resamples without a class and resamples of one class occur, too."""
    y_true, probs = sample(classes, n=3 * classes)
    n = len(y_true)
    weights = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), size=100)
    weights[0] = (y_true == 0).astype(int)
    drawn = [np.repeat(np.arange(n), row) for row in weights]
    truth = [metrics.score(y_true[i], probs[i]) for i in drawn]
    for metric in metrics.RESAMPLED:
        values = metrics.resampled(metric, y_true, probs, weights)
        assert values == pytest.approx([row[metric] for row in truth], nan_ok=True), metric


def test_weights_are_scikit_learn_s_sample_weights():
    y_true, probs = sample(2)
    weights = np.random.default_rng(2).integers(1, 5, size=(50, len(y_true)))
    predicted, p = probs.argmax(1), probs[:, 1]
    truths = {
        "accuracy": lambda w: sk.accuracy_score(y_true, predicted, sample_weight=w),
        "balanced_accuracy": lambda w: sk.balanced_accuracy_score(
            y_true, predicted, sample_weight=w
        ),
        "macro_f1": lambda w: sk.f1_score(
            y_true,
            predicted,
            labels=np.unique(y_true[w > 0]),
            average="macro",
            sample_weight=w,
        ),
        "auroc": lambda w: sk.roc_auc_score(y_true, p, sample_weight=w),
        "average_precision": lambda w: sk.average_precision_score(y_true, p, sample_weight=w),
        "kappa": lambda w: sk.cohen_kappa_score(y_true, predicted, sample_weight=w),
    }
    assert set(truths) == set(metrics.RESAMPLED)
    for metric, truth in truths.items():
        values = metrics.resampled(metric, y_true, probs, weights)
        assert values == pytest.approx([truth(w) for w in weights]), metric


def test_resamples_worked_on_in_parts_are_the_same(monkeypatch):
    y_true, probs = sample(3)
    weights = np.random.default_rng(3).integers(0, 3, size=(40, len(y_true)))
    whole = metrics.resampled("auroc", y_true, probs, weights)
    monkeypatch.setattr(metrics, "AT_ONCE", 100)
    assert metrics.resampled("auroc", y_true, probs, weights).tolist() == whole.tolist()
