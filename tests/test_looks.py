"""Where runs look: scores by hand, what a kill leaves, intervals by formula, how alike maps are."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
from conftest import pictures
from PIL import Image
from scipy import stats
from tiny import QUICK, bands, trained
from typer.testing import CliRunner

from ftlab import explain, files, leaderboard, looks, runs, studies
from ftlab.__main__ import app
from ftlab.datasets import import_dataset, open_dataset
from ftlab.lab import Lab
from ftlab.records import BadInput

RUNS = [f"{strategy}-test_resnet-s{seed}" for seed in (0, 1) for strategy in ("full", "layer_wise")]
ASKED = {"images": 6, "road": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two strategies by two seeds on bands, masked in the half of their class; some masks empty."""
    home = tmp_path_factory.mktemp("looks") / "home"
    home.mkdir()
    source, table = home.parent / "masked", ["file,label,mask"]
    for folder in ("images", "masks"):
        (source / folder).mkdir(parents=True)
    for number, (picture, label) in enumerate(zip(*pictures(60), strict=True)):
        mask = np.zeros((32, 32), np.uint8)
        if number % 10:
            mask[16 * label : 16 * (label + 1)] = 255
        Image.fromarray(picture).save(source / "images" / f"{number}.png")
        Image.fromarray(mask).save(source / "masks" / f"{number}.png")
        table.append(f"{number}.png,class{label},masks/{number}.png")
    (source / "labels.csv").write_text("\n".join(table))
    import_dataset(home / "data", str(source), "masked")
    settings = replace(QUICK, epochs=1)
    trained(home, ("full", "layer_wise"), (0, 1), data="masked", settings=settings, name="seen")
    return home


@pytest.fixture
def seen(home, tmp_path):
    """(a home of one's own with that study, its folder)"""
    shutil.copytree(home, tmp_path / "home")
    return tmp_path / "home", tmp_path / "home" / "checkpoints" / "seen"


def maps_of(folder, run=RUNS[0]):
    return files.read_json(folder / run / looks.FILE)


def test_hand_made_maps_get_the_scores_that_arithmetic_gives_them(seen, monkeypatch):
    home, folder = seen

    def above(network, x, targets, method, found):
        """Three parts of the evidence in the upper half, one in the lower."""
        raw = np.float32([[3, 3], [1, 1]])
        whole = np.kron(raw, np.ones((16, 16), np.float32))
        return [explain.Saliency(whole, raw, target) for target in targets]

    monkeypatch.setattr(explain, "saliency", above)
    answer = Lab(home).maps("seen", images=100, road=0)
    kept, data = maps_of(folder), open_dataset(home / "data", "masked")
    test = data.indices("test")
    assert kept["index"] == [i for i in test if data.mask(i).any()], "an empty mask is no lesion"
    upper = np.array([data.labels[i] == 0 for i in kept["index"]])
    assert kept["energy"] == [0.75 if up else 0.25 for up in upper]
    assert kept["pointing"] == list(upper)
    assert set(kept["share"]) == {0.5} and answer["share"] == 0.5
    assert answer["road_images"] == 0 and answer["rows"][0]["road"] is None
    row = answer["rows"][0]
    assert row["energy"]["mean"] == pytest.approx(np.where(upper, 0.75, 0.25).mean())
    assert row["pointing"]["mean"] == pytest.approx(upper.mean())
    assert [pair["agreement"]["mean"] for pair in answer["agreement"]] == pytest.approx([1, 1, 1])


def test_many_images_at_once_are_scored_as_explain_scores_each(seen):
    home, folder = seen
    lab, data = Lab(home), open_dataset(home / "data", "masked")
    lab.maps("seen", **ASKED)
    kept = maps_of(folder)
    for at, index in enumerate(kept["index"][:2]):
        image, mask = data.folder / data.files[index], data.folder / data.masks[index]
        target, road = data.classes[data.labels[index]], index in kept["road"]["index"]
        said = lab.explain(image, "seen", mask=mask, target=target, road=road, chosen=RUNS[:1])
        (run,) = said["runs"]
        assert kept["energy"][at] == pytest.approx(run["mask"]["energy"] or 0, abs=2e-3)
        assert kept["pointing"][at] == run["mask"]["pointing"]
        if road:
            score = kept["road"]["score"][kept["road"]["index"].index(index)]
            assert score == pytest.approx(run["road"]["road"], abs=2e-3)


def test_what_was_looked_at_before_a_kill_is_not_looked_at_again(seen, monkeypatch):
    home, folder = seen
    whole = explain.saliency
    left = [1, 1]

    def killed(*args):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return whole(*args)

    monkeypatch.setattr(explain, "saliency", killed)
    with pytest.raises(KeyboardInterrupt):
        Lab(home).maps("seen", images=6, road=0)
    have = {run: (folder / run / looks.FILE).stat().st_mtime_ns for run in RUNS[:2]}
    assert not any((folder / run / looks.FILE).exists() for run in RUNS[2:])
    left.extend([1, 1])
    answer = Lab(home).maps("seen", images=6, road=0)
    assert {run: (folder / run / looks.FILE).stat().st_mtime_ns for run in have} == have
    assert [row["seeds"] for row in answer["rows"]] == [[0, 1], [0, 1]]


