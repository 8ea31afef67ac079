"""The curve of a search: how good each unit is to cut, freeze or slim at, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape as esc
from operator import itemgetter

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .charts import FAINT, GREY, ORANGE, TEAL, Chart, bare, known, say
from .parts import NONE, amount, interval, percent

ASKED = {  # strategy -> the question, what a unit is to it
    "truncated": ("Where to cut", "unit after which the network ends"),
    "layer_wise": ("How much to freeze", "unit through which the network is frozen"),
    "transfusion": ("Where to slim", "unit from which on the network is half as wide and new"),
}
PARAMETERS = {"parameters": "parameters", "trained_parameters": "learned parameters"}
COSTS: dict[str, tuple[Callable[[Mapping], float | None], str, str]] = {
    **{name: (itemgetter(key), "solid", "circle") for key, name in PARAMETERS.items()},
    "MACs": (lambda point: point["macs"], "dash", "diamond"),
    "latency": (lambda point: (point["latency"] or {}).get("1"), "dot", "square"),
}
SIGNS = {"circle": "●", "diamond": "◆", "square": "■"}


def curve(record: Mapping) -> Chart:
    """Validation and test against the unit, above what each costs.

    Args:
        record: {study, strategy, backbone, metric, how, done, seeds, points: [{unit, stage, label,
            step, val: {mean, low, high}, test: {balanced_accuracy: {mean, low, high}, ...},
            parameters, macs, stored_bytes, latency: {"1": ms, "32": ms} or None, pareto,
            trained}], coarse, chosen, chosen_runs, trained, of, share_of_cost, ranking,
            pareto_by}, of `Lab.cuts`.
    """
    points = sorted(record["points"], key=lambda point: point["unit"])
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.1, row_heights=[0.62, 0.38])
    tried = [point for point in points if point["trained"] and _mean(point["val"])]
    tests = _tests(tried, record["metric"])
    figure.add_traces([_joined(tried), _dots(tried), tests], rows=1, cols=1)
    parameters = PARAMETERS[record["pareto_by"]]
    figure.add_traces(_costs(points, [parameters, "MACs", "latency"]), rows=2, cols=1)
    _mark(figure, record)
    name = record["metric"].replace("_", " ")
    state = "" if record["done"] else f"not done: {record['trained']} of {record['of']} trained · "
    subtitle = (
        f"{esc(record['study'])}, {esc(record['strategy'])}, {esc(record['backbone'])} · {state}"
        f"{esc(str(record['how']))}"
    )
    question, unit = ASKED[record["strategy"]]
    bare(figure, f"{question}: {esc(name)} and cost by unit", subtitle, 560, r=130)
    figure.update_yaxes(title_text=f"{name}, %", row=1, col=1)
    figure.update_yaxes(title_text="cost, % of the most", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(
        title_text=unit,
        tickvals=[p["unit"] for p in points],
        row=2,
        col=1,
    )
    return Chart(figure, _reading(record), [_fact(point, record) for point in points])


def _mean(estimate: Mapping | None) -> bool:
    return bool(estimate) and known(estimate["mean"])


def _joined(points: Sequence[Mapping]) -> go.Scatter:
    return go.Scatter(
        x=[p["unit"] for p in points],
        y=[100 * p["val"]["mean"] for p in points],
        mode="lines",
        line=dict(color=FAINT, width=1.5),
        hoverinfo="skip",
    )


def _dots(points: Sequence[Mapping]) -> go.Scatter:
    """Validation means with their intervals; filled where on the Pareto front."""
    means = [100 * p["val"]["mean"] for p in points]
    lines = {end: [_end(p["val"], end) for p in points] for end in ("low", "high")}
    return go.Scatter(
        x=[p["unit"] for p in points],
        y=means,
        mode="markers",
        marker=dict(
            color=[TEAL if p["pareto"] else GREY for p in points],
            symbol=["circle" if p["pareto"] else "circle-open" for p in points],
            size=10,
        ),
        error_y=dict(
            type="data",
            symmetric=False,
            array=[high - mean for high, mean in zip(lines["high"], means, strict=True)],
            arrayminus=[mean - low for low, mean in zip(lines["low"], means, strict=True)],
            color=GREY,
            thickness=1.2,
            width=0,
        ),
        text=[f"{esc(str(p['label']))}: {interval(p['val'])} on validation" for p in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _end(estimate: Mapping, end: str) -> float:
    """An end of an interval in per cent; of a single seed, which has none, the mean."""
    return 100 * (estimate[end] if known(estimate[end]) else estimate["mean"])


def _tests(points: Sequence[Mapping], metric: str) -> go.Scatter:
    """What the test set says by the same metric, small and apart: it did not choose."""
    read = [(p, value) for p in points if known(value := _tested(p, metric))]
    return go.Scatter(
        x=[p["unit"] for p, _ in read],
        y=[100 * value for _, value in read],
        mode="markers",
        marker=dict(color=ORANGE, symbol="diamond", size=8),
        text=[f"{esc(str(p['label']))}: {percent(value)} on test" for p, value in read],
        hovertemplate="%{text}<extra></extra>",
    )


def _tested(point: Mapping, metric: str) -> float | None:
    """The mean of a metric on the test set; None where it is not known."""
    value = (point["test"] or {}).get(metric)
    return value["mean"] if isinstance(value, Mapping) else value


def _costs(points: Sequence[Mapping], names: Sequence[str]) -> list[go.Scatter]:
    """Each of those costs in per cent of its largest value; what was not measured has no line."""
    traces = []
    for name in names:
        value, dash, symbol = COSTS[name]
        have = [(p, value(p)) for p in points if known(value(p))]
        most = max((cost for _, cost in have), default=0)
        if most:
            traces.append(
                go.Scatter(
                    x=[p["unit"] for p, _ in have],
                    y=[100 * cost / most for _, cost in have],
                    mode="lines+markers",
                    line=dict(color=TEAL if dash == "solid" else GREY, dash=dash, width=1.8),
                    marker=dict(symbol=symbol, size=6),
                    name=name,
                    hovertemplate=f"{name}: %{{y:.0f}} % of the most<extra></extra>",
                )
            )
    return traces


def _mark(figure: go.Figure, record: Mapping) -> None:
    """Upright lines at the best of the coarse step and at the unit chosen; the costs' names."""
    coarse, chosen = record["coarse"], record["chosen"]
    marks = {coarse: ["coarse"]} if coarse is not None else {}
    if chosen is not None:
        marks[chosen] = [*marks.get(chosen, []), "chosen"]
    for unit, words in marks.items():
        look = (TEAL, "solid") if "chosen" in words else (GREY, "dot")
        figure.add_vline(x=unit, line=dict(color=look[0], dash=look[1], width=1.5))
        figure.add_annotation(
            say(unit, 1, " and ".join(words), yref="y domain", yanchor="bottom", xref="x")
        )
    for place, trace in enumerate(figure.data[3:]):  # all end at 100: one name below the other
        sign = f'<span style="color:{trace.line.color}">{SIGNS[trace.marker.symbol]}</span>'
        named = say(1.01, 1 - 0.2 * place, f"{sign} {trace.name}", xref="paper", yref="y2 domain")
        figure.add_annotation(named)
    if figure.data[2].x:
        figure.add_annotation(
            say(1.01, 1, f'<span style="color:{ORANGE}">◆</span> test', xref="paper", yref="paper")
        )


