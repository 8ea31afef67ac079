"""Features of a frozen prefix: the same training, the arithmetic done once."""

import errno
import fcntl
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, split, tiny_network

from ftlab import backbones, features, weights
from ftlab.batches import Features, Split, batches, seen
from ftlab.features import behind, frozen_units
from ftlab.folding import folded
from ftlab.records import Settings
from ftlab.strategies import STRATEGIES, write_plan
from ftlab.train import fit, predict

SETTINGS = Settings(epochs=4, size=32, batch=8, precision="float32")


def named(n: int, seed: int) -> Split:
    return replace(split(n, seed=seed), key=f"images of seed {seed}")


TRAIN, VAL = named(21, 1), named(13, 2)


def real(backbone=TINY):
    return backbones.build(backbone, 2, weights.load(backbone, "random"), seed=3).to(
        memory_format=torch.channels_last
    )


def trained(network, strategy: str, settings=SETTINGS, cache=None, **knobs) -> tuple:
    """(what the diary says but for its seconds, the weights bit by bit)."""
    plan = write_plan(strategy, network.layout(), settings.epochs, **knobs)
    epochs = list(fit(network, plan, TRAIN, VAL, settings, seed=0, cache=cache))
    said = [(e.train_loss, dict(e.val), dict(e.lrs), e.best, dict(e.rates)) for e in epochs]
    return said, {n: t.numpy().tobytes() for n, t in network.state_dict().items()}


@pytest.mark.parametrize("make", [tiny_network, real])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_on_kept_features_is_training_bit_for_bit(strategy, make, tmp_path):
    network = make()
    knobs = {"lr": 0.01} if strategy != "transfusion" else {}
    if strategy in ("truncated", "transfusion"):
        return  # their networks are built for them; they learn from the first unit on
    plain = trained(network, strategy, **knobs)
    assert trained(make(), strategy, cache=tmp_path, **knobs) == plain
    assert trained(make(), strategy, cache=tmp_path, **knobs) == plain  # from the files alone


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """How many images went through the first unit, pass by pass."""
    counted, ran = [], backbones.Network.run

    def run(network, x, after=0, upto=None):
        counted.append(len(x) if after == 0 and upto != 0 else 0)
        return ran(network, x, after, upto)

    monkeypatch.setattr(backbones.Network, "run", run)
    return counted


SAMPLED = 2 + 2  # of both splits, to know how large their features will be


def test_a_probe_computes_its_features_once_and_every_seed_reads_them(tmp_path, passes):
    plan = write_plan("linear_probe", tiny_network().layout(), 4)
    list(fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 0, cache=tmp_path))
    assert sum(passes) == len(TRAIN) + len(VAL) + SAMPLED
    list(fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 1, cache=tmp_path))
    assert sum(passes) == len(TRAIN) + len(VAL) + SAMPLED


def test_one_pass_keeps_the_features_of_all_phases_that_unfreeze_downwards(tmp_path, passes):
    plan = write_plan("gradual_last_first", tiny_network().layout(), 6)  # 3 phases of 2 epochs
    list(fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 0, cache=tmp_path))
    whole = 2 * (len(TRAIN) + len(VAL))  # the last phase, in which all learns
    assert sum(passes) == len(TRAIN) + len(VAL) + SAMPLED + whole
    assert len(list(tmp_path.glob("*.npy"))) == 2 * 2  # behind stem and stage1, of both splits


def test_the_frozen_units_are_those_before_the_first_that_learns():
    layout = tiny_network().layout()
    counts = {}
    for strategy in ("full", "linear_probe", "gradual_last_first", "gradual_first_last", "lp_ft"):
        plan = write_plan(strategy, layout, 6)
        counts[strategy] = [frozen_units(tiny_network(), [phase]) for phase in plan.phases]
        assert frozen_units(tiny_network(), plan.phases) == min(counts[strategy])
    assert counts["full"] == [0] and counts["linear_probe"] == [5] and counts["lp_ft"] == [5, 0]
    assert counts["gradual_last_first"] == sorted(counts["gradual_last_first"], reverse=True)
    assert set(counts["gradual_first_last"]) == {0}


