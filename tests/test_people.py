"""Several people at one lab: whose it is at each use, and the limits that stop them."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace

import pytest
from conftest import TINY
from tiny import QUICK, ask, bands

from ftlab import files, queue
from ftlab.lab import Lab
from ftlab.modes import CLASSROOM, ONE, PUBLIC
from ftlab.people import UNKNOWN, People
from ftlab.records import BadInput, Question, Search

MODE = replace(CLASSROOM, study_epochs=8, image_px=64, waiting_studies=2, dataset_images=60)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A lab of several people; `room.who` says who is asking."""
    monkeypatch.setattr("ftlab.worker.ensure", lambda home: False)
    home = tmp_path / "home"
    home.mkdir()
    bands(home)
    room = SimpleNamespace(home=home, who="ann")
    room.lab = People(Lab(home), MODE, lambda: room.who)
    return room


def question(**changes) -> Question:
    given = {"settings": QUICK, "weights": "random", **changes}
    return Question("bands", [TINY], ["full"], given.pop("seeds", (0,)), **given)


def names(rows) -> list[str]:
    return [row["study"] for row in rows if row["study"] != "reference"]


def test_a_lab_is_whoevers_asks_at_each_use(room):
    assert room.lab.enqueue(question(name="mine")) == "mine"
    (row,) = queue.listed(room.home)
    assert (row["study"], row["owner"]) == ("people/ann/checkpoints/mine", "ann")
    assert row["limit_seconds"] == MODE.study_seconds
    assert names(room.lab.studies()) == ["mine"]
    room.who = "ben"
    assert names(room.lab.studies()) == []
    with pytest.raises(BadInput, match="There is no study 'mine'"):
        room.lab.stop("mine")


def test_whoever_is_unknown_may_look_and_change_nothing(room):
    room.who = ""
    assert [row["name"] for row in room.lab.datasets()] == ["bands"]
    for verb, arguments in (
        ("enqueue", [question()]),
        ("import_data", ["phantom:chest_xray", "x"]),
        ("delete", ["bands"]),
        ("stop", ["reference"]),
        ("estimate", [question()]),
        ("fetch", ["resnet50"]),
    ):
        with pytest.raises(BadInput) as error:
            getattr(room.lab, verb)(*arguments)
        assert str(error.value) == UNKNOWN


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"seeds": range(5)}, "may train 8 epochs in all, and this one asks for 10"),
        ({"settings": replace(QUICK, lr="auto"), "seeds": (0, 1, 2)}, "asks for 10"),
        (
            {"search": Search()},
            "asks for 12",
        ),  # full, the whole network, four more: two epochs each
        ({"settings": replace(QUICK, size=96)}, "at 64 pixels at most, and this one asks for 96"),
    ],
)
def test_a_study_that_is_too_large_is_refused_with_its_limit(room, changes, said):
    for verb in (room.lab.enqueue, room.lab.estimate):
        with pytest.raises(BadInput, match=said):
            verb(question(**changes))
    assert names(room.lab.studies()) == [] and not queue.listed(room.home)


def test_a_study_is_no_larger_for_being_asked_for_in_parts(room):
    room.lab.enqueue(question(name="grows", seeds=(0, 1)))
    written = room.home / "people" / "ann" / "checkpoints" / "grows" / "study.json"
    before = written.read_bytes()
    more = question(name="grows", seeds=(2, 3, 4))
    for verb in (room.lab.enqueue, room.lab.estimate):
        with pytest.raises(BadInput, match="may train 8 epochs in all, and this one asks for 10"):
            verb(more)
    assert written.read_bytes() == before
    room.lab.enqueue(question(name="grows", seeds=(0, 1, 2, 3)))
    assert files.read_json(written)["seeds"] == [0, 1, 2, 3]


def test_a_search_grows_with_the_seeds_that_its_study_is_given(room):
    room.lab = People(Lab(room.home), replace(MODE, study_epochs=24), lambda: room.who)
    assert room.lab.enqueue(question(name="search", search=Search())) == "search"
    with pytest.raises(BadInput, match="asks for 36"):
        room.lab.enqueue(question(name="search", seeds=(0, 1, 2)))


def test_weights_that_are_not_here_are_not_downloaded(room, monkeypatch):
    monkeypatch.setattr(Lab, "weights_state", lambda lab, name: {"ready": False})
    monkeypatch.setattr(Lab, "fetch", lambda *_: pytest.fail("it asked the hub"))
    for ask_ in (
        lambda: room.lab.fetch("resnet50"),
        lambda: room.lab.enqueue(question(weights="pretrained")),
    ):
        with pytest.raises(BadInput, match="are not here: ask whoever runs this page"):
            ask_()


def test_only_so_many_studies_of_one_person_wait(room):
    for name in ("a", "b"):
        room.lab.enqueue(question(name=name))
    with pytest.raises(BadInput, match="Of yours 2 studies wait or run already"):
        room.lab.enqueue(question(name="c"))
    room.lab.stop("a")
    room.lab.enqueue(question(name="c"))
    with pytest.raises(BadInput, match="Of yours 2 studies"):
        room.lab.resume("a")
    room.who = "ben"
    assert room.lab.enqueue(question(name="c")) == "c"


