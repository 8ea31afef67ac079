"""The command line's commands, one module an idea; what they share stands here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console
from ..records import BadInput

if TYPE_CHECKING:
    from ..lab import Lab

app = typer.Typer(
    help="Which fine-tuning strategy should I use, and what does it change? Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Backbone = Annotated[str, typer.Option(help="A name of `ftlab backbones`, or a timm CNN.")]
Data = Annotated[str, typer.Argument(help="A data set of `ftlab datasets`.")]
Study = Annotated[str, typer.Argument(help="A study of `ftlab studies`.")]
Knobs = Annotated[list[str] | None, typer.Option("--set", help="strategy.knob=value; repeatable.")]


def lab() -> Lab:
    """The lab of this environment; imported late, so that `--help` costs nothing."""
    from ..lab import Lab

    return Lab.at_home()


def command(function: Callable) -> Callable:
    """Register a command; bad input and a failing disk end it with a sentence and exit code 2."""

    @wraps(function)
    def run(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except BrokenPipeError:  # `ftlab runs | head`
            raise
        except BadInput as error:
            console.say(str(error), err=True)
        except OSError as error:
            from ..files import in_words

            console.say(in_words(error), err=True)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        raise typer.Exit(2)

    return app.command(name=function.__name__.rstrip("_"))(run)


def counter(what: str) -> Callable[[int, int], None]:
    """Something that shows `what 3 of 7` where a person looks on."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else "\r"
            print(f"{what} {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show


def parse_knobs(texts: list[str], strategy: str | None = None) -> dict[str, dict]:
    """strategy -> knob -> value of texts `strategy.knob=value`, or `knob=value` of the one given.

    Raises:
        BadInput: a text is not of that form.
    """
    knobs: dict[str, dict] = {}
    for text in texts:
        where, equals, value = text.partition("=")
        own, dot, knob = where.rpartition(".")
        own = own or strategy
        if not (own and knob and equals and value):
            form = f"{'' if strategy else 'strategy.'}knob=value"
            raise BadInput(f"--set takes {form}, not {text!r}.")
        knobs.setdefault(own, {})[knob] = _value(value)
    return knobs


def _value(text: str) -> bool | int | float | str:
    """A knob's value as Python would read it where it is a number or a flag."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
