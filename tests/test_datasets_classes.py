"""Of two classes the positive one is the last, whatever the alphabet says."""

import pytest
from dirty import tree

from ftlab.datasets import import_dataset
from ftlab.datasets.classes import ordered
from ftlab.records import BadInput


@pytest.mark.parametrize(
    "classes",
    [
        ("normal", "abnormal"),
        ("NORMAL", "COVID"),
        ("healthy", "disease"),
        ("benign", "atypical"),
        ("no_tumor", "glioma"),
        ("notumor", "meningioma"),
        ("No finding", "Cardiomegaly"),
        ("control", "case"),
        ("noncancer", "cancer"),
        ("NonDemented", "Demented"),
        ("Uninfected", "Parasitized"),
        ("negative", "malignant"),
        ("0", "1"),
        ("2", "10"),
        ("bird", "cat"),  # neither says that nothing is there: by name
        ("healthy", "normal"),  # both do
        ("carcinoma", "nodule"),  # begins with no, and says nothing of the kind
    ],
)
def test_what_says_that_nothing_is_there_comes_first(classes):
    assert ordered(set(classes)) == list(classes)
    assert ordered(set(classes), positive=classes[0]) == list(classes[::-1])


def test_more_classes_stay_in_their_order():
    assert ordered({"normal", "cat", "abnormal"}) == ["abnormal", "cat", "normal"]
    assert ordered({"10", "9", "0"}) == ["0", "9", "10"]


@pytest.mark.parametrize("names", [{"a", "b", "c"}, {"a", "d"}])
def test_a_positive_class_is_one_of_two(names):
    with pytest.raises(BadInput, match="--positive takes one of two classes; there are a, "):
        ordered(names, positive="b" if len(names) == 3 else "x")


def test_an_import_numbers_the_positive_class_last(tmp_path):
    source = tree(tmp_path / "in", classes=("abnormal", "normal"))
    made = import_dataset(tmp_path / "data", str(source), "x")
    assert made.classes == ("normal", "abnormal")
    made = import_dataset(tmp_path / "data", str(source), "y", positive="normal")
    assert made.classes == ("abnormal", "normal")
