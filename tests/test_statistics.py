import numpy as np
import pytest
from scipy import stats

from ftlab import metrics, statistics

SEEDS = (0, 1, 2, 3, 4)


def two_classes(p):
    p = np.asarray(p, float)
    return np.stack([1 - p, p], 1)


def right_on(y_true, right):
    """Probs that call the images of `right` correctly and all others wrongly."""
    return np.eye(2)[np.where(right, y_true, 1 - y_true)] * 0.8 + 0.1


def study(rng, n=80, seeds=5, gain=0.5):
    """Test labels, and two strategies' probs for each seed; `better` separates the classes more."""
    y_true = np.arange(n) % 2
    image = rng.normal(size=n)

    def runs(quality):
        logits = [quality * (2 * y_true - 1) + image + rng.normal(size=n) for _ in range(seeds)]
        return [two_classes(1 / (1 + np.exp(-z))) for z in logits]

    return y_true, runs(1.0), runs(1.0 + gain)


# --- resamples ---


def test_the_first_row_of_weights_is_the_sample_itself_and_each_other_a_draw_of_n():
    weights = statistics.bootstrap_weights(20, None, replicates=50)
    assert weights.shape == (51, 20)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 20).all()


def test_images_of_one_group_are_drawn_together():
    groups = ["a", "b", "a", "c", "b", "a"]
    weights = statistics.bootstrap_weights(6, groups, replicates=50)
    assert (weights[:, [2, 5]] == weights[:, [0]]).all()
    assert (weights[:, 4] == weights[:, 1]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


def test_one_group_alone_gives_no_interval():
    with pytest.raises(ValueError, match="two groups"):
        statistics.bootstrap_weights(5, ["a"] * 5)


# --- intervals ---


def test_mean_and_sd_are_those_of_the_seeds_scores():
    y_true, runs, _ = study(np.random.default_rng(0))
    for metric in metrics.RESAMPLED:
        scores = [metrics.score(y_true, probs)[metric] for probs in runs]
        row = statistics.interval(y_true, runs, None, metric)
        assert row["mean"] == pytest.approx(np.mean(scores))
        assert row["sd"] == pytest.approx(np.std(scores, ddof=1))
        assert row["low"] <= row["mean"] <= row["high"]
        assert (row["seeds"], row["images"]) == (5, 80)


def test_one_seed_s_accuracy_has_the_binomial_standard_error():
    y_true = np.arange(200) % 2
    run = right_on(y_true, np.arange(200) < 150)
    row = statistics.interval(y_true, [run], None, "accuracy")
    half = stats.t.ppf(0.975, 199) * np.sqrt(0.75 * 0.25 / 200)
    assert row["high"] - row["mean"] == pytest.approx(half, rel=0.1)
    assert row["sd"] is None


def test_seeds_that_err_on_other_images_have_the_t_interval_of_their_scores():
    """Where every image is right in the same share of seeds, sharing images adds nothing."""
    y_true = np.arange(200) % 2
    right = [np.arange(200) % 5 != seed for seed in SEEDS]
    right[0][:20], right[1][20:40] = True, False
    runs = [right_on(y_true, r) for r in right]
    scores = [r.mean() for r in right]
    low, high = stats.t.interval(0.95, 4, np.mean(scores), stats.sem(scores))
    row = statistics.interval(y_true, runs, None, "accuracy")
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.002)


def test_copies_of_an_image_widen_the_interval_only_if_their_group_is_known():
    y_true, runs, _ = study(np.random.default_rng(1), n=40)
    copied = [np.repeat(probs, 4, axis=0) for probs in runs]

    def width(y_true, runs, groups):
        row = statistics.interval(y_true, runs[:1], groups, "balanced_accuracy")
        return row["high"] - row["low"]

    alone = width(y_true, runs, None)
    known = width(np.repeat(y_true, 4), copied, np.repeat(np.arange(40), 4))
    unknown = width(np.repeat(y_true, 4), copied, None)
    assert known == pytest.approx(alone)
    assert unknown == pytest.approx(alone / 2, rel=0.1)


