"""What a strategy's function says of itself: its knobs, what each takes, and its docstring's words.

A docstring is one sentence (an equation stands behind ":  " in it), then prose, then a line
"knob: help" a knob. The command line and the app show what is written there and nothing else, so a
new strategy appears in both when its function is there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from .records import BadInput

Mode = Literal["practical", "faithful"]  # of a rate rule


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# A knob's annotation -> its kind, whether a value can be used, and what can. Names of stages and
# whether a unit exists are for the strategies themselves to say.
KINDS: dict[str, tuple[str, Callable[[object], bool], str]] = {
    "float": ("number", lambda v: _number(v) and 0 <= v < float("inf"), "a number from 0 on"),
    "bool": ("flag", lambda v: isinstance(v, bool), "true or false"),
    "int | None": ("unit", lambda v: v is None or type(v) is int, "a unit's number"),
    "str | None": ("stage", lambda v: True, "a stage's name"),
    "Mode": ("choice", lambda v: v in get_args(Mode), " or ".join(get_args(Mode))),
}


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """The knobs of a strategy: what its function takes beyond layout and epochs."""
    known = inspect.signature(function).parameters
    return {n: p for n, p in known.items() if n not in ("layout", "epochs")}


def check(function: Callable, given: Mapping[str, object]) -> None:
    """Refuse knobs that a strategy does not have, and values that no knob of the kind takes.

    Raises:
        BadInput: the first of them.
    """
    known, strategy = parameters(function), function.__name__
    for name, value in given.items():
        if name not in known:
            raise BadInput(f"{strategy} has no knob {name!r}; it has {', '.join(known)}.")
        _, usable, what = KINDS[known[name].annotation]
        if not usable(value):
            raise BadInput(f"{strategy}'s {name} takes {what}, not {value!r}.")


def describe(function: Callable) -> dict:
    """{name, summary, equation, knobs: [{name, default, kind, choices, help}]}

    summary: the docstring's first sentence; equation: the part of it behind ":  ", or None.
    kind: number, flag, unit (a number or None), stage (a name or None) or choice; choices: those
    of a choice, else None.
    """
    text = inspect.getdoc(function)
    summary = text.split("\n\n")[0].replace("\n", " ")
    equation = re.search(r":  (.+?)(?:  \(.*)?\.$", summary)
    helps = dict(re.findall(r"^(\w+): (.+(?:\n    .+)*)", text, re.M))
    knobs = []
    for name, parameter in parameters(function).items():
        kind = KINDS[parameter.annotation][0]
        knob = {"name": name, "default": parameter.default, "kind": kind}
        knob["choices"] = list(get_args(Mode)) if kind == "choice" else None
        knobs.append({**knob, "help": " ".join(helps[name].split())})
    found = {"name": function.__name__, "summary": summary}
    return {**found, "equation": equation and equation[1], "knobs": knobs}
