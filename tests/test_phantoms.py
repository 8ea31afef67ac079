"""The phantoms keep what their documentation says: seeds, masks, groups, distractors."""

import csv
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from ftlab.phantoms import EDITION, MODALITIES, ROUNDS, draw, phantom, sheet, write
from ftlab.phantoms.drawing import Scene
from ftlab.records import BadInput

SIZE = 64  # drawings scale, so small ones show the same laws sooner
HEALTHY = {"normal", "none"}
EDITION_2 = {  # mean grey of pictures and of pictures without lesions, share of lesions in %
    "chest_xray": (150.58, 148.85, 3.01),
    "brain_mri": (77.46, 77.29, 2.46),
    "histology": (180.06, 182.88, 13.48),
    "dermoscopy": (135.56, 142.91, 14.29),
    "endoscopy": (95.47, 98.71, 23.66),
}
every_modality = pytest.mark.parametrize("modality", list(MODALITIES))


def total(modality, per_class):
    return per_class * len(MODALITIES[modality].classes)


@pytest.fixture(scope="module")
def drawn():
    """Four whole rounds of patients of each modality."""
    return {name: list(draw(name, 4 * ROUNDS, 3, SIZE)) for name in MODALITIES}


@every_modality
def test_an_image_depends_on_its_number_alone(modality, drawn):
    few = list(draw(modality, 2, 3, SIZE))
    for index, one in enumerate(few):
        many = drawn[modality][index]
        assert np.array_equal(one.pixels, many.pixels) and np.array_equal(one.mask, many.mask)
        assert (one.label, one.group, one.marked) == (many.label, many.group, many.marked)
    again = phantom(modality, 3, 5, SIZE)
    assert np.array_equal(again.pixels, drawn[modality][5].pixels)


@every_modality
def test_another_drawing_is_another_edition(modality, drawn):
    """Data sets, studies and kept features know a drawing by its edition and not by its pixels."""
    means = [(p.pixels.mean(), p.healthy.mean(), 100 * p.mask.mean()) for p in drawn[modality]]
    assert EDITION == 2 and np.mean(means, axis=0) == pytest.approx(EDITION_2[modality], abs=0.02)


@every_modality
def test_another_seed_gives_other_images_and_other_patients(modality, drawn):
    other = next(draw(modality, 1, 4, SIZE))
    assert not np.array_equal(other.healthy, drawn[modality][0].healthy)


@every_modality
def test_images_are_rgb_bytes_and_masks_are_bool(modality, drawn):
    for image in drawn[modality]:
        assert image.pixels.shape == image.healthy.shape == (SIZE, SIZE, 3)
        assert image.pixels.dtype == image.healthy.dtype == np.uint8
        assert image.mask.shape == (SIZE, SIZE) and image.mask.dtype == bool


@every_modality
def test_the_lesion_changes_the_image_inside_its_mask_and_nowhere_else(modality, drawn):
    for image in drawn[modality]:
        changed = (image.pixels != image.healthy).any(axis=-1)
        assert not (changed & ~image.mask).any()
        assert changed.sum() >= 0.6 * image.mask.sum()


@every_modality
def test_masks_are_empty_exactly_where_nothing_is_wrong(modality, drawn):
    for image in drawn[modality]:
        assert image.mask.any() == (image.label not in HEALTHY)
        assert image.mask.mean() < 0.8


@every_modality
def test_without_its_lesion_an_image_does_not_know_its_class(modality, monkeypatch):
    """The same dice thrown for another class give the same healthy picture, bit for bit."""
    kind = MODALITIES[modality]
    seen = {}

    def paint(label, marked, dice, size):
        states = [getattr(dice, name).bit_generator.state for name in vars(dice)]
        for other in kind.classes:
            for name, state in zip(vars(dice), states, strict=True):
                getattr(dice, name).bit_generator.state = state
            seen[other] = kind.paint(other, marked, dice, size)
        return seen[label]

    monkeypatch.setitem(MODALITIES, modality, type(kind)(**{**vars(kind), "paint": paint}))
    image = phantom(modality, 3, 1, SIZE)
    assert len(seen) == len(kind.classes)
    for scene in seen.values():
        assert np.array_equal(scene.healthy, image.healthy)
    filled = [np.where(s.mask[..., None], s.healthy, s.pixels) for s in seen.values()]
    assert all(np.array_equal(f, image.healthy) for f in filled)
    assert len({s.pixels.tobytes() for s in seen.values()}) == len(kind.classes)


@every_modality
@pytest.mark.parametrize("per_class", [2, 4, 8])
def test_classes_are_balanced_and_no_group_stands_alone(modality, per_class, drawn):
    images = list(islice(drawn[modality], total(modality, per_class)))
    labels = [image.label for image in images]
    assert {labels.count(name) for name in MODALITIES[modality].classes} == {per_class}
    groups = [image.group for image in images]
    assert min(groups.count(name) for name in groups) >= 2