def test_the_interval_adds_the_seeds_variance_to_the_covariance_of_shared_images():
    """The covariance of two seeds' accuracies is that of their hits, divided by the images."""
    n, y_true = 200, np.arange(200) % 2
    right = np.array([np.arange(n) >= wrong for wrong in (30, 36, 46)])
    between = right.mean(1).var(ddof=1) / 3
    shared = np.cov(right, bias=True)[np.triu_indices(3, 1)].mean() / n
    df = (between + shared) ** 2 / (between**2 / 2 + shared**2 / (n - 1))
    half = stats.t.ppf(0.975, df) * np.sqrt(between + shared)
    row = statistics.interval(y_true, [right_on(y_true, r) for r in right], None, "accuracy")
    assert row["mean"] - row["low"] == pytest.approx(half, rel=0.05)
    assert 1 / 2 < shared / between < 2  # so that neither alone would do


def test_seeds_that_score_alike_on_different_images_still_have_an_interval():
    """The seeds do not vary and their errors repel each other, but 40 images are only 40."""
    y_true = np.arange(40) % 2
    runs = [right_on(y_true, np.arange(40) != wrong) for wrong in range(3)]
    row = statistics.interval(y_true, runs, None, "accuracy")
    assert row["sd"] == 0
    assert row["low"] < 0.97


def test_an_interval_stays_within_the_range_of_its_metric():
    y_true = np.arange(40) % 2
    runs = [right_on(y_true, np.arange(40) != wrong) for wrong in range(3)]
    assert statistics.interval(y_true, runs, None, "accuracy")["high"] == 1.0


def test_the_order_of_images_changes_the_draws_but_not_the_means():
    y_true, reference, other = study(np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(len(y_true))
    shuffled = (y_true[order], [p[order] for p in reference], [p[order] for p in other])
    one = statistics.paired(y_true, reference, other, None, "auroc")
    two = statistics.paired(*shuffled, None, "auroc")
    assert one["difference"] == pytest.approx(two["difference"], abs=1e-12)
    assert one["low"] == pytest.approx(two["low"], abs=0.01)


# --- paired comparisons ---


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", metrics.RESAMPLED)
def test_identical_runs_differ_by_exactly_nothing(metric):
    y_true, runs, _ = study(np.random.default_rng(4))
    row = statistics.paired(y_true, runs, runs, None, metric)
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, None)


def test_swapping_the_strategies_swaps_the_sign():
    y_true, reference, other = study(np.random.default_rng(5))
    one = statistics.paired(y_true, reference, other, None, "kappa")
    two = statistics.paired(y_true, other, reference, None, "kappa")
    assert one["difference"] == -two["difference"]
    assert (one["low"], one["high"]) == pytest.approx((-two["high"], -two["low"]), abs=1e-12)
    assert one["p"] == pytest.approx(two["p"])


def test_pairing_is_sharper_than_comparing_two_intervals():
    y_true, reference, other = study(np.random.default_rng(6), n=200)
    row = statistics.paired(y_true, reference, other, None, "auroc")
    alone = [statistics.interval(y_true, runs, None, "auroc") for runs in (reference, other)]
    assert row["high"] - row["low"] < sum(a["high"] - a["low"] for a in alone) / 2


@pytest.mark.parametrize("seed", range(6))
def test_p_is_below_five_per_cent_exactly_where_the_interval_excludes_zero(seed):
    y_true, reference, other = study(np.random.default_rng(seed))
    row = statistics.paired(y_true, reference, other, None, "accuracy")
    assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)
    assert statistics.paired(y_true, reference[:4], other[:4], None, "accuracy")["p"] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "auroc"])
