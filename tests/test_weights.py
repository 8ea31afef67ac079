"""theta_0 from the hub, a file or a draw: the same question, the same tensors, or one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import socket
import time
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import timm
import torch
from conftest import TINY, pictures
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from ftlab import backbones, tensors, unpickling, weights
from ftlab.records import BadInput

CLASSIFIER = "fc."


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A whole timm state dict, classifier included."""
    torch.manual_seed(0)
    return timm.create_model(TINY).state_dict()


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model("resnet18").state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty hub cache; the hub itself is off."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def lay(hub: Path, repository: str, tensors: dict[str, torch.Tensor]) -> None:
    """A repository in the hub's cache, by hand."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123abcd")
    save_file(tensors, snapshot / "model.safetensors")


@contextmanager
def silent_server():
    """A port that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def http_server(status: int):
    """A server with the same answer to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def ask(monkeypatch, url: str) -> None:
    """Have the hub library ask that server, as HF_ENDPOINT does where it is set at import."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(
    "endpoint",
    [silent_server, closed_port, partial(http_server, 503)],
    ids=["silent", "closed", "broken"],
)
def test_a_hub_that_does_not_answer_is_one_sentence_within_ten_seconds(hub, monkeypatch, endpoint):
    with endpoint() as url:
        ask(monkeypatch, url)
        began = time.monotonic()
        with pytest.raises(BadInput, match="connect once to fetch them") as caught:
            weights.load("resnet18")
    assert time.monotonic() - began < 10
    assert "timm/resnet18.tv_in1k" in str(caught.value) and "\n" not in str(caught.value)


def test_a_hub_without_the_file_is_one_sentence_within_ten_seconds(hub, monkeypatch):
    with http_server(404) as url:
        ask(monkeypatch, url)
        began = time.monotonic()
        with pytest.raises(BadInput, match="could not be downloaded.*from random weights"):
            weights.load("resnet18")
    assert time.monotonic() - began < 10