@every_modality
def test_a_whole_group_holds_two_images_each_of_two_classes(modality, drawn):
    for group in {image.group for image in drawn[modality]}:
        labels = [image.label for image in drawn[modality] if image.group == group]
        assert sorted(labels.count(name) for name in set(labels)) == [2, 2]


@every_modality
def test_images_of_one_group_are_more_alike_than_those_of_different_groups(modality, drawn):
    """By the cosine at 8 pixels of what sets the healthy pictures apart from their mean."""
    small = np.array(
        [
            np.array(Image.fromarray(image.healthy).resize((8, 8), Image.Resampling.BOX)).ravel()
            for image in drawn[modality]
        ],
        dtype=float,
    )
    groups = np.array([image.group for image in drawn[modality]])
    apart_from_mean = small - small.mean(axis=0)
    directions = apart_from_mean / np.linalg.norm(apart_from_mean, axis=1, keepdims=True)
    alike = directions @ directions.T
    same = groups[:, None] == groups
    another = ~np.eye(len(groups), dtype=bool)
    assert alike[same & another].mean() > alike[~same].mean() + 0.05


@every_modality
def test_the_distractor_goes_with_classes_as_often_as_documented_and_decides_none(modality):
    """Of 400 images a class; 0.08 is 3.5 standard deviations of such a share."""
    kind = MODALITIES[modality]
    assert {0.3, 0.7} == set(kind.rates.values())
    chances = {name: [] for name in kind.classes}
    quick = type(kind)(**{**vars(kind), "paint": _note(chances)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODALITIES, modality, quick)
        for _ in draw(modality, 400, 0):
            pass
    for name, seen in chances.items():
        assert abs(np.mean(seen) - kind.rates[name]) < 0.08


def _note(chances):
    scene = Scene(*[np.zeros((1, 1))] * 3)

    def paint(label, marked, dice, size):
        chances[label].append(marked)
        return scene

    return paint


@every_modality
def test_the_distractor_is_seen_where_it_is_said_to_be(modality, monkeypatch):
    """The same dice with and without it give different healthy pictures."""
    kind = MODALITIES[modality]
    pictures = []
    for rate in (0.0, 1.0):
        rates = dict.fromkeys(kind.classes, rate)
        monkeypatch.setitem(MODALITIES, modality, type(kind)(**{**vars(kind), "rates": rates}))
        pictures.append(phantom(modality, 3, 0, SIZE).healthy.astype(int))
    assert (np.abs(pictures[0] - pictures[1]) > 10).any(axis=-1).mean() > 0.005


@pytest.mark.parametrize("modality", ["chest_xray", "brain_mri"])
def test_grey_modalities_have_equal_channels(modality, drawn):
    for image in drawn[modality]:
        assert (image.pixels == image.pixels[..., :1]).all()


@every_modality
def test_a_contact_sheet_shows_every_class_and_outlines_only_the_lesions(modality):
    picture = sheet(modality, 2, 0, 48)
    classes = MODALITIES[modality].classes
    assert picture.shape == (48 * len(classes), 4 * 48, 3) and picture.std() > 10
    plain, outlined = np.split(picture, 2, axis=1)
    for name, a, b in zip(
        classes, np.split(plain, len(classes)), np.split(outlined, len(classes)), strict=True
    ):
        assert (a != b).any() == (name not in HEALTHY)


def test_what_is_written_can_be_read_back_by_its_table(tmp_path):
    seen = []
    write("dermoscopy", tmp_path, 2, 3, progress=lambda done, total: seen.append((done, total)))
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert seen == [(n, 6) for n in range(1, 7)] and len(rows) == 6
    for row, image in zip(rows, draw("dermoscopy", 2, 3), strict=True):
        assert np.array_equal(np.array(Image.open(tmp_path / row["file"])), image.pixels)
        assert np.array_equal(np.array(Image.open(tmp_path / row["mask"])), image.mask)
        assert (row["label"], row["group"]) == (image.label, image.group)
        assert row["file"].startswith(f"{image.label}/") and row["marked"] == str(int(image.marked))


def test_more_processes_write_the_same_files(tmp_path):
    for processes in (1, 2):
        write("chest_xray", tmp_path / str(processes), 1, 3, processes=processes)
    one, two = (sorted((tmp_path / name).rglob("*.*")) for name in "12")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two] and len(one) == 9


def test_an_unknown_modality_is_refused_in_one_sentence():
    with pytest.raises(BadInput, match="There is no phantom 'ultrasound'; there are chest_xray"):
        next(draw("ultrasound", 1, 0))