def test_two_that_are_both_always_right_may_differ_on_other_images(metric):
    y_true = np.arange(10) % 2
    sure, surer = ([two_classes(np.where(y_true, p, 1 - p))] * 5 for p in (0.8, 0.9))
    row = statistics.paired(y_true, sure, surer, None, metric)
    assert row["difference"] == 0 and row["p"] == 1
    assert row["low"] == pytest.approx(-row["high"]) and row["high"] > 0.05
    more = statistics.paired(
        np.tile(y_true, 20), *np.tile((sure, surer), (1, 1, 20, 1)), None, metric
    )
    assert 0 < more["high"] < row["high"] / 10


@pytest.mark.filterwarnings("error")
def test_strategies_that_nothing_tells_apart_have_no_p():
    y_true = np.arange(40) % 2
    runs = [right_on(y_true, np.arange(40) > 8)] * 5
    row = statistics.paired(y_true, runs, runs, None, "accuracy")
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, None)


def test_different_numbers_of_runs_cannot_be_paired():
    y_true, reference, other = study(np.random.default_rng(8))
    with pytest.raises(ValueError, match="same seeds"):
        statistics.paired(y_true, reference, other[:3], None, "accuracy")


def test_strategies_are_compared_over_the_seeds_they_share():
    y_true, full, other = study(np.random.default_rng(9))
    runs = {
        "full": dict(zip(SEEDS, full, strict=True)),
        "lp_ft": {1: other[1], 4: other[4]},
        "l2_sp": {7: other[2]},
    }
    (row,) = statistics.compare_to("full", runs, y_true, None, "accuracy")
    assert (row["strategy"], row["reference"], row["seeds"]) == ("lp_ft", "full", 2)
    expected = statistics.paired(y_true, [full[1], full[4]], [other[1], other[4]], None, "accuracy")
    assert {key: row[key] for key in expected} == expected


def test_comparisons_with_a_p_are_corrected_for_their_number():
    y_true, full, other = study(np.random.default_rng(10))
    runs = {"full": full, "lp_ft": other, "l2_sp": full[::-1], "gradual": other[:3]}
    runs = {name: dict(enumerate(probs)) for name, probs in runs.items()}
    rows = statistics.compare_to("full", runs, y_true, None, "accuracy")
    assert [row["p_holm"] for row in rows] == statistics.holm([row["p"] for row in rows])
    assert rows[-1]["p_holm"] is None
    assert all(row["corrected"] for row in rows), "the one without a p is none for lack of seeds"
    few = {name: {s: runs[name][s] for s in (0, 1, 2)} for name in runs}
    rows_of_few = statistics.compare_to("full", few, y_true, None, "accuracy")
    assert not any(row["corrected"] for row in rows_of_few)
    assert min(row["p_holm"] / row["p"] for row in rows[:2]) >= 1


def test_holm_agrees_with_a_hand_example():
    """0.01 * 5, 0.02 * 4, then 0.03 * 3 and 0.04 * 2, which may not fall below those before."""
    assert statistics.holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx(
        [0.09, 0.05, None, 0.09, 0.08]
    )
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


# --- what is remembered ---


@pytest.fixture
def resamplings(monkeypatch):
    """The metrics that were resampled anew, in order; nothing is remembered at first."""
    asked, anew = [], statistics.resampled

    def spy(metric, *rest):
        asked.append(metric)
        return anew(metric, *rest)

    monkeypatch.setattr(statistics, "resampled", spy)
    monkeypatch.setattr(statistics, "_KEPT", {})
    return asked


def test_a_run_is_resampled_once_however_often_it_is_asked_for(resamplings):
    y_true, full, other = study(np.random.default_rng(20))
    first = statistics.paired(y_true, full, other, None, "auroc")
    assert len(resamplings) == 10
    assert statistics.paired(y_true, full, [p.copy() for p in other], None, "auroc") == first
    statistics.interval(y_true, other[:3], None, "auroc")
    assert len(resamplings) == 10


