"""Homes of several people: what they share, and what none can name of another's."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from tiny import QUICK, ask, bands, trained

from ftlab import homes, queue
from ftlab.lab import Lab
from ftlab.records import BadInput


@pytest.fixture
def lab(tmp_path):
    """A lab with a data set and a study, which its people share."""
    home = tmp_path / "home"
    home.mkdir()
    bands(home)
    ask(home, name="shown", settings=QUICK)
    return Lab(home)


def test_people_read_what_is_shared_and_cannot_change_it(lab):
    ann = lab.of("ann")
    assert [row["name"] for row in ann.datasets()] == [row["name"] for row in lab.datasets()]
    assert "shown" in [row["study"] for row in ann.studies()]
    (data,) = (row["name"] for row in lab.datasets())
    for name in (data, "shown"):
        with pytest.raises(BadInput, match="of your own to delete"):
            ann.delete(name)
    for verb in (ann.stop, ann.resume):
        with pytest.raises(BadInput, match="The study shown is shared: it can only be looked at"):
            verb("shown")


def test_a_home_is_made_once_by_questions_of_one_moment(tmp_path):
    together = Barrier(8)

    def first(owner: str):
        together.wait()
        return homes.personal(tmp_path, owner)

    with ThreadPoolExecutor(8) as threads:
        for owner in (f"visitor{n}" for n in range(60)):
            (own,) = set(threads.map(first, [owner] * 8))
            assert homes.trunk(own) == tmp_path.resolve()


def test_what_is_anothers_does_not_exist(lab):
    ann, ben = lab.of("ann"), lab.of("ben")
    (data,) = (row["name"] for row in lab.datasets())
    ask(ann.home, name="secret", settings=QUICK)
    bands(ann.home, name="hers")
    assert ann.check("hers")["name"] == "hers" and ann.watch("secret")["study"] == "secret"
    assert "hers" not in [row["name"] for row in ben.datasets() + lab.datasets()]
    assert "secret" not in [row["study"] for row in ben.studies() + lab.studies()]
    assert not [row for row in ben.runs() if row["study"] == "secret"]
    nobody = "There is no study 'nobody'"
    for name in ("secret", "../ann/checkpoints/secret", "people/ann/checkpoints/secret"):
        for verb in (ben.study_folder, ben.status, ben.watch, ben.stop, ben.resume, ben.evidence):
            with pytest.raises(BadInput) as error:
                verb(name)
            assert str(error.value).replace(repr(name), "'nobody'").startswith(nobody)
    for name in ("hers", "../../ann/data/hers"):
        with pytest.raises(BadInput, match="There is no data set"):
            ben.check(name)
        with pytest.raises(BadInput, match="of your own to delete"):
            ben.delete(name)


def test_a_name_that_is_shared_is_taken(lab, tmp_path):
    (data,) = (row["name"] for row in lab.datasets())
    with pytest.raises(BadInput, match="There is a data set"):
        lab.of("ann").import_data("phantom:chest_xray", data, per_class=5)


def test_what_two_people_call_the_same_stays_apart(lab):
    ann, ben = lab.of("ann"), lab.of("ben")
    for own in (ann, ben):
        ask(own.home, name="mine", settings=QUICK)
    ann.delete("mine")
    assert "mine" not in [row["study"] for row in ann.studies()]
    assert "mine" in [row["study"] for row in ben.studies()]


def test_what_a_study_of_one_of_the_people_needs_is_not_deleted(lab):
    ann = lab.of("ann")
    lab.delete("shown")
    ask(ann.home, name="hers", settings=QUICK)
    with pytest.raises(BadInput, match="The study hers still needs bands"):
        lab.delete("bands")
    ann.delete("hers")
    assert lab.delete("bands") == "data set"


def test_of_a_study_and_a_data_set_of_one_name_the_one_that_is_meant_is_deleted(lab):
    lab.delete("shown")
    ask(lab.home, name="bands", settings=QUICK)
    with pytest.raises(BadInput, match="bands is both a study and a data set: delete the one"):
        lab.delete("bands")
    with pytest.raises(BadInput, match="The study bands still needs bands"):
        lab.delete("bands", "data set")
    assert lab.delete("bands", "study") == "study"
    assert [row["name"] for row in lab.datasets()] == ["bands"]
    with pytest.raises(BadInput, match="There is no study 'bands' of your own to delete"):
        lab.delete("bands", "study")
    assert lab.delete("bands", "data set") == "data set" and not lab.datasets()


def test_a_plain_folder_called_shared_is_no_other_home(lab):
    (lab.home / "shared").mkdir()
    assert homes.trunk(lab.home) == lab.home.resolve()
    (row,) = [row for row in lab.datasets()]
    assert row["name"] == "bands"
    queue.add(lab.home, lab.home / "checkpoints" / "shown")
    assert [row["study"] for row in queue.listed(lab.home)] == ["checkpoints/shown"]


def test_checkpoints_may_lie_on_another_disk(lab, tmp_path):
    (lab.home / "checkpoints").rename(tmp_path / "disk")
    (lab.home / "checkpoints").symlink_to(tmp_path / "disk")
    queue.add(lab.home, lab.study_folder("shown"))
    (row,) = queue.listed(lab.home)
    assert row["study"] == "checkpoints/shown"
    assert lab.watch("shown")["state"] == "queued"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a" * 65, "ä"])
def test_a_name_that_is_no_folders_is_nobodys(lab, name):
    with pytest.raises(BadInput, match="cannot be a person's name"):
        lab.of(name)


def test_visitors_who_left_long_ago_are_forgotten_and_what_they_shared_is_not(lab):
    gone, here = lab.of("0a" * 16), lab.of("0b" * 16)
    ask(gone.home, name="old", settings=QUICK)
    (lab.home / "cache" / "kept").touch()
    os.utime(gone.home, (time.time() - 7300,) * 2)
    assert homes.stored_bytes(gone.home) > 0 == homes.stored_bytes(here.home)
    assert homes.sweep(lab.home, 7200) == ["0a" * 16]
    assert not gone.home.exists() and here.home.exists() and (lab.home / "cache" / "kept").exists()
    assert "shown" in [row["study"] for row in lab.studies()]


def test_features_go_with_the_home_whose_images_they_are_of(lab):
    visitor = lab.of("0a" * 16).home
    kept = lab.home / "cache" / "features"
    trained(visitor, ("linear_probe",), name="on-shared")
    of_shared = set(kept.rglob("*.npy"))
    assert of_shared and {file.parent for file in of_shared} == {kept}
    trained(visitor, ("linear_probe",), data=bands(visitor, 3, "mine"), name="on-mine")
    of_mine = set(kept.rglob("*.npy")) - of_shared
    assert of_mine and {file.parent for file in of_mine} == {kept / visitor.name}
    shutil.copytree(kept / visitor.name, kept / "ann")
    shutil.copytree(kept / visitor.name, kept / ("0c" * 16))  # of a job that outlived its home
    os.utime(visitor, (0, 0))
    homes.sweep(lab.home, 7200)
    assert {path.name for path in kept.iterdir()} == {"ann", *(file.name for file in of_shared)}


def test_features_of_everybody_fill_one_budget(tmp_path, monkeypatch):
    from ftlab import features  # and with it torch

    monkeypatch.setattr(features, "BUDGET_BYTES", 250)
    shared = homes.features(tmp_path)
    anns, bens = (homes.features(homes.personal(tmp_path, name)) for name in ("ann", "ben"))
    files = [folder.resolve() / "x.npy" for folder in (anns, shared, bens)]
    for age, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"0" * 80)
        os.utime(file, (age, age))
    features._make_room(bens, 80)
    assert [file.exists() for file in files] == [False, True, True]
    features._make_room(shared, 160)
    assert [file.exists() for file in files] == [False, False, True]


@pytest.mark.parametrize("name", ["ann", "0A" * 16, "0a" * 15, "0a" * 16 + "b", "0a" * 16 + ".b"])
def test_whoever_has_a_name_is_never_forgotten(lab, name):
    own = lab.of(name).home
    os.utime(own, (0, 0))
    assert homes.sweep(lab.home, 7200) == [] and own.exists()
