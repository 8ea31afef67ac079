"""Every strategy as one short function that writes a plan. What has no rate is frozen.

A strategy sees a backbone's layout (names and unit numbers), never a model: a plan can be printed,
drawn, tested and compared before anything trains. Defaults come from the source named in each
docstring; "ours" marks a choice the source leaves open. Every `lr` default is for Adam. People
read these docstrings in the app, see ftlab.signatures for their form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from . import signatures
from .penalties import L1SP, L2SP
from .rates import AutoRGN, AutoSNR
from .records import BadInput, Layout, Phase, Plan, unit_name
from .signatures import Mode


def full(layout: Layout, epochs: int, lr: float = 1e-4, eval_batchnorm: bool = False) -> Plan:
    """Every weight learns:  theta <- theta - lr dL/dtheta.

    lr: learning rate of every weight; the default is Peng et al.'s.
    eval_batchnorm: keep BatchNorm at its pretrained statistics (`valmode` of Kumar et al. 2022).
    """
    rates = dict.fromkeys(layout.names, lr)
    return Plan((Phase(epochs, rates, eval_batchnorm=eval_batchnorm),))


def linear_probe(layout: Layout, epochs: int, lr: float = 1e-3, neck: bool = False) -> Plan:
    """Only the head learns, on frozen features:  min_v L(v . f_theta_0(x)).

    lr: learning rate of the head.
    neck: the other reading for VGG, "all FC layers": fc6 and fc7 learn, too (Davila et al. speak
        of classifier layers). By default the new linear layer learns alone.
    """
    learns = layout.top if neck else ("head",)
    return Plan((Phase(epochs, dict.fromkeys(learns, lr)),))


def lp_ft(
    layout: Layout,
    epochs: int,
    lr: float = 1e-3,
    probe: float = 0.5,
    drop: float = 0.1,
    eval_batchnorm: bool = False,
) -> Plan:
    """Probe first, then full fine-tuning from the fitted head (Kumar et al. 2022).

    lr: learning rate of the probe.
    probe: share of the epochs that go to the probe. Needs 2 epochs.
    drop: fine-tuning runs at this times lr (ours: the source takes both rates from a grid).
    eval_batchnorm: keep BatchNorm at its pretrained statistics in the second phase.
    """
    _at_least(epochs, 2, "lp_ft", "one to probe and one to fine-tune")
    first = min(max(round(epochs * probe), 1), epochs - 1)
    return linear_probe(layout, first, lr) + full(layout, epochs - first, lr * drop, eval_batchnorm)


def gradual_last_first(layout: Layout, epochs: int, lr: float = 1e-4) -> Plan:
    """Unfreeze from the last trunk stage down to the first (Howard & Ruder 2018; Davila et al.).

    lr: learning rate of every stage that has joined.
    """
    return _gradual(layout, epochs, lr, [s.name for s in reversed(layout.trunk)])


def gradual_first_last(layout: Layout, epochs: int, lr: float = 1e-4) -> Plan:
    """Unfreeze from the first trunk stage up to the last; the head, being new, always learns.

    lr: learning rate of every stage that has joined.
    """
    return _gradual(layout, epochs, lr, [s.name for s in layout.trunk])


def l1_sp(
    layout: Layout, epochs: int, lr: float = 1e-4, alpha: float = 1e-4, beta: float = 0.01
) -> Plan:
    """Full, with a pull to the start:  L + alpha |w - w_0|_1 + beta/2 |v|^2  (Li et al. 2018).

    lr: learning rate of every weight.
    alpha: pull to the start (ours: an L1 sum over millions of weights stays near the loss).
    beta: pull of the new head to zero.
    """
    return _each(full(layout, epochs, lr), penalty=L1SP(alpha, beta))


def l2_sp(
    layout: Layout, epochs: int, lr: float = 1e-4, alpha: float = 0.1, beta: float = 0.01
) -> Plan:
    """Full, with a pull to the start:  L + alpha/2 |w - w_0|^2 + beta/2 |v|^2  (Li et al. 2018).

    lr: learning rate of every weight.
    alpha: pull to the start.
    beta: pull of the new head to zero.
    """
    return _each(full(layout, epochs, lr), penalty=L2SP(alpha, beta))


def auto_rgn(layout: Layout, epochs: int, lr: float = 1e-3, mode: Mode = "practical") -> Plan:
    """Full, each tensor at its own rate:  lr_i = lr RGN_i / max RGN  (Lee et al. 2023).

    RGN is gradient norm over weight norm, measured before every epoch.

    lr: learning rate of the tensor with the largest RGN, and of the head.
    mode: faithful to the authors' code, or fit for a new head (practical; rates.py).
    """
    return _ruled(full(layout, epochs, lr), AutoRGN(mode))


def auto_snr(layout: Layout, epochs: int, lr: float = 1e-3, mode: Mode = "practical") -> Plan:
    """Full, but a tensor whose gradient is small or narrow waits:  lr_i = lr [SNR_i >= 0.95].

    Lee et al. 2023, as in their code: see ftlab/rates.py for what the SNR measures and what not.

    lr: learning rate of what passes the gate, and of the head.
    mode: faithful to the authors' code, or fit for a new head (practical; rates.py).
    """
    return _ruled(full(layout, epochs, lr), AutoSNR(mode))


def surgical(layout: Layout, epochs: int, lr: float = 1e-3, stage: str | None = None) -> Plan:
    """One trunk stage and the head learn (Lee et al. 2023: the first for shifted inputs).

    lr: learning rate of the stage and of the head.
    stage: the one that learns; default: the first after the stem (ours).
    """
    trunk = [s.name for s in layout.trunk]
    if stage is not None and stage not in trunk:
        raise BadInput(f"surgical has no stage {stage!r}; this backbone has {', '.join(trunk)}.")
    return Plan((Phase(epochs, dict.fromkeys((stage or trunk[1], "head"), lr)),))


def truncated(layout: Layout, epochs: int, lr: float = 1e-4, cut: int | None = None) -> Plan:
    """TTL: keep and tune units 1..cut under a new head, drop the rest (Peng et al. 2023).

    lr: learning rate of what is kept.
    cut: the last unit that is kept; default: the end of the last trunk stage but one.
    """
    cut = layout.trunk[-2].units[-1] if cut is None else cut
    return replace(full(layout.cut(cut), epochs, lr), cut_after=cut)


def layer_wise(layout: Layout, epochs: int, lr: float = 1e-4, freeze: int | None = None) -> Plan:
    """LWFT: units 1..freeze stay as they are, everything above learns (Peng et al. 2023).

    lr: learning rate of what is not frozen.
    freeze: the last frozen unit; default: the end of the first stage after the stem; 0: full.
    """
    freeze = layout.trunk[1].units[-1] if freeze is None else freeze
    if freeze:
        layout.stage_of(freeze)
    rates = {}
    for stage in layout.trunk:
        open_units = [u for u in stage.units if u > freeze]
        names = [stage.name] if len(open_units) == len(stage.units) else map(unit_name, open_units)
        rates |= dict.fromkeys(names, lr)
    return Plan((Phase(epochs, rates | dict.fromkeys(layout.top, lr)),))


def transfusion(layout: Layout, epochs: int, lr: float = 1e-4, slim: int | None = None) -> Plan:
    """TF: from unit `slim` on half as wide and new, pretrained below; all learns.

    Raghu et al. 2019; width and initialisation as Peng et al. 2023 build it.

    lr: learning rate of every weight.
    slim: the first slim unit; default: the first of the last trunk stage.
    """
    slim = layout.trunk[-1].units[0] if slim is None else slim
    layout.stage_of(slim)
    return replace(full(layout, epochs, lr), slim_from=slim)


_DAVILA = "Davila et al. 2024 (arXiv 2406.10050)"
_PENG = "Peng et al. 2023 (arXiv 2106.05152)"
_LEE = "Lee et al. 2023 (arXiv 2210.11466)"
_LI = "Li et al. 2018 (arXiv 1802.01483)"
SOURCES: dict[Callable[..., Plan], str] = {  # the table of strategies, the paper's eight first
    full: _DAVILA,
    linear_probe: _DAVILA,
    gradual_last_first: f"{_DAVILA}; Howard & Ruder 2018 (arXiv 1801.06146)",
    gradual_first_last: _DAVILA,
    lp_ft: f"{_DAVILA}; Kumar et al. 2022 (arXiv 2202.10054)",
    l1_sp: f"{_DAVILA}; {_LI}",
    l2_sp: f"{_DAVILA}; {_LI}",
    auto_rgn: f"{_DAVILA}; {_LEE}",
    auto_snr: _LEE,
    surgical: _LEE,
    truncated: _PENG,
    layer_wise: _PENG,
    transfusion: f"Raghu et al. 2019 (arXiv 1902.07208); {_PENG}",
}
STRATEGIES = {function.__name__: function for function in SOURCES}
DAVILA = tuple(STRATEGIES)[:8]
UNIT_KNOBS = {"truncated": "cut", "layer_wise": "freeze", "transfusion": "slim"}  # see `parse`


def knobs(strategy: str) -> dict[str, object]:
    """The knobs of a strategy with their defaults, from its signature, lr included."""
    taken = signatures.parameters(find(strategy))
    return {name: parameter.default for name, parameter in taken.items()}


def find(strategy: str) -> Callable[..., Plan]:
    """The function of that name.

    Raises:
        BadInput: there is none; the message lists them.
    """
    return STRATEGIES[parse(strategy)[0]]


def parse(strategy: str) -> tuple[str, dict[str, int]]:
    """Its plain name, and the unit it may carry as a knob: truncated@12 is truncated, cut=12.

    Raises:
        BadInput: there is no such strategy, or it cannot carry that.
    """
    name, at, unit = strategy.partition("@")
    if name not in STRATEGIES:
        raise BadInput(f"There is no strategy {name!r}; there are {', '.join(STRATEGIES)}.")
    if at and name not in UNIT_KNOBS:
        raise BadInput(f"{name} has no unit to name, as {', '.join(UNIT_KNOBS)} have.")
    if at and not re.fullmatch("0|[1-9][0-9]{0,3}", unit):
        raise BadInput(f"{name}@ takes a unit's number, as in {name}@7, not {strategy!r}.")
    return name, {UNIT_KNOBS[name]: int(unit)} if at else {}


def given(strategy: str, knobs: Mapping[str, dict]) -> dict:
    """What a strategy was given of {strategy: knobs}, by its plain name, its own, or in it."""
    own = {**knobs.get(strategy.partition("@")[0], {}), **knobs.get(strategy, {})}
    return {**own, **parse(strategy)[1]} if "@" in strategy else own


def write_plan(strategy: str, layout: Layout, epochs: int, /, **given) -> Plan:
    """The plan of a strategy; knobs that are not given take their defaults.

    Raises:
        BadInput: unknown strategy or knob, or a value the strategy cannot use.
    """
    given |= parse(strategy)[1]
    signatures.check(find(strategy), given)
    _at_least(epochs, 1, strategy, "to train at all")
    plan = find(strategy)(layout, epochs, **given)
    lowest = min(lr for phase in plan.phases for lr in phase.lrs.values())
    if lowest <= 0:
        raise BadInput(f"A learning rate is a number above 0, not {lowest:g}.")
    return plan


def _gradual(layout: Layout, epochs: int, lr: float, order: list[str]) -> Plan:
    """One phase a group, each adding a stage to head (and neck); the remainder goes to the last.

    With fewer epochs than stages, neighbours are merged. Adam's moments are kept when a stage
    joins: the stages that learn already do not start again (ours).
    """
    groups = min(epochs, len(order))
    ends = [round(len(order) * (k + 1) / groups) for k in range(groups)]
    spans = [epochs // groups] * (groups - 1) + [epochs - epochs // groups * (groups - 1)]
    learning = [[n for n in layout.names if n in (*order[:end], *layout.top)] for end in ends]
    return Plan(
        tuple(
            Phase(span, dict.fromkeys(names, lr), keep_moments=k > 0)
            for k, (span, names) in enumerate(zip(spans, learning, strict=True))
        )
    )


def _ruled(plan: Plan, rule: AutoRGN | AutoSNR) -> Plan:
    """The faithful mode takes BatchNorm's statistics and weight decay from the reference, too."""
    decay = 1e-4 if rule.faithful else 0.0
    return _each(plan, rates=rule, eval_batchnorm=rule.faithful, weight_decay=decay)


def _each(plan: Plan, **changes) -> Plan:
    return replace(plan, phases=tuple(replace(phase, **changes) for phase in plan.phases))


def _at_least(epochs: int, needed: int, strategy: str, why: str) -> None:
    if epochs < needed:
        raise BadInput(f"{strategy} needs at least {needed} epochs ({why}), not {epochs}.")


def describe(strategy: str) -> dict:
    """{name, source, summary, equation, knobs}: the papers, and `ftlab.signatures.describe`."""
    function = find(strategy)
    return {"name": strategy, "source": SOURCES[function], **signatures.describe(function)}


def parse_names(names: Iterable[str]) -> list[str]:
    """Strategy names as given by a person; "all" is every strategy, "davila" the paper's eight."""
    chosen: list[str] = []
    for name in names:
        chosen += {"all": list(STRATEGIES), "davila": list(DAVILA)}.get(name) or [name]
    for name in chosen:
        find(name)
    return list(dict.fromkeys(chosen))
