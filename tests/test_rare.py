import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from test_statistics import right_on, two_classes

from ftlab import metrics, rare, statistics

ONE = np.zeros(1000, int)


def of(right, groups=None):
    """What is unseen of an accuracy."""
    return rare.unseen(np.asarray(right, float), groups, ONE[: len(right)], 1.0, 1.0)


def test_ten_images_that_are_all_right_lack_the_variance_of_two_that_are_not():
    """2 / (10 + 2)^2; the degrees of freedom are no more than there are images to spare."""
    assert of(np.ones(10)) == pytest.approx((2 / 144, 9))
    assert of(np.zeros(10)) == pytest.approx((2 / 144, 9))


@pytest.mark.parametrize("n", [100, 1000])
def test_all_right_has_the_variance_of_agresti_and_coull(n):
    share = (n + 2) / (n + 4)
    assert of(np.ones(n))[0] == pytest.approx(share * (1 - share) / (n + 4), rel=0.1)


@pytest.mark.parametrize("n", [20, 100, 400])
def test_all_right_reaches_down_to_about_the_rule_of_three(n):
    """Hanley and Lippman-Hand 1983: where none of n is wrong, up to 3 / n may be."""
    y_true = np.arange(n) % 2
    row = statistics.interval(y_true, [right_on(y_true, y_true >= 0)], None, "accuracy")
    assert row["high"] == 1
    assert 1 - row["low"] == pytest.approx(3 / n, rel=0.15)


def test_where_images_differ_enough_nothing_is_unseen():
    missed, freedom = of(np.arange(40) % 4 > 0)
    assert (missed, freedom) == (0, 39)


def test_classes_join_as_welch_and_satterthwaite_join_samples():
    """Half of 30 are right, 2 of 4 are: the second class has the floor 2 / (4 + 2)^2."""
    right = np.array([0, 1] * 15 + [0, 1] * 2, float)
    common, seen, kept = 0.25 / 29, 0.25 / 3, 2 / 36
    assert kept < seen  # so that two of four have their own variance
    missed, freedom = rare.unseen(right, None, np.repeat([0, 1], [30, 4]), 0.5, 1.0)
    assert missed == 0
    assert freedom == pytest.approx((common + seen) ** 2 / (common**2 / 31 + seen**2 / 5))


def test_the_floor_is_added_class_by_class():
    """4 of 4 are right beside half of 30: what is lacking is a quarter of 2 / (4 + 2)^2."""
    right = np.array([0, 1] * 15 + [1] * 4, float)
    missed, _ = rare.unseen(right, None, np.repeat([0, 1], [30, 4]), 0.5, 1.0)
    assert missed == pytest.approx(0.25 * 2 / 36)