def test_other_probabilities_labels_groups_or_metrics_are_resampled_anew(resamplings):
    y_true, (run, *_), _ = study(np.random.default_rng(21))
    statistics.interval(y_true, [run], None, "auroc")
    nudged = run.copy()
    nudged[0] = nudged[0, ::-1]
    statistics.interval(y_true, [nudged], None, "auroc")
    statistics.interval(1 - y_true, [run], None, "auroc")
    statistics.interval(y_true, [run], np.arange(80) // 2, "auroc")
    statistics.interval(y_true, [run], None, "accuracy")
    assert resamplings == ["auroc"] * 4 + ["accuracy"]


def test_only_so_many_runs_are_remembered(resamplings, monkeypatch):
    monkeypatch.setattr(statistics, "KEPT", 3)
    y_true, full, _ = study(np.random.default_rng(22))
    statistics.interval(y_true, full, None, "accuracy")
    assert len(statistics._KEPT) == 3
    statistics.interval(y_true, full[-3:], None, "accuracy")
    assert len(resamplings) == 5


# --- coverage ---


def coverage(seeds, seed_noise, run_noise, repeats, images=150):
    """How often each kind of interval holds the true difference in accuracy of two strategies.

    An image is called right where quality + image noise + run noise > 0. Quality is drawn anew for
    each run, image noise is shared by all runs of a strategy and in part by both strategies. So the
    true accuracy over all seeds and images is Phi(quality / sd of all noise).
    """
    rng = np.random.default_rng(0)
    y_true = np.arange(images) % 2
    weights = statistics.bootstrap_weights(images, None)
    qualities = (1.0, 1.15)
    all_noise = np.sqrt(seed_noise**2 + 0.8**2 + 0.4**2 + run_noise**2)
    truth = np.diff(stats.norm.cdf(np.array(qualities) / all_noise)).item()
    held = dict.fromkeys(("reader study", "joint bootstrap", "images alone", "seeds alone"), 0)
    for _ in range(repeats):
        common = 0.8 * rng.normal(size=images)
        strategies = []
        for quality in qualities:
            image = common + 0.4 * rng.normal(size=images)
            level = quality + seed_noise * rng.normal(size=(seeds, 1))
            right = level + image + run_noise * rng.normal(size=(seeds, images)) > 0
            strategies.append([right_on(y_true, r) for r in right])
        row = statistics.paired(y_true, *strategies, None, "accuracy")
        held["reader study"] += int(row["low"] <= truth <= row["high"])
        reference, other = (
            np.array([metrics.resampled("accuracy", y_true, run, weights) for run in runs])
            for runs in strategies
        )
        observed, draws = (other - reference)[:, 0], (other - reference)[:, 1:]
        drawn = rng.integers(seeds, size=draws.shape)
        joint = np.take_along_axis(draws, drawn, 0).mean(0)
        half = stats.t.ppf(0.975, seeds - 1) * stats.sem(observed)
        for name, (low, high) in {
            "joint bootstrap": np.percentile(joint, [2.5, 97.5]),
            "images alone": np.percentile(draws.mean(0), [2.5, 97.5]),
            "seeds alone": (observed.mean() - half, observed.mean() + half),
        }.items():
            held[name] += int(low <= truth <= high)
    return {name: count / repeats for name, count in held.items()}


def test_intervals_hold_the_truth_where_a_bootstrap_of_the_images_does_not():
    held = coverage(seeds=3, seed_noise=0.35, run_noise=0.4, repeats=100)
    assert held["reader study"] >= 0.85
    assert held["images alone"] < 0.7


if __name__ == "__main__":  # the table in ftlab/statistics.py
    for noise in ((0.02, 0.4), (0.02, 1.0), (0.12, 0.4), (0.35, 0.4)):
        for seeds in (3, 5):
            print(noise, seeds, coverage(seeds, *noise, repeats=1000), flush=True)
