"""Saliency maps over pictures and against masks."""

from __future__ import annotations

import numpy as np
import pytest

from ftlab.maps import colours, mask_scores, overlay

RNG = np.random.default_rng(0)


def test_a_picture_without_evidence_stays_as_it_was():
    picture = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(picture, np.zeros((7, 7), np.float32)), picture)


def test_where_evidence_is_most_the_colour_is_the_scales_last():
    picture = np.zeros((20, 20, 3), np.uint8)
    painted = overlay(picture, np.ones((5, 5), np.float32), opacity=1.0)
    np.testing.assert_array_equal(painted[10, 10], np.round(colours()[-1]))
    half = np.zeros((1, 2), np.float32)
    half[0, 1] = 1
    painted = overlay(picture, half)
    assert not painted[:, 0].any() and painted[:, -1].any()


def test_lightness_rises_with_the_evidence():
    light = colours() @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()


def test_the_colours_are_inferno():
    matplotlib = pytest.importorskip("matplotlib")
    inferno = 255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]
    assert np.abs(colours() - inferno).max() < 10


def test_scores_by_hand():
    map = np.zeros((4, 4), np.float32)
    map[0, :2], map[3, 3] = (3, 2), 1
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    scores = mask_scores(map, mask)
    assert scores == {"energy": pytest.approx(5 / 6), "pointing": True, "iou": 0.5}
    assert mask_scores(map, ~mask) == {
        "energy": pytest.approx(1 / 6),
        "pointing": False,
        "iou": pytest.approx(1 / 14),
    }


def test_an_empty_map_points_nowhere():
    mask = np.eye(4, dtype=bool)
    none = {"energy": None, "pointing": False, "iou": 0.0}
    assert mask_scores(np.zeros((4, 4), np.float32), mask) == none


def test_an_even_map_has_the_masks_share_of_energy():
    mask = np.zeros((10, 10), bool)
    mask[:3, :4] = True
    scores = mask_scores(np.ones((10, 10), np.float32), mask)
    assert scores == {"energy": pytest.approx(0.12), "pointing": False, "iou": pytest.approx(0.12)}


def test_the_best_threshold_is_the_best_of_all():
    for levels in (3, 20, 1000):
        map = (RNG.integers(0, levels, (12, 12)) / levels).astype(np.float32)
        mask = RNG.random((12, 12)) < 0.3
        best = max(
            ((map >= t) & mask).sum() / ((map >= t) | mask).sum() for t in np.unique(map) if t > 0
        )
        assert mask_scores(map, mask)["iou"] == pytest.approx(best)