def test_what_features_took_counts_in_every_run_that_uses_them_once(tmp_path):
    plan = write_plan("linear_probe", tiny_network().layout(), 3)
    list(fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 0, cache=tmp_path))
    for file in tmp_path.glob("*.npy"):
        file.rename(re.sub(r"\d+ms", "50000ms", str(file)))
    epochs = list(fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 1, cache=tmp_path))
    assert [epoch.seconds > 50 for epoch in epochs] == [True, False, False]
    assert 100 < epochs[0].seconds < 150
    resumed = fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 1, cache=tmp_path, history=epochs[:1])
    assert all(epoch.seconds < 50 for epoch in resumed)


@pytest.mark.parametrize(
    "change",
    [
        lambda n, s, v: (n, replace(s, precision="bfloat16"), v),
        lambda n, s, v: (n, s, replace(v, key="others")),
        lambda n, s, v: (nudged(n), s, v),
    ],
)
def test_whatever_decides_the_features_is_in_their_name(change, tmp_path):
    behind(tiny_network(), 3, SETTINGS, tmp_path, VAL)
    network, settings, images = change(tiny_network(), SETTINGS, VAL)
    behind(network, 3, settings, tmp_path, images)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def nudged(network):
    with torch.no_grad():
        next(iter(network.units()[1].parameters())).view(-1)[0] += 1e-6
    return network


def test_what_lies_above_the_cut_is_not_in_their_name(tmp_path):
    behind(tiny_network(seed=0), 0, SETTINGS, tmp_path, VAL)
    network = tiny_network()
    behind(network, 2, SETTINGS, tmp_path, VAL)
    with torch.no_grad():
        network.head.weight.add_(1)
        for parameter in network.units()[2].parameters():
            parameter.add_(1)
    behind(network, 2, SETTINGS, tmp_path, VAL)
    assert len(list(tmp_path.glob("*.npy"))) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("units", [1, 3, 5])
