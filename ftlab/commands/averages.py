"""Averages of finished networks."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import console
from ..records import BadInput
from . import Json, Study, command, lab


@command
def average(
    study: Study,
    name: Annotated[str, typer.Argument(help="What to call the study of averages.")],
    strategy: Annotated[list[str], typer.Option(help="Whose runs; one or several for --soup.")],
    soup: Annotated[
        bool,
        typer.Option("--soup", help="Uniform and greedy soup, of strategies or of one's seeds."),
    ] = False,
    alpha: Annotated[
        list[float] | None,
        typer.Option(help="Share of the fine-tuned network; 0.25, 0.5 and 0.75 unless told."),
    ] = None,
    json: Json = False,
):
    """Average finished networks instead of training: WiSE-FT, or soups. Nothing is trained.

    Without --soup, between theta_0 under the linear probe's head and the strategy's network.
    """
    from ..averaging import ALPHAS

    if soup and alpha:
        raise BadInput("--alpha is of WiSE-FT: leave it away with --soup.")
    answer = lab().average(study, name, strategy, alphas=None if soup else alpha or ALPHAS)
    if json:
        return console.emit(answer)
    console.runs_table(answer["runs"])
    return console.leaderboard(answer)