def test_without_masks_there_is_road_alone(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    bands(home)
    folder = trained(home, settings=replace(QUICK, epochs=1), name="bare")
    answer = Lab(home).maps("bare", **ASKED)
    row = answer["rows"][0]
    assert row["energy"] is row["pointing"] is answer["share"] is None
    assert -1 <= row["road"]["low"] <= row["road"]["mean"] <= row["road"]["high"] <= 1
    assert maps_of(folder)["energy"] is None
    assert answer["agreement"] == [] and answer["alike"] == {"test_resnet": None}


# --- what maps.json says together -----------------------------------------------------------------


def handmade(folder, run, energy, pointing):
    """A maps.json of that run's test images, in their order."""
    index = runs.predictions(folder / run)["index"][: len(energy)].tolist()
    maps = [b64encode(bytes([0, 0, 0, 255])).decode()] * len(index)
    record = {"asked": {"method": "gradcam", "images": 9, "road": 0}, "size": [2, 2]}
    record |= {"index": index, "share": [0.1] * len(index), "energy": energy}
    record |= {"pointing": pointing, "road": {"index": [], "score": None}, "maps": maps}
    files.write_json(folder / run / looks.FILE, record)


def test_the_leaderboards_interval_of_one_run_is_that_of_a_mean(seen):
    _, folder = seen
    energy, pointing = [0.1, 0.4, 0.2, 0.9, 0.6, 0.3], [1, 0, 0, 1, 1, 0]
    assert leaderboard.leaderboard(folder)["maps"] is None
    handmade(folder, RUNS[0], energy, pointing)
    board = leaderboard.leaderboard(folder)
    found = {row["strategy"]: row for row in board["rows"]}
    assert found["layer_wise"]["energy"] is None and found["full"]["road"] is None
    about = {"method": "gradcam", "images": 6, "road_images": 0, "share": pytest.approx(0.1)}
    assert board["maps"] == about
    for name, values in (("energy", energy), ("pointing", pointing)):
        row, half = found["full"][name], stats.t.ppf(0.975, 5) * np.std(values, ddof=1) / np.sqrt(6)
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["high"] == pytest.approx(min(1, np.mean(values) + half), rel=0.1)
        assert row["low"] == pytest.approx(max(0, np.mean(values) - half), rel=0.15, abs=0.02)


def test_runs_that_were_asked_for_other_maps_are_not_averaged_with_the_rest(seen):
    _, folder = seen
    for run in RUNS:
        handmade(folder, run, [0.5] * 4, [1] * 4)
    other = {**maps_of(folder), "asked": {"method": "eigencam", "images": 9, "road": 0}}
    files.write_json(folder / RUNS[0] / looks.FILE, {**other, "energy": [0.0] * 4})
    found = looks.read(folder, studies.read(folder))
    assert [cell.name for cell in found] == RUNS[1:]


def test_agreement_is_pearsons_correlation_and_0_for_an_even_map():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 9)), rng.random((3, 9))
    a[2] = 0.3
    expected = [np.corrcoef(a[0], b[0])[0, 1], np.corrcoef(a[1], b[1])[0, 1], 0]
    assert looks.correlations(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("apart", [(0.1, 0.1, 0.1, 0.1), (0.1, 0.2, 0.3, 0.4)])
def test_pairs_that_do_not_differ_have_no_rank_correlation(apart):
    pairs = [{"difference": d, "agreement": {"mean": -d}} for d in apart]
    rho = looks._alike(pairs)
    assert rho is None if apart[0] == apart[-1] else rho == pytest.approx(-1)
    assert looks._alike(pairs[:3]) is None


def test_maps_of_two_sizes_are_compared_place_by_place():
    small = {"size": [2, 2], "maps": [b64encode(bytes([0, 255, 0, 255])).decode()]}
    large = {"size": [4, 4], "maps": [b64encode(bytes([0, 0, 255, 255] * 4)).decode()]}
    down = {"size": [2, 2], "maps": [b64encode(bytes([0, 0, 255, 255])).decode()]}
    right, also_right, below = (looks.stretched(each) for each in (small, large, down))
    assert looks.correlations(right, also_right)[0] > 0.9
    assert looks.correlations(right, below)[0] == pytest.approx(0, abs=1e-6)


# --- who may, and what is shown -------------------------------------------------------------------


def test_another_ones_study_can_be_read_but_not_looked_through(home):
    answer = Lab(home).maps("reference")
    assert len(answer["rows"]) == 9 and answer["images"] == looks.IMAGES
    with pytest.raises(BadInput, match="The study reference is shared: it can only be looked at"):
        Lab(home).maps("reference", images=7)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"method": "psychic"}, "--method takes gradcam"), ({"images": 1}, "--images is at least 2")],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(home, options, said):
    with pytest.raises(BadInput, match=said):
        Lab(home).maps("seen", **options)


def test_the_command_shows_scores_and_the_status_has_them_too(seen, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(seen[0]))
    asked = ["maps", "seen", "--images", "6", "--road", "0"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "evidence inside %" in done.stdout and "ROAD" not in done.stdout
    assert "itself with another seed" in done.stdout and "50.0 % inside" in done.stdout
    answer = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert {(pair["a"], pair["b"]) for pair in answer["agreement"]} == {
        ("full", "full"), ("full", "layer_wise"), ("layer_wise", "layer_wise"),
    }  # fmt: skip
    assert "peak inside %" in CliRunner().invoke(app, ["status", "seen"]).stdout