def test_features_are_what_the_units_give(units, precision, tmp_path):
    network, settings = folded(real()), replace(SETTINGS, precision=precision)
    seen = behind(network, units, settings, tmp_path, VAL)
    assert isinstance(seen, Features) and len(seen) == len(VAL) and seen.after == units
    for (x, y), (pixels, labels) in zip(
        batches(seen, np.arange(13), 8), batches(VAL, np.arange(13), 8), strict=True
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            wanted = network.run(network.prepare(pixels), upto=units)
            wanted = wanted.mean(dim=(2, 3)) if units == 5 else wanted
        assert x.dtype == wanted.dtype and torch.equal(x, wanted) and torch.equal(y, labels)
    assert np.array_equal(predict(network, seen, settings), predict(network, VAL, settings))


def test_nothing_is_kept_where_nothing_is_frozen_or_named_or_where_it_would_not_fit(
    tmp_path, monkeypatch
):
    nameless = replace(VAL, key="")
    assert behind(tiny_network(), 0, SETTINGS, tmp_path, VAL) is VAL
    assert behind(tiny_network(), 3, SETTINGS, None, VAL) is VAL
    assert behind(tiny_network(), 3, SETTINGS, tmp_path, nameless) is nameless
    monkeypatch.setattr(features, "BUDGET_BYTES", 1000)
    assert behind(tiny_network(), 3, SETTINGS, tmp_path, VAL) is VAL
    assert not list(tmp_path.iterdir())


def test_what_was_used_longest_ago_goes_when_the_budget_is_full(tmp_path, monkeypatch):
    sets = [replace(VAL, key=str(number)) for number in range(3)]
    behind(tiny_network(), 5, SETTINGS, tmp_path, sets[0])
    (file,) = tmp_path.glob("*.npy")
    monkeypatch.setattr(features, "BUDGET_BYTES", int(2.5 * file.stat().st_size))
    behind(tiny_network(), 5, SETTINGS, tmp_path, sets[1])
    (second,) = set(tmp_path.glob("*.npy")) - {file}
    behind(tiny_network(), 5, SETTINGS, tmp_path, sets[0])  # used again, so the other is older
    behind(tiny_network(), 5, SETTINGS, tmp_path, sets[2])
    assert file.exists() and not second.exists() and len(list(tmp_path.glob("*.npy"))) == 2


def test_augmented_images_are_never_taken_from_the_kept_ones(tmp_path):
    plain, seen = (
        trained(tiny_network(), "linear_probe", replace(SETTINGS, augment="light"), cache)
        for cache in (None, tmp_path)
    )
    assert plain == seen and len(list(tmp_path.glob("*.npy"))) == 1  # validation's


@pytest.mark.parametrize("strategy", ["linear_probe", "gradual_last_first", "auto_rgn"])
def test_training_on_kept_views_is_training_on_drawn_ones_bit_for_bit(strategy, tmp_path):
    settings = replace(SETTINGS, augment="light", flips=True, views=2)
    drawn, kept, again = (
        trained(tiny_network(), strategy, settings, cache) for cache in (None, tmp_path, tmp_path)
    )
    assert drawn == kept == again
    assert drawn != trained(tiny_network(), strategy, replace(settings, views=3))


def test_a_probe_passes_each_view_once_however_many_epochs(tmp_path, passes):
    settings = replace(SETTINGS, augment="light", views=2)
    plan = write_plan("linear_probe", tiny_network().layout(), 6)
    list(fit(tiny_network(), plan, TRAIN, VAL, settings, 0, cache=tmp_path))
    assert sum(passes) == 2 * (len(TRAIN) + 2) + len(VAL) + 2


def test_an_image_has_the_same_view_in_any_batch_and_another_in_the_next():
    views = [seen(TRAIN, replace(SETTINGS, augment="ttl", views=2), 7, epoch) for epoch in range(3)]
    whole = [view.batch(np.arange(len(TRAIN))) for view in views]
    alone = torch.cat([views[1].batch(np.array([place])) for place in range(len(TRAIN))])
    assert torch.equal(whole[1], alone)
    assert torch.equal(whole[0], whole[2])
    assert all(not torch.equal(one, other) for one, other in zip(*whole[:2], strict=True))


def test_a_file_that_was_not_finished_is_no_file(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np.lib.format, "open_memmap", broken)
    with pytest.raises(OSError):
        behind(tiny_network(), 3, SETTINGS, tmp_path, VAL)
    assert not list(tmp_path.iterdir())


# --- beside other processes ---


def test_networks_with_equal_tensors_that_compute_otherwise_share_no_features():
    one, other = tiny_network(), tiny_network()
    other.stages["stem"][0][1].eps = 0.5
    keys = [features._key(network, 2, TRAIN, SETTINGS) for network in (one, tiny_network(), other)]
    assert keys[0] == keys[1] != keys[2]


def test_features_that_another_process_had_to_remove_are_made_again(tmp_path, monkeypatch):
    kept = behind(tiny_network(), 2, SETTINGS, tmp_path, TRAIN)
    expected, touch, gone = kept.batch(np.arange(len(TRAIN))), features.os.utime, []

    def removed(path, *times):
        if not gone:
            gone.append(path.unlink())
        touch(path, *times)

    monkeypatch.setattr(features.os, "utime", removed)
    again = behind(tiny_network(), 2, SETTINGS, tmp_path, TRAIN)
    assert gone and torch.equal(again.batch(np.arange(len(TRAIN))), expected)


def test_whoever_waits_for_anothers_features_can_be_stopped_and_shows_that_it_lives(tmp_path):
    network = tiny_network()
    lock = tmp_path / f".{features._key(network, 2, TRAIN, SETTINGS)}.lock"
    used, asked = time.process_time(), []

    def stop() -> bool:
        asked.append(time.monotonic())
        return asked[-1] - asked[0] > 1

    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(features.Stopped):
            behind(network, 2, SETTINGS, tmp_path, TRAIN, stop=stop)
    assert len(asked) > 10 and time.process_time() > used
    assert isinstance(behind(network, 2, SETTINGS, tmp_path, TRAIN), Features)


def test_a_stop_while_features_are_made_ends_the_training_and_leaves_nothing(tmp_path):
    plan = write_plan("linear_probe", tiny_network().layout(), 4)
    asked = iter((False, True))
    told = fit(
        *(tiny_network(), plan, TRAIN, VAL, SETTINGS, 0), stop=lambda: next(asked), cache=tmp_path
    )
    assert list(told) == [] and list(tmp_path.iterdir()) == []


def test_where_the_disk_fills_meanwhile_nothing_is_kept(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features.files, "new_array", full)
    assert behind(tiny_network(), 2, SETTINGS, tmp_path, TRAIN) is TRAIN
    assert list(tmp_path.iterdir()) == []