def test_of_two_that_come_in_one_moment_the_second_is_refused_and_leaves_nothing(room, monkeypatch):
    room.lab = People(Lab(room.home), replace(MODE, waiting_studies=1), lambda: room.who)
    room.lab.enqueue(question(name="old"))
    room.lab.stop("old")
    together, listed = Barrier(2), queue.listed

    def seen(home):
        rows = listed(home)
        with contextlib.suppress(BrokenBarrierError):  # where the second has to wait
            together.wait(1)
        return rows

    monkeypatch.setattr(queue, "listed", seen)

    def tried(verb, given) -> str:
        try:
            return verb(given)
        except BadInput as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(tried, room.lab.enqueue, question(name="new")),
            pool.submit(tried, room.lab.resume, "old"),
        ]
        said = [one.result() for one in asked]
    (row,) = listed(room.home)
    (passed,) = {"old", "new"} & set(said)
    assert row["study"] == f"people/ann/checkpoints/{passed}"
    refused = "Of yours one study waits or runs already: let it end, or stop it, first."
    assert set(said) == {passed, refused}
    assert set(names(room.lab.studies())) == {"old", passed}


def test_what_can_be_resumed_is_told_by_whose_it_is_and_the_time_it_had(room):
    ask(room.home, name="shared")
    folder = ask(Lab(room.home).of("ann").home, name="mine")
    assert room.lab.watch("mine")["resumable"] and not room.lab.watch("shared")["resumable"]
    files.write_json(folder / "spent.json", {"seconds": MODE.study_seconds})
    assert not room.lab.watch("mine")["resumable"]
    with pytest.raises(BadInput, match="This took the 60 minutes it may take here"):
        room.lab.resume("mine")
    room.lab = People(Lab(room.home), replace(MODE, study_seconds=None), lambda: room.who)
    assert room.lab.watch("mine")["resumable"]
    room.who = ""
    assert not room.lab.watch("shared")["resumable"], "whoever is unknown may look"


def test_a_data_set_that_is_too_large_leaves_nothing_behind(room):
    with pytest.raises(BadInput, match="holds 60 images at most, and this one has 80"):
        room.lab.import_data("phantom:chest_xray", "many", per_class=20)
    own = room.home / "people" / "ann" / "data"
    assert [row["name"] for row in room.lab.datasets()] == ["bands"]
    assert not own.exists() or not list(own.iterdir())


def test_whoever_has_filled_their_share_must_delete_first(room):
    full = People(Lab(room.home), replace(MODE, stored_bytes=2000), lambda: "ann")
    ask(Lab(room.home).of("ann").home, name="old", settings=QUICK)
    with pytest.raises(BadInput, match="fill your 2 kB: delete some first"):
        (room.home / "people" / "ann" / "data").mkdir()
        (room.home / "people" / "ann" / "data" / "large").write_bytes(b"0" * 2000)
        full.import_data("phantom:chest_xray", "new", per_class=5)


def test_only_so_many_images_are_looked_at_and_by_whoever_is_known(room, monkeypatch):
    asked = []
    monkeypatch.setattr(Lab, "similarity", lambda lab, *a, **options: asked.append((a, options)))
    room.lab.similarity("reference", ["full-ftlab_mini-s0"])
    assert asked == [(("reference", ["full-ftlab_mini-s0"]), {"images": MODE.inspected_images})]
    with pytest.raises(BadInput, match="Here 200 images at most are looked at, not 201"):
        room.lab.similarity("reference", images=201)
    room.who = ""
    with pytest.raises(BadInput, match="needs to know you"):
        room.lab.similarity("reference", images=10)
    with pytest.raises(BadInput, match="needs to know you"):
        room.lab.average("reference", "mine", ["full"])
    assert len(asked) == 1


def test_nobody_keeps_the_others_waiting_for_a_slow_map(room):
    named = {row["name"] for row in room.lab.methods()}
    assert "gradcam" in named and "scorecam" not in named
    assert "scorecam" in {row["name"] for row in People(Lab(room.home), ONE, lambda: "").methods()}
    with pytest.raises(BadInput, match="scorecam takes minutes"):
        room.lab.explain(room.home / "any.png", "any", method="scorecam")


def test_whose_folder_is_full_trains_nothing_more(room):
    room.lab = People(Lab(room.home), replace(MODE, stored_bytes=1), lambda: room.who)
    room.lab.enqueue(question(name="first"))
    for verb, given in (("enqueue", question(name="more")), ("resume", "first")):
        with pytest.raises(BadInput, match="delete some"):
            getattr(room.lab, verb)(given)


def test_limits_are_numbers_by_their_names():
    mode = PUBLIC.limited({"study_epochs": "30", "idle_hours": "0.5"})
    assert (mode.study_epochs, mode.idle_hours, mode.name) == (30, 0.5, "public")
    for texts, said in (
        ({"epochs": "3"}, "There is no limit 'epochs'; there are batch_images"),
        ({"study_epochs": "-1"}, "is a whole number from 1 on"),
        ({"study_epochs": "many"}, "is a whole number from 1 on"),
        ({"batch_images": "0.5"}, "is a whole number from 1 on"),
        ({"batch_images": "²"}, "is a whole number from 1 on"),
        ({"batch_images": 400 * "9"}, "is a whole number from 1 on"),
        ({"paths": "1"}, "There is no limit 'paths'"),
    ):
        with pytest.raises(BadInput, match=said):
            PUBLIC.limited(texts)


def test_one_person_has_no_limits_but_those_of_a_request():
    given = {name for name, value in vars(ONE).items() if value not in (None, True, "one")}
    assert given == {"batch_images", "upload_bytes"}
