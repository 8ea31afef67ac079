"""Splits keep groups whole and classes in proportion; duplicates are found and look-alikes not."""

from io import BytesIO

import numpy as np
import pytest
from dirty import noise, png, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ftlab.datasets import import_dataset, read_image, report
from ftlab.datasets.checks import clusters, duplicates, fingerprint, trusted
from ftlab.datasets.splits import NAMES, assign
from ftlab.records import BadInput

FRACTIONS = dict(zip(NAMES, (0.64, 0.16, 0.20), strict=True))


def share(split, labels, name, label):
    return ((split == name) & (labels == label)).sum()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(6, 60), min_size=2, max_size=5), st.integers(0, 99))
def test_without_groups_every_class_comes_within_one_image_of_its_share(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = assign(labels, np.arange(len(labels)), FRACTIONS, seed)
    for label, size in enumerate(sizes):
        for name, fraction in FRACTIONS.items():
            n = share(split, labels, name, label)
            # the floor of two images per split moves small classes by up to one more
            assert n >= 2 and abs(n - fraction * size) <= (1.01 if size >= 13 else 2.2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(2, 4))
def test_a_group_never_straddles_and_fractions_stay_near(seed, largest, classes):
    chance = np.random.default_rng(seed)
    sizes = chance.integers(1, largest + 1, 60)
    groups = np.repeat(np.arange(60), sizes)
    labels = np.repeat(chance.integers(0, classes, 60), sizes)
    labels = np.unique(labels, return_inverse=True)[1]
    split = assign(labels, groups, FRACTIONS, seed)
    assert all(len(set(split[groups == g])) == 1 for g in range(60))
    for name, fraction in FRACTIONS.items():
        assert abs((split == name).sum() - fraction * len(labels)) <= classes * largest
    assert np.array_equal(split, assign(labels, groups, FRACTIONS, seed))


def test_three_groups_of_a_class_reach_three_splits_though_greed_would_not():
    labels = np.array([0] * 15 + [1] * 60)
    groups = np.concatenate([np.repeat([0, 1, 2], 5), np.arange(10, 70)])
    split = assign(labels, groups, FRACTIONS, 0)
    assert [share(split, labels, name, 0) for name in NAMES] == [5, 5, 5]


def test_a_giant_group_goes_to_train_and_the_rest_fills_the_others():
    groups = np.concatenate([np.zeros(60, int), np.arange(1, 41)])
    labels = np.arange(100) % 2
    split = assign(labels, groups, FRACTIONS, 0)
    assert set(split[:60]) == {"train"}
    assert [(split == name).sum() for name in NAMES] == [64, 16, 20]


def test_a_class_of_two_patients_is_refused_with_the_count_of_groups(tmp_path):
    source = tree(tmp_path / "in", 12)
    rows = [f"{c}/{n}.png,{c},{c}{n // (6 if c == 'cat' else 1)}" for c in ("cat", "dog")
            for n in range(12)]  # fmt: skip
    (source / "labels.csv").write_text("path,label,group\n" + "\n".join(rows))
    with pytest.raises(BadInput, match="'cat'.*from 2 groups, which stay whole"):
        import_dataset(tmp_path / "data", str(source), "x", group_column="group")


def test_test_images_of_one_video_are_refused_and_of_few_a_warning(tmp_path):
    source = tree(tmp_path / "in", 40)
    for videos in (3, 12):
        rows = [f"{c}/{n}.png,{c},{n % videos}" for c in ("cat", "dog") for n in range(40)]
        (source / "labels.csv").write_text("path,label,group\n" + "\n".join(rows))
        if videos == 3:
            with pytest.raises(BadInput, match="All test images are of one group"):
                import_dataset(tmp_path / "data", str(source), "x", group_column="group")
        else:
            made = import_dataset(tmp_path / "data", str(source), "x", group_column="group")
            assert len(set(made.groups[made.splits == "test"])) in (2, 3)
            assert any("so few say little of others" in w for w in report(made)["warnings"])


def test_test_patients_who_share_a_copy_are_one_group_and_refused(tmp_path):
    source = tree(tmp_path / "in", 12)
    copied = (source / "cat" / "0.png").read_bytes()
    (source / "cat" / "1.png").write_bytes(copied)
    rows = [f"{c}/{n}.png,{c},{n},{'test' if n < 2 else 'train'}" for c in ("cat", "dog")
            for n in range(12)]  # fmt: skip
    (source / "labels.csv").write_text("path,label,patient,split\n" + "\n".join(rows))
    with pytest.raises(BadInput, match="All test images are of one group.*copies of one another"):
        import_dataset(tmp_path / "data", str(source), "x")


# ---- duplicates ----


def scene(seed, size=96):
    """A smooth picture with structure at all scales, as photographs have."""
    chance = np.random.default_rng(seed)
    layers = sum(
        np.asarray(
            Image.fromarray(chance.integers(0, 256, (n, n, 3), np.uint8)).resize((size, size), 3),
            float,
        )
        for n in (3, 6, 12)
    )
    return (layers / 3).astype(np.uint8)


def again(pixels, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    file.seek(0)
    return read_image(file).pixels


def pairs(found):
    return {tuple(sorted(pair)) for pair in found.tolist()}


def test_copies_resaved_and_resized_are_found_and_nothing_else():
    pictures = [scene(n) for n in range(20)]
    small = np.asarray(Image.fromarray(pictures[3]).resize((48, 48)))
    pictures += [pictures[0].copy(), again(pictures[1], quality=60), small, pictures[0].copy()]
    exact, near = duplicates([fingerprint(p) for p in pictures])
    assert pairs(exact) == {(0, 20), (0, 23)}
    assert pairs(near) == {(1, 21), (3, 22)}


def test_the_same_pixels_in_another_format_are_an_exact_copy(tmp_path):
    source = tree(tmp_path / "in")
    Image.fromarray(noise(0)).save(source / "cat" / "copy.bmp")
    assert report(import_dataset(tmp_path / "data", str(source), "x"))["duplicates"]["exact"] == 1


def test_constant_pictures_are_near_to_nothing():
    pictures = [np.full((16, 16, 3), level, np.uint8) for level in (0, 5, 250)]
    exact, near = duplicates([fingerprint(p) for p in pictures])
    assert len(exact) == len(near) == 0


def test_equal_shapes_matter_for_exact_copies():
    assert fingerprint(np.zeros((8, 18, 3), np.uint8)).pixels != (
        fingerprint(np.zeros((12, 12, 3), np.uint8)).pixels
    )


def test_pairs_connect_into_clusters():
    numbers = clusters(np.array([[0, 1], [1, 4], [2, 3]]), 6)
    assert len(set(numbers[[0, 1, 4]])) == 1 and numbers[2] == numbers[3]
    assert len(set(numbers)) == 3


def test_a_chain_of_look_alikes_is_not_kept_together_but_its_copies_are():
    chain = np.stack([np.arange(40), np.arange(1, 41)], axis=1)  # 41 of 100 images
    exact, small = np.array([[0, 50]]), np.array([[60, 61]])
    kept = trusted(exact, np.concatenate([chain, small]), 100)
    assert pairs(kept) == {(0, 50), (60, 61)}


def test_duplicates_share_a_split_and_contradicting_labels_are_a_warning(tmp_path):
    source = tree(tmp_path / "in", 20)
    for n in range(5):
        (source / "dog" / f"copy{n}.png").write_bytes(png(noise(n)))  # cats 0 to 4 again
    ds = import_dataset(tmp_path / "data", str(source), "x")
    told = report(ds)
    assert told["duplicates"]["differing_labels"] == 5
    assert told["duplicates"]["across_splits"] == 0
    assert any("5 pairs of duplicates have different labels" in w for w in told["warnings"])
    assert len(np.unique(ds.groups)) == len(ds.files) - 5, "for intervals a copy is no other image"
    assert told["groups"] is None and not told["own_splits"]
