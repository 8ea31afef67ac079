"""The laws of training: what moves, what does not, and that a question has one answer in bits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, split, tiny_network
from sklearn.linear_model import LogisticRegression
from torch import nn

from ftlab import backbones, weights
from ftlab.backbones import Network
from ftlab.batches import batches
from ftlab.freezing import learning, set_mode
from ftlab.penalties import L1SP, L2SP
from ftlab.records import Epoch, Phase, Plan, Settings
from ftlab.strategies import STRATEGIES, write_plan
from ftlab.train import SCHEDULES, Diverged, Split, fit, predict, steps, validate

SETTINGS = Settings(epochs=2, size=32, batch=8, precision="float32")
TRAIN, VAL = split(20, seed=1), split(12, seed=2)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def train(network, plan, settings=SETTINGS, seed=0, **more) -> list[Epoch]:
    return list(fit(network, plan, TRAIN, VAL, settings, seed, **more))


def bits(network) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in network.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[n].equal(b[n]) for n in a)


def numbers(epochs: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


@pytest.fixture(scope="module")
def mobilenet():
    """(theta_0, layout) of MobileNetV2 with BatchNorm statistics that are neither 0 nor 1."""
    theta0 = weights.load("mobilenetv2_100", "random", seed=1)
    for name, tensor in theta0.tensors.items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    return theta0, backbones.layout("mobilenetv2_100")


CASES = [*((s, {}) for s in STRATEGIES), ("layer_wise", {"freeze": 5})]
CASES += [("auto_rgn", {"mode": "faithful"}), ("full", {"eval_batchnorm": True})]


@pytest.mark.parametrize("strategy, given", CASES)
def test_what_has_no_rate_does_not_change_by_one_bit(strategy, given, mobilenet):
    """Every phase of its own, BatchNorm's statistics and counters included; what has a rate moves.

    layer_wise with freeze=5 freezes two units of stage3 and leaves the third open.
    """
    theta0, layout = mobilenet
    plan = write_plan(strategy, layout, 2, lr=0.01, **given)
    network = backbones.build("mobilenetv2_100", 2, theta0, plan.cut_after, plan.slim_from)
    images, settings = (
        Split(TRAIN.pixels, np.arange(6), TRAIN.labels[:6]),
        replace(SETTINGS, batch=6),
    )
    for phase in plan.phases:
        before, phase = bits(network), replace(phase, epochs=1)
        modules = [network.modules_of(name) for name in phase.lrs]
        tensors = {id(t) for m in modules for t in m.state_dict(keep_vars=True).values()}
        open_names = {n for n, t in network.state_dict(keep_vars=True).items() if id(t) in tensors}
        list(fit(network, Plan((phase,)), images, images, settings, 0))
        after = network.state_dict()
        moved = {n for n in after if not after[n].equal(before[n])}
        assert moved <= open_names
        assert {"head.weight", "head.bias"} <= moved
        statistics = {n for n in open_names if "running" in n or "num_batches" in n}
        assert statistics <= moved if not phase.eval_batchnorm else not statistics & moved
        kernels = {n for n, p in network.named_parameters() if p.ndim == 4} & open_names
        if not phase.rates:
            assert kernels <= moved


def test_frozen_means_no_gradient_eval_mode_and_not_in_the_optimizer():
    network = tiny_network()
    phase = Phase(1, {"unit3": 0.1, "head": 0.2})
    network.train()
    set_mode(network, phase)
    open_units = [network.units()[2], network.head]
    free = {id(m) for part in open_units for m in part.modules()}
    assert all(m.training == (id(m) in free) for m in network.modules() if m is not network)
    names = {n for n, p in network.named_parameters() if p.requires_grad}
    assert names == set(learning(network, phase))
    rates = {n: lr for n, (_, lr) in learning(network, phase).items()}
    assert rates.pop("head.weight") == rates.pop("head.bias") == 0.2
    assert set(rates.values()) == {0.1} and all(n.startswith("stages.stage1.1.") for n in rates)


@pytest.mark.parametrize("strategy", ["l2_sp", "l1_sp"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_penalty_of_strength_0_is_full_fine_tuning_bit_for_bit(strategy, optimizer):
    settings, layout = replace(SETTINGS, optimizer=optimizer), tiny_network().layout()
    free, pulled = tiny_network(), tiny_network()
    one = train(free, write_plan("full", layout, 2, lr=0.01), settings)
    two = train(pulled, write_plan(strategy, layout, 2, lr=0.01, alpha=0, beta=0), settings)
    assert same(bits(free), bits(pulled))
    assert numbers(one) == numbers(two)


def test_the_stronger_the_pull_the_closer_to_theta_0_and_biases_are_not_pulled():
    layout, drifts = tiny_network().layout(), []
    for alpha in (0.0, 1.0, 100.0):
        network = tiny_network()
        start = bits(network)
        train(network, write_plan("l2_sp", layout, 4, lr=0.01, alpha=alpha, beta=0))
        kernels = [n for n, p in network.named_parameters() if p.ndim == 4]
        now = network.state_dict()
        drifts.append(sum((now[n] - start[n]).square().sum().item() for n in kernels))
    assert drifts[0] > drifts[1] > drifts[2]


@pytest.mark.parametrize("penalty", [L1SP(0.01, 0.5), L2SP(0.3, 0.5)])
def test_one_sgd_step_under_a_penalty_is_the_equation(penalty):
    """One batch from elsewhere than theta_0: w - lr (dCE/dw + dOmega/dw), by hand."""
    lr, network = 0.1, tiny_network()
    network.eval()
    theta0 = {n: p.detach() + 0.1 * torch.sign(p.detach()) for n, p in network.named_parameters()}
    pixels, labels = next(batches(VAL, np.arange(len(VAL)), 12))
    network.requires_grad_(True)
    F.cross_entropy(network(network.prepare(pixels)), labels).backward()
    expected = {}
    for name, p in network.named_parameters():
        pull = torch.zeros_like(p)
        if p.ndim == 4:
            away = p.detach() - theta0[name]
            pull = penalty.alpha * (away if isinstance(penalty, L2SP) else away.sign())
        elif name == "head.weight":
            pull = penalty.beta * p.detach()
        expected[name] = p.detach() - lr * (p.grad + pull)
    rates = dict.fromkeys(network.layout().names, lr)
    plan = Plan((Phase(1, rates, penalty=penalty, eval_batchnorm=True, weight_decay=9.0),))
    settings = replace(SETTINGS, batch=12, optimizer="sgd", schedule="constant")
    list(fit(network, plan, VAL, VAL, settings, 0, theta0=theta0))
    for name, p in network.named_parameters():
        assert torch.allclose(p, expected[name], atol=1e-6), name


def test_a_rate_rule_scales_the_step_of_each_tensor():
    lr, network = 0.1, tiny_network()
    plan = write_plan("auto_rgn", network.layout(), 1, lr=lr)
    plan = Plan((replace(plan.phases[0], eval_batchnorm=True),))
    twin = tiny_network()
    settings = replace(SETTINGS, batch=20, optimizer="sgd", schedule="constant")
    start = bits(network)
    (epoch,) = train(network, plan, settings)
    train(twin, Plan((replace(plan.phases[0], rates=None),)), settings)
    now, full = network.state_dict(), twin.state_dict()
    for name, _ in network.named_parameters():
        step = epoch.rates.get(name, 1.0) * (full[name] - start[name])
        assert torch.allclose(now[name] - start[name], step, atol=1e-6), name
    assert max(epoch.rates.values()) == 1 and "head.weight" not in epoch.rates
    kernel, norm = "stages.stage2.0.0.weight", "stages.stage2.0.1.weight"
    assert epoch.lrs["stage2"] == pytest.approx(lr * (epoch.rates[kernel] + epoch.rates[norm]) / 2)


def test_lp_ft_fine_tunes_from_the_probes_head():
    layout = tiny_network().layout()
    probe, both = tiny_network(), tiny_network()
    train(probe, write_plan("linear_probe", layout, 2, lr=0.01))
    running = fit(both, write_plan("lp_ft", layout, 4, lr=0.01), TRAIN, VAL, SETTINGS, 0)
    next(running), next(running)
    assert same(bits(probe), bits(both))
    epochs = list(running)
    assert [epoch.phase for epoch in epochs] == [1, 1]
    assert not bits(both)["stages.stem.0.0.weight"].equal(bits(probe)["stages.stem.0.0.weight"])


def test_a_probe_trained_to_the_end_is_logistic_regression(monkeypatch):
    """On frozen features f: mean CE + beta/2 |v|^2, which is scikit-learn's C = 1/(n beta).

    Class c is a little brighter in channel c; every seventh label is wrong, so that the optimum is
    a matter of the penalty.
    """
    n, beta, rng = 120, 0.02, np.random.default_rng(0)

    def tinted(count: int) -> Split:
        labels = np.arange(count) % 3
        pixels = rng.integers(0, 200, (count, 8, 8, 3), dtype=np.uint8)
        pixels[np.arange(count), :, :, labels] += 50
        return Split(pixels, np.arange(count), labels)

    def features(data: Split) -> np.ndarray:
        with torch.no_grad():
            maps = network.eval().run(network.prepare(torch.from_numpy(data.pixels)))
        return maps.mean(dim=(2, 3)).numpy().astype(float)

    torch.manual_seed(0)
    unit = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
    network = Network({"stem": [unit]}, 3, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    noisy, seen = tinted(n), tinted(60)
    noisy.labels[::7] = (noisy.labels[::7] + 1) % 3
    truth = LogisticRegression(C=1 / (n * beta), tol=1e-10, max_iter=10_000)
    truth.fit(features(noisy), noisy.labels)
    phase = write_plan("linear_probe", network.layout(), 400, lr=0.05).phases[0]
    plan = Plan((replace(phase, penalty=L2SP(0, beta)),))
    unmeasured = {"loss": 0.0, "balanced_accuracy": 0.0}  # 400 validations would take most of it
    monkeypatch.setattr("ftlab.train.validate", lambda *_: unmeasured)
    list(fit(network, plan, noisy, seen, replace(SETTINGS, batch=n), 0))
    ours, theirs = predict(network, seen, SETTINGS), truth.predict_proba(features(seen))
    assert np.abs(ours - theirs).max() < 0.002
    accuracy = np.mean(ours.argmax(1) == seen.labels)
    assert abs(accuracy - truth.score(features(seen), seen.labels)) <= 0.01
    assert accuracy > 0.8


@every_strategy
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(strategy):
    layout = tiny_network().layout()
    plan = write_plan(strategy, layout, 2)
    settings = replace(SETTINGS, augment="light", flips=True)

    def once(seed: int):
        network = tiny_network()
        if plan.cut_after:
            network = backbones.cut(network, plan.cut_after)
            torch.manual_seed(0)
            network.head.reset_parameters()
        epochs = train(network, plan, settings, seed)
        return numbers(epochs), bits(network)

    first, again, other = once(0), once(0), once(1)
    assert first[0] == again[0] and same(first[1], again[1])
    assert not same(first[1], other[1])


RESUMED = [("full", {}), ("gradual_last_first", {}), ("lp_ft", {}), ("auto_rgn", {})]
RESUMED += [("auto_rgn", {"mode": "faithful"}), ("l2_sp", {})]


@pytest.mark.parametrize("strategy, given", RESUMED)
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw"])
def test_a_run_that_continues_ends_in_the_bits_of_one_that_was_not_interrupted(
    strategy, given, optimizer
):
    plan = write_plan(strategy, tiny_network().layout(), 5, lr=0.01, **given)
    settings = replace(SETTINGS, optimizer=optimizer, augment="light")
    whole, theta0 = tiny_network(), dict(tiny_network().named_parameters())
    epochs, saved, moments = [], [], {}
    for epoch in fit(whole, plan, TRAIN, VAL, settings, 0, moments=moments):
        epochs.append(epoch)
        kept = {n: {k: t.clone() for k, t in state.items()} for n, state in moments.items()}
        saved.append((bits(whole), kept))
    for done, (then, state) in enumerate(saved, start=1):
        torch.rand(3), np.random.rand(3)  # whatever happened in between
        network = tiny_network(seed=9)
        network.load_state_dict(then)
        going_on = {"theta0": theta0, "history": epochs[:done], "moments": state}
        rest = train(network, plan, settings, **going_on)
        assert numbers(rest) == numbers(epochs[done:])
        assert same(bits(network), bits(whole))


def test_every_epoch_has_an_order_of_its_own_which_the_seed_decides():
    seen: list[int] = []

    class Watched(Split):
        def batch(self, places):
            seen.extend(places)
            return super().batch(places)

    watched = Watched(TRAIN.pixels, TRAIN.rows, TRAIN.labels)
    layout = tiny_network().layout()
    for seed in (0, 0, 1):
        plan = write_plan("lp_ft", layout, 4)
        list(fit(tiny_network(), plan, watched, VAL, SETTINGS, seed))
    orders = [tuple(seen[at : at + len(TRAIN)]) for at in range(0, len(seen), len(TRAIN))]
    assert orders[:4] == orders[4:8]
    assert len(set(orders)) == 8
    assert all(sorted(order) == list(range(len(TRAIN))) for order in orders)


def test_moments_live_on_where_a_stage_joins_and_start_again_where_a_phase_is_new():
    layout, moments = tiny_network().layout(), {}
    counts = []
    plan = write_plan("gradual_last_first", layout, 3, lr=0.01)
    for _ in fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 0, moments=moments):
        counts.append({n: int(state["step"]) for n, state in moments.items()})
    each = steps(len(TRAIN), SETTINGS.batch)
    assert [c["head.weight"] for c in counts] == [each, 2 * each, 3 * each]
    assert [c.get("stages.stem.0.0.weight") for c in counts] == [None, None, each]
    moments = {}
    plan = write_plan("lp_ft", layout, 2, lr=0.01)
    for _ in fit(tiny_network(), plan, TRAIN, VAL, SETTINGS, 0, moments=moments):
        assert int(moments["head.weight"]["step"]) == each


@pytest.mark.parametrize("mode, epochs", [("practical", 2), ("faithful", 1)])
def test_faithful_rate_rules_build_adam_anew_every_epoch(mode, epochs):
    network, moments = tiny_network(), {}
    train(network, write_plan("auto_rgn", network.layout(), 2, mode=mode), moments=moments)
    assert int(moments["head.weight"]["step"]) == epochs * steps(len(TRAIN), SETTINGS.batch)


def test_closing_the_iterator_stops_training():
    network = tiny_network()
    epochs = fit(network, write_plan("full", network.layout(), 9), TRAIN, VAL, SETTINGS, 0)
    next(epochs)
    now = bits(network)
    epochs.close()
    assert list(epochs) == [] and same(now, bits(network))


def test_stop_is_asked_before_every_step_and_drops_the_epoch():
    network, asked = tiny_network(), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 4

    epochs = train(network, write_plan("full", network.layout(), 9), stop=stop)
    assert steps(len(TRAIN), SETTINGS.batch) == 3
    assert len(epochs) == 1 and len(asked) == 5


def test_only_the_last_phase_stops_early():
    """At a rate of 1e-12 nothing gets better after the first epoch."""
    settings, layout = (
        replace(SETTINGS, patience=2, select="balanced_accuracy"),
        tiny_network().layout(),
    )
    frozen = {"lr": 1e-12}
    assert (
        len(train(tiny_network(), write_plan("linear_probe", layout, 9, **frozen), settings)) <= 4
    )
    epochs = train(tiny_network(), write_plan("lp_ft", layout, 12, **frozen), settings)
    assert [epoch.phase for epoch in epochs].count(0) == 6
    assert 2 <= [epoch.phase for epoch in epochs].count(1) < 6
    assert [epoch.epoch for epoch in epochs] == list(range(len(epochs)))
    assert not any(epoch.best for epoch in epochs[-2:])


@pytest.mark.parametrize("select, better", [("loss", "loss"), ("balanced_accuracy", None)])
def test_best_marks_every_epoch_that_beats_all_before_it(select, better):
    network = tiny_network()
    plan = write_plan("full", network.layout(), 6, lr=0.01)
    epochs = train(network, plan, replace(SETTINGS, select=select))
    assert epochs[0].best
    if better:
        losses = [epoch.val["loss"] for epoch in epochs]
        assert [e.best for e in epochs] == [
            v < min(losses[:i], default=9e9) for i, v in enumerate(losses)
        ]
    else:
        keys = [(e.val["balanced_accuracy"], -e.val["loss"]) for e in epochs]
        assert [e.best for e in epochs] == [
            all(k > o for o in keys[:i]) for i, k in enumerate(keys)
        ]


def test_a_loss_that_is_not_a_number_is_said_and_not_recorded():
    network = tiny_network()
    plan = write_plan("full", network.layout(), 3, lr=1e30)
    with pytest.raises(Diverged, match="try a smaller one"):
        train(network, plan, replace(SETTINGS, optimizer="sgd"))


def test_schedules_by_hand():
    cosine, constant = SCHEDULES["cosine"], SCHEDULES["constant"]
    assert [cosine(t) for t in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [constant(t) for t in (0, 0.7, 1)] == [1, 1, 1]


def test_the_cosine_runs_once_over_each_phase():
    """Plain SGD steps without momentum on a constant gradient measure the rates themselves."""
    seen = []
    network = tiny_network()

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])
            return super().step(closure)

    from ftlab import train as module

    plan = write_plan("linear_probe", network.layout(), 2, lr=0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.OPTIMIZERS, "sgd", Spy)
        train(network, plan + plan, replace(SETTINGS, optimizer="sgd"))
    once = [0.2 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert seen == pytest.approx(once + once)


@pytest.mark.parametrize("images", range(2, 40))
@pytest.mark.parametrize("size", [2, 3, 8, 32])
def test_no_batch_holds_a_single_image_and_every_image_is_in_one(images, size):
    order = np.random.default_rng(0).permutation(images)
    data = Split(np.zeros((images, 1, 1, 3), np.uint8), np.arange(images), np.arange(images))
    parts = [labels for _, labels in batches(data, order, size)]
    assert len(parts) == steps(images, size)
    assert torch.cat(parts).tolist() == order.tolist()
    lengths = [len(labels) for labels in parts]
    assert min(lengths) >= 2 and max(lengths) - min(lengths) <= 1
    assert max(lengths) <= max(size, 3)


def test_evaluation_does_not_depend_on_the_batches_nor_on_the_mode():
    network, data = tiny_network().train(), split(23, seed=5)
    whole = predict(network, data, replace(SETTINGS, batch=23))
    for batch in (2, 5, 8):
        assert np.abs(predict(network, data, replace(SETTINGS, batch=batch)) - whole).max() < 1e-6
    assert np.allclose(whole.sum(axis=1), 1)
    rows = np.array([7, 3, 7])
    chosen = predict(network, Split(data.pixels, rows, data.labels[rows]), SETTINGS)
    assert np.abs(chosen - whole[rows]).max() < 1e-6


def test_validation_is_the_cross_entropy_of_the_logits():
    network = tiny_network()
    with torch.no_grad():
        logits = network.eval()(network.prepare(torch.from_numpy(VAL.pixels)))
    values = validate(network, VAL, SETTINGS)
    labels = torch.from_numpy(VAL.labels)
    assert values["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert values["accuracy"] == (logits.argmax(1) == labels).float().mean().item()


def test_bfloat16_learns_and_stays_near_float32():
    layout = tiny_network().layout()
    plan, losses = write_plan("full", layout, 6, lr=0.01), {}
    for precision in ("float32", "bfloat16"):
        epochs = train(tiny_network(), plan, replace(SETTINGS, precision=precision))
        losses[precision] = [epoch.train_loss for epoch in epochs]
        assert losses[precision][-1] < losses[precision][0]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.1)
    assert losses["bfloat16"] != losses["float32"]


def test_training_learns_what_can_be_learnt():
    network = tiny_network()
    epochs = train(network, write_plan("full", network.layout(), 15, lr=0.01))
    assert epochs[-1].val["accuracy"] == 1


@pytest.mark.parametrize("name", [TINY, "mobilenetv2_100"])
def test_all_strategies_that_end_in_as_many_features_start_from_the_same_head(name):
    theta0, layout = weights.load(name, "random"), backbones.layout(name)
    heads: dict[int, set] = {}
    for strategy in STRATEGIES:
        plan = write_plan(strategy, layout, 4)
        head = backbones.build(name, 3, theta0, plan.cut_after, plan.slim_from, seed=2).head
        heads.setdefault(head.in_features, set()).add(tuple(head.weight.flatten().tolist()))
    assert all(len(different) == 1 for different in heads.values())
    width = max(heads)
    bound = max(abs(w) for w in next(iter(heads[width])))
    assert 0.9 / math.sqrt(width) < bound <= 1 / math.sqrt(width)


def test_dropout_in_a_frozen_stage_is_off():
    network = tiny_network()
    network.stages["neck"][0].append(nn.Dropout(0.9))
    set_mode(network, write_plan("linear_probe", network.layout(), 1).phases[0])
    x = network.prepare(torch.from_numpy(VAL.pixels))
    assert network.run(x).equal(network.run(x))