def test_a_full_disk_is_not_called_a_missing_connection(hub, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(hub))

    monkeypatch.setattr(weights, "_hub_answers", lambda repository: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(BadInput) as caught:
        weights.fetch("resnet18")
    said = "The disk has no room for the ImageNet weights of resnet18 (timm/resnet18.tv_in1k): "
    assert str(caught.value) == said + "free some space."


def test_offline_is_believed_at_once(hub):
    began = time.monotonic()
    with pytest.raises(BadInput, match="cannot be reached"):
        weights.fetch("resnet18")
    assert time.monotonic() - began < 2
    assert not weights.on_this_machine("resnet18")


def test_weights_in_the_hubs_cache_need_no_network(hub, resnet18):
    lay(hub, "timm/resnet18.tv_in1k", resnet18)
    assert weights.on_this_machine("resnet18")
    theta0 = weights.load("resnet18")
    assert theta0.record == {
        "kind": "imagenet",
        "name": "timm/resnet18.tv_in1k",
        "checksum": theta0.checksum,
    }
    assert theta0.mean == (0.485, 0.456, 0.406) and theta0.std == (0.229, 0.224, 0.225)
    assert set(resnet18) - set(theta0.tensors) == {"fc.weight", "fc.bias"}
    assert all(tensor.equal(resnet18[name]) for name, tensor in theta0.tensors.items())


def test_a_given_tag_is_another_repository(hub, resnet18):
    assert weights.hub_repository("resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    lay(hub, "timm/resnet18.a1_in1k", resnet18)
    assert weights.load("resnet18.a1_in1k").name == "timm/resnet18.a1_in1k"
    with pytest.raises(BadInput, match="resnet18.tv_in1k"):
        weights.load("resnet18")


def test_a_network_without_published_weights_says_so(hub):
    with pytest.raises(BadInput, match="timm has no ImageNet weights for efficientnet_b8"):
        weights.fetch("efficientnet_b8")


def test_a_checksum_knows_the_tensors_and_not_their_file(inside, tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "c.pt")
    torch.save({f"module.{k}": v for k, v in reversed(state.items())}, tmp_path / "d.pth")
    torch.save({"model": {f"model.{k}": v for k, v in state.items()}}, tmp_path / "e.pth")
    no_counters = {k: v for k, v in state.items() if "num_batches" not in k}
    save_file(no_counters, tmp_path / "f.safetensors")
    classifiers = {CLASSIFIER + "weight": torch.zeros(7, 9), CLASSIFIER + "bias": torch.zeros(7)}
    save_file(state | classifiers, tmp_path / "g.safetensors")
    headless = {k: v for k, v in state.items() if not k.startswith(CLASSIFIER)}
    save_file(headless, tmp_path / "h.safetensors")
    files = sorted(tmp_path.iterdir())
    found = {file.name: weights.load(TINY, str(file)).checksum for file in files}
    assert len(files) == 8 and len(set(found.values())) == 1
    changed = {k: v.clone() for k, v in state.items()}
    changed["conv1.0.weight"].view(-1)[0] += 1e-6
    save_file(changed, tmp_path / "i.safetensors")
    assert weights.load(TINY, str(tmp_path / "i.safetensors")).checksum not in found.values()


def test_a_checksum_tells_shapes_and_names_apart():
    a, b = torch.arange(6.0), torch.arange(6.0).reshape(2, 3)
    sums = [weights.checksum(t) for t in ({"x": a}, {"x": b}, {"y": a}, {"x": a.double()})]
    assert len(set(sums)) == 4
    assert weights.checksum({"x": b.T.contiguous().T}) == weights.checksum({"x": b})


@pytest.fixture
def inside(monkeypatch):
    """Read .pth files in this process: the answer is the same, without torch being started anew."""

    def run(command, stdin, **_):
        status, content = unpickling.answer(stdin)
        return SimpleNamespace(returncode=status, stdout=content)

    monkeypatch.setattr(tensors.subprocess, "run", run)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_pickle_that_runs_code_is_refused_and_not_run(inside, tmp_path, state):
    trace = tmp_path / "ran"
    torch.save({"state_dict": state, "extra": Bomb(trace)}, tmp_path / "new.pth")
    torch.save({"x": Bomb(trace)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Bomb(trace)))
    for name in ("new.pth", "old.pt", "bare.pth"):
        with pytest.raises(BadInput, match=f"{name} is not a plain file of tensors"):
            weights.load(TINY, str(tmp_path / name))
    assert not trace.exists()


KERNEL = "layer2.0.conv1.weight"


DAMAGED = {  # how -> what stands in the kernel's place
    "nan": lambda kernel: torch.full_like(kernel, float("nan")),
    "infinite in float32": lambda kernel: kernel.double() * 1e300,
    "integers": lambda kernel: kernel.int(),
    "complex": lambda kernel: kernel.to(torch.complex64),
    "sparse": lambda kernel: kernel.to_sparse(),
    "no numbers": lambda kernel: kernel.to("meta"),
    "quantised": lambda kernel: torch.quantize_per_tensor(kernel, 0.1, 0, torch.qint8),
    "transposed": lambda kernel: kernel.transpose(0, 1).contiguous(),
    "flat": lambda kernel: kernel.flatten(),
}


def damaged(state: dict[str, torch.Tensor], how: str) -> dict:
    if how == "missing":
        return {name: tensor for name, tensor in state.items() if name != KERNEL}
    if how == "extra":
        return state | {"layer9.weight": torch.zeros(1)}
    return state | {KERNEL: DAMAGED[how](state[KERNEL])}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "how, message",
    [
        ("missing", f"missing is for instance {KERNEL}"),
        ("extra", "unknown is for instance layer9.weight"),
        ("transposed", f"{KERNEL} should be a dense"),
        ("flat", f"{KERNEL} should be a dense"),
        ("nan", f"{KERNEL} holds NaN or infinite"),
        ("infinite in float32", f"{KERNEL} holds NaN or infinite"),
        ("integers", f"{KERNEL} holds torch.int32, not real"),
        ("complex", f"{KERNEL} holds torch.complex64, not real"),
        ("sparse", f"{KERNEL} should be a dense"),
        ("no numbers", f"{KERNEL} should be a dense|not a plain file of tensors"),
        ("quantised", f"{KERNEL} holds torch.qint8, not real|not a plain file of tensors"),
    ],
)
def test_a_file_that_is_not_these_weights_is_told_what_is_wrong(
    inside, tmp_path, state, how, message
):
    torch.save(damaged(state, how), tmp_path / "given.pth")
    with pytest.raises(BadInput, match=message) as caught:
        weights.load(TINY, str(tmp_path / "given.pth"))
    assert str(caught.value).startswith("given.pth") and "\n" not in str(caught.value)


def test_half_precision_weights_are_taken(tmp_path, state):
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    theta0 = weights.load(TINY, str(tmp_path / "half.safetensors"))
    assert theta0.tensors[KERNEL].equal(half[KERNEL].float())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>Not Found</html>", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04junk"],
)
def test_a_file_of_something_else_is_refused(inside, tmp_path, suffix, content):
    (tmp_path / f"given{suffix}").write_bytes(content)
    with pytest.raises(BadInput, match=f"given{suffix} is not a") as caught:
        weights.load(TINY, str(tmp_path / f"given{suffix}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {3: torch.zeros(1)}, torch.zeros(3), "text"])
def test_a_pth_file_without_a_state_dict_is_refused(inside, tmp_path, content):
    torch.save(content, tmp_path / "given.pth")
    with pytest.raises(BadInput, match="given.pth holds no state dict"):
        weights.load(TINY, str(tmp_path / "given.pth"))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(inside, tmp_path, state, keep):
    save_file(state, tmp_path / "given.safetensors")
    torch.save(state, tmp_path / "given.pth")
    for file in (tmp_path / "given.safetensors", tmp_path / "given.pth"):
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(BadInput, match=f"{file.name} is not a"):
            weights.load(TINY, str(file))


def test_a_zip_that_is_not_pytorchs_is_refused(inside, tmp_path):
    with zipfile.ZipFile(tmp_path / "given.pth", "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(BadInput, match="not a plain file of tensors"):
        weights.load(TINY, str(tmp_path / "given.pth"))


@pytest.mark.parametrize("given", ["nowhere.safetensors", "", "imagenette", "/", "bundle"])
def test_weights_that_are_no_file_list_what_can_be_given(given):
    with pytest.raises(BadInput, match="weights are imagenet, bundled, random, or the path"):
        weights.load(TINY, given)


def test_another_backbones_weights_are_refused(tmp_path, resnet18):
    save_file(resnet18, tmp_path / "resnet18.safetensors")
    with pytest.raises(BadInput, match="does not hold this backbone's weights: .* tensors fit"):
        weights.load("resnet34", str(tmp_path / "resnet18.safetensors"))


def test_a_random_draw_depends_on_its_seed_alone():
    first = weights.load(TINY, "random", 1)
    torch.rand(5)
    before = torch.get_rng_state()
    assert weights.load(TINY, "random", 1).checksum == first.checksum
    assert torch.get_rng_state().equal(before)
    assert weights.load(TINY, "random", 2).checksum != first.checksum
    assert first.record["name"] == "seed 1"


def test_a_files_weights_outlive_the_file_and_are_known_again(tmp_path, state):
    save_file(state, tmp_path / "mine.safetensors")
    theta0 = weights.load(TINY, str(tmp_path / "mine.safetensors"))
    cache = tmp_path / "cache"
    with pytest.raises(BadInput, match="the file mine.safetensors here once more"):
        weights.recall(TINY, theta0.record, 0, cache)
    weights.keep(theta0, cache)
    (tmp_path / "mine.safetensors").unlink()
    assert weights.recall(TINY, theta0.record, 0, cache).record == theta0.record
    kept = cache / "weights" / f"{theta0.checksum}.safetensors"
    other = {k: v + 1 for k, v in load_file(kept).items()}
    save_file(other, kept)
    with pytest.raises(BadInput, match="checksums differ"):
        weights.recall(TINY, theta0.record, 0, cache)


def test_hub_weights_that_are_not_those_of_the_run_are_refused(hub, resnet18):
    lay(hub, "timm/resnet18.tv_in1k", resnet18)
    record = weights.load("resnet18").record
    assert weights.recall("resnet18", record, 0, hub).record == record
    with pytest.raises(BadInput, match="checksums differ"):
        weights.recall("resnet18", record | {"checksum": "0" * 64}, 0, hub)
    with pytest.raises(BadInput, match="checksums differ"):
        drawn = weights.load(TINY, "random", 1).record
        weights.recall(TINY, drawn, 2, hub)


REAL = os.environ.get("FTLAB_REAL_DATA", "")
NEEDS_REAL = "needs FTLAB_REAL_DATA with weights/mobilenetv2_100.safetensors"


@pytest.mark.skipif(not REAL, reason=NEEDS_REAL)
def test_real_imagenet_weights_load_and_the_trunk_is_timms():
    file = Path(REAL) / "weights" / "mobilenetv2_100.safetensors"
    theta0 = weights.load("mobilenetv2_100", str(file))
    model = timm.create_model("mobilenetv2_100")
    model.load_state_dict(load_file(file), strict=True)
    network = backbones.build("mobilenetv2_100", 2, theta0).eval()
    x = network.prepare(torch.from_numpy(pictures(2, size=96)[0]))
    with torch.no_grad():
        ours, theirs = network.run(x), model.eval().forward_features(x)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_the_bundled_weights_load_strictly_and_are_the_documented_ones():
    theta0 = weights.load("ftlab_mini")
    assert (theta0.kind, theta0.name) == ("bundled", "ftlab_mini.safetensors")
    assert weights.load("ftlab_mini", "bundled").checksum == theta0.checksum
    assert weights.recall("ftlab_mini", theta0.record, 0, Path()).checksum == theta0.checksum
    content = weights.BUNDLED.read_bytes()
    assert len(content) <= 3_500_000
    documented = (Path(__file__).parent.parent / "docs" / "pretraining.md").read_text()
    assert hashlib.sha256(content).hexdigest() in documented
    assert weights.on_this_machine("ftlab_mini")
    network = backbones.build("ftlab_mini", 3, theta0)
    trunk = [p for n, p in network.named_parameters() if not n.startswith("head")]
    assert sum(p.numel() for p in trunk) == 1_576_884
    assert all(p.isfinite().all() for p in network.state_dict().values())


def test_weights_that_a_backbone_does_not_have_are_refused_by_name():
    with pytest.raises(BadInput, match="ftlab_mini has no imagenet weights: take bundled"):
        weights.load("ftlab_mini", "imagenet")
    with pytest.raises(BadInput, match="resnet50 has no bundled weights: take imagenet"):
        weights.load("resnet50", "bundled")