def _reading(record: Mapping) -> str:
    said = (
        "A dot is the mean on validation with its interval, filled where no cheaper one is as "
        "good; ◆ is the test set, which chose nothing. Upright lines are the best unit of the "
        "coarse step and the one chosen. Below, each cost as a share of the largest."
    )
    if known(record["share_of_cost"]):
        said += f" The search cost {percent(record['share_of_cost'], 0)} of trying every unit."
    return said


def _fact(point: Mapping, record: Mapping) -> dict:
    test = point["test"] or {}
    latency = point["latency"] or {}
    scores = {row["unit"]: row["score"] for row in record["ranking"] or ()}
    marks = [word for word in ("coarse", "chosen") if record[word] == point["unit"]]
    return {
        "candidate": point["label"],
        "unit": point["unit"],
        "step": point["step"],
        "validation": interval(point["val"]),
        "test": percent(_tested(point, record["metric"])),
        "test, balanced accuracy": interval(test.get("balanced_accuracy")),
        PARAMETERS[record["pareto_by"]]: amount(point[record["pareto_by"]]),
        "MACs": amount(point["macs"]),
        "stored": amount(point["stored_bytes"], "B"),
        "latency, 1 image": f"{latency['1']:.3g} ms" if known(latency.get("1")) else NONE,
        "latency, 32 images": f"{latency['32']:.3g} ms" if known(latency.get("32")) else NONE,
        "ranking score": f"{scores[point['unit']]:.3g}" if point["unit"] in scores else NONE,
        "not beaten in both": "yes" if point["pareto"] else "",
        "marked": " and ".join(marks),
    }
