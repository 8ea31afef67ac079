"""The search for a unit: its rule on Peng et al.'s own logs, its costs, and a study that grows."""

import json

import numpy as np
import pytest
from conftest import TINY
from tiny import QUICK, answer_bits, ask, bands, command, json_lines, states, trained, work

from ftlab import backbones, costs, files, reading, schedule, search, strategies, studies
from ftlab.commands import app
from ftlab.lab import Lab
from ftlab.modes import PUBLIC
from ftlab.people import People
from ftlab.records import BadInput, Layout, Question, Search, Settings, Stage

RESNET50 = Layout(
    (
        Stage("stem", (1,)),
        Stage("layer1", (2, 3, 4)),
        Stage("layer2", (5, 6, 7, 8)),
        Stage("layer3", (9, 10, 11, 12, 13, 14)),
        Stage("layer4", (15, 16, 17)),
        Stage("head"),
    )
)
# Average AUPRC, per cent, of three splits of BIMCV, from the training logs of Peng et al.'s
# repository: TTL cut after unit 1 to 17 (pooled head); LWFT frozen through unit 1 to 17; TF slim
# from their unit 1 to 16, which begin behind our unit 1 (slim from our unit 3 to 18 has no room
# for the last, so that theirs of 1 to 15 are ours of 3 to 17).
TTL = [48.1, 66.1, 71.7, 76.3, 79.5, 83.8, 85.0, 85.7, 86.8]
TTL += [86.6, 86.4, 87.1, 86.5, 86.0, 86.1, 85.7, 85.7]
LWFT = [86.1, 85.6, 85.4, 86.1, 85.3, 85.8, 85.4, 85.4, 84.9]
LWFT += [84.9, 84.7, 84.8, 84.4, 83.2, 81.0, 81.1, 70.8]
TF = [64.9, 69.1, 69.4, 76.6, 80.8, 79.6, 83.2, 84.8, 85.4, 85.3, 85.7, 86.0, 86.2, 86.3, 86.2]


def searched(how: Search, scores: dict[int, float], layout=RESNET50):
    """(winner of the first stage, answer, units trained) of a search whose runs score as told."""
    ended: dict[int, float | None] = {}
    while wanted := [u for u in search.steps(how, layout, ended) if u not in ended]:
        ended |= {unit: scores[unit] for unit in wanted}
    return search.winner_of(how, layout, ended), search.best(how.strategy, ended), len(ended)


def test_on_peng_et_als_logs_the_search_cuts_after_14_and_then_after_12():
    assert searched(Search("truncated"), dict(enumerate(TTL, 1))) == (14, 12, 11)