def test_images_of_one_patient_are_one():
    assert of(np.ones(40), np.arange(40) // 4) == of(np.ones(10))


def test_errors_that_spread_over_seeds_make_a_smaller_step():
    """A fifth of the seeds is wrong on each tenth image: a step of 1 / 5 instead of 1."""
    right = np.concatenate([np.where(np.arange(40) % 10, 1.0, 0.8), np.ones(5)])
    missed, _ = rare.unseen(right, None, np.repeat([0, 1], [40, 5]), 1.0, 1.0)
    assert missed == pytest.approx(2 * (0.2 / 7) ** 2)


def test_the_placements_of_a_class_average_to_its_auroc():
    rng = np.random.default_rng(0)
    y_true = rng.integers(3, size=60)
    probs = np.round(rng.dirichlet(np.ones(3), size=60), 1)  # with ties
    placed = rare.by_image("auroc", y_true, probs)
    for c in range(3):
        area = sk.roc_auc_score(y_true == c, probs[:, c])
        assert placed[y_true == c].mean() == pytest.approx(area)


def test_classes_that_are_told_apart_wholly_leave_the_auroc_open():
    """A step of 1 / 2 of either class: 2 * 2 * (0.5 / 12)^2, of ten images each."""
    y_true = np.arange(20) % 2
    placed = rare.by_image("auroc", y_true, np.eye(2)[y_true])
    assert rare.unseen(placed, None, *rare.strata("auroc", y_true))[0] == pytest.approx(1 / 144)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", metrics.RESAMPLED)
def test_no_metric_is_certain_of_twenty_images(metric, classes):
    y_true = np.arange(20) % classes
    best = [0.7 * np.eye(classes)[y_true] + 0.3 / classes] * 5
    constant = [np.tile(np.linspace(1, 2, classes) / np.linspace(1, 2, classes).sum(), (20, 1))] * 5
    row = statistics.interval(y_true, best, None, metric)
    assert (row["mean"], row["high"], row["sd"]) == pytest.approx((1, 1, 0))
    assert row["low"] < 0.95
    paired = statistics.paired(y_true, constant, best, None, metric)
    assert paired["low"] < 0.95 * paired["difference"]
    assert 0 < paired["p"] < 0.05


# --- coverage ---

RECALLS = 0.9, 0.8


def coverage(n_rare, seeds, repeats, of="balanced accuracy", images=200):
    """(share of 95 % intervals that hold the truth, their mean width in points) in simulated
    studies, of `ftlab.rare` and of the bootstrap alone.

    An image is right where quality + image noise + run noise > 0, as in test_statistics. `of`:
    what is asked of: balanced accuracy, its difference between two strategies, or AUROC.
    """
    rng = np.random.default_rng(0)
    y_true = (np.arange(images) < n_rare).astype(int)
    noise = np.hypot(0.8, 0.4)
    held = {"rare": [], "bootstrap": []}

    def runs(qualities, image):
        level = np.where(y_true, *qualities[::-1]) * noise + image
        every = level + 0.4 * rng.normal(size=(seeds, images))
        if of == "AUROC":
            return [two_classes(stats.norm.cdf(np.where(y_true, z, -z))) for z in every]
        return [right_on(y_true, z > 0) for z in every]

    lower, upper = stats.norm.ppf(RECALLS), stats.norm.ppf((0.95, 0.95))
    truth = {
        "balanced accuracy": np.mean(RECALLS),
        "difference": 0.95 - np.mean(RECALLS),
        "AUROC": stats.norm.cdf(lower.sum() / np.sqrt(2)),
    }[of]
    for _ in range(repeats):
        image = 0.8 * rng.normal(size=images)
        one, other = runs(lower, image), runs(upper, image)
        for name, kept in held.items():
            with pytest.MonkeyPatch.context() as patch:
                if name == "bootstrap":
                    patch.setattr(statistics, "unseen", lambda *_: (0.0, images - 1))
                if of == "difference":
                    row = statistics.paired(y_true, one, other, None, "balanced_accuracy")
                else:
                    metric = "auroc" if of == "AUROC" else "balanced_accuracy"
                    row = statistics.interval(y_true, one, None, metric)
            kept.append((row["low"] <= truth <= row["high"], row["high"] - row["low"]))
    return {name: np.mean(kept, axis=0) for name, kept in held.items()}


@pytest.mark.parametrize(
    ("n_rare", "seeds", "most"), [(2, 3, 100), (5, 1, 60), (10, 1, 35), (10, 3, 35)]
)
def test_intervals_hold_the_truth_of_a_rare_class(n_rare, seeds, most):
    covered, width = coverage(n_rare, seeds, repeats=150)["rare"]
    assert covered >= 0.92
    assert 100 * width < most


def test_where_both_classes_are_common_nothing_changes():
    held = coverage(100, 3, repeats=100)
    assert held["rare"][1] == pytest.approx(held["bootstrap"][1], rel=0.01)


if __name__ == "__main__":  # the table in ftlab/rare.py
    kinds = [("balanced accuracy", 1), ("balanced accuracy", 3), ("AUROC", 1), ("difference", 3)]
    for of_what, seeds in kinds:
        for n_rare in (2, 3, 5, 10, 20, 100):
            held = coverage(n_rare, seeds, 500, of_what)
            print(
                of_what, seeds, n_rare, {k: (100 * v).round(1) for k, v in held.items()}, flush=True
            )
