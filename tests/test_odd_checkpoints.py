"""Odd and hostile weight files: read right or refused in one sentence, and nothing of them runs."""

import re
import sys
import time

import numpy as np
import odd_checkpoints
import pytest
import torch
from conftest import TINY
from odd_checkpoints import CANARY, HEADER, STATE, entry, framed, in_a_zip, saved
from safetensors.torch import load as load_bytes

from ftlab import backbones, tensors, unpickling, weights
from ftlab.records import BadInput

UNCLEAR = re.compile(r"[\n\x00\x1b\u202e]|/tmp|Traceback|[a-z]Error|Exception|<class|ftlab\.[a-z]")
PICKLED = ("right_pickles", "wrong_pickles", "hostile", "nothing_of_the_kind")


def cases(*kinds: str) -> list:
    every = ((kind, *case) for kind in kinds for case in getattr(odd_checkpoints, kind)())
    return [pytest.param(*case[2:], id=f"{case[0]}: {case[1]}") for case in every]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A folder of its own to work in, in which nothing hostile has made anything afterwards."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / CANARY).exists()


def clear(said: str) -> str:
    assert 8 < len(said) < 250 and said.endswith(".") and not UNCLEAR.search(said)
    return said


def same(found: dict, expected: dict) -> bool:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == np.shape(values)
        assert np.array_equal(found[name].double().numpy(), np.asarray(values, float))
    return True


def refusal(path) -> str:
    with pytest.raises(BadInput) as caught:
        tensors.read(path)
    assert path.name in str(caught.value)
    return clear(str(caught.value))


@pytest.mark.parametrize(
    "data, expected", cases("right_safetensors", "wrong_safetensors", "nothing_of_the_kind")
)
def test_a_safetensors_file_is_read_right_or_refused(tmp_path, data, expected):
    path = tmp_path / "given.safetensors"
    path.write_bytes(data)
    if expected is None:
        assert "given.safetensors is not a safetensors file" in refusal(path) or b"t20000" in data
    else:
        assert same(tensors.read(path), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("data, expected", cases(*PICKLED))
def test_a_pickle_is_read_right_or_refused(tmp_path, data, expected):
    """What the process that reads pickles answers, asked here: another for each would take long."""
    path = tmp_path / "given.pth"
    path.write_bytes(data)
    with open(path, "rb") as file:
        status, answer = unpickling.answer(file)
    if expected is None:
        assert status == unpickling.REFUSED
        clear(f"given.pth {answer.decode()}")
    else:
        assert status == 0 and same(load_bytes(answer), expected)


@pytest.mark.parametrize("call", ["os mkdir", "builtins eval", "subprocess getoutput"])
def test_a_hostile_pickle_would_do_what_it_is_for_if_it_were_let(tmp_path, call):
    """That no canary is made says something only because these would make one."""
    import pickle

    module, _, name = call.partition(" ")
    program = odd_checkpoints._calls(module, name, odd_checkpoints.CALLS[call])["REDUCE"]
    pickle.loads(program)
    (tmp_path / CANARY).rmdir()


# --- through the door, which asks a process of its own ---


def test_a_right_pickle_comes_through_the_door_and_hostile_ones_do_not(tmp_path):
    path = tmp_path / "given.pth"
    path.write_bytes(saved(odd_checkpoints.tensors()))
    assert same(tensors.read(path), STATE)
    for way, program in odd_checkpoints._calls("os", "mkdir", CANARY).items():
        if way in ("REDUCE", "INST"):
            path.write_bytes(in_a_zip(program))
            assert "is not a plain file of tensors" in refusal(path)


@pytest.mark.parametrize("data, expected", cases("endless"))
def test_a_pickle_without_end_is_given_up_and_the_program_goes_on(
    tmp_path, monkeypatch, data, expected
):
    code = "import time; from ftlab import unpickling as reader\n"
    code += "reader.CPU_SECONDS = int(time.process_time()) + 4; exit(reader.main())"
    monkeypatch.setattr(tensors, "COMMAND", (sys.executable, "-c", code))
    path = tmp_path / "given.pth"
    path.write_bytes(data)
    assert expected in refusal(path)


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "import os; os.write(1, b'no safetensors at all, but status 0')",
        "import os; os._exit(1)",
        "import time; time.sleep(600)",
    ],
    ids=["crashes", "lies", "ends", "hangs"],
)
def test_a_reader_that_is_no_longer_itself_is_not_believed(tmp_path, monkeypatch, code):
    monkeypatch.setattr(tensors, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(tensors, "SECONDS", 2.0)
    path = tmp_path / "given.pth"
    path.write_bytes(b"x")
    assert refusal(path) == "given.pth could not be read safely: save it as .safetensors."


def test_the_reader_can_write_no_file(tmp_path, monkeypatch):
    code = (
        "from ftlab import unpickling; unpickling._restrict(0); open('made', 'w').write('x' * 99)"
    )
    monkeypatch.setattr(tensors, "COMMAND", (sys.executable, "-c", code))
    (tmp_path / "given.pth").write_bytes(b"x")
    refusal(tmp_path / "given.pth")
    assert (tmp_path / "made").stat().st_size == 0


# --- what is no file ---


def test_a_folder_a_pipe_a_device_and_a_dead_link_are_no_weights(tmp_path):
    import os

    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "dead.pth").symlink_to(tmp_path / "gone.pth")
    (tmp_path / "round.pth").symlink_to(tmp_path / "round.pth")
    for given in ("folder.pth", "pipe.pth", "dead.pth", "round.pth", "/dev/zero", "a\0b.pth"):
        with pytest.raises(BadInput, match="There is no weights file") as caught:
            weights.load(TINY, str(tmp_path / given))
        clear(str(caught.value))


def test_a_link_to_a_file_is_that_file(tmp_path):
    (tmp_path / "blob").write_bytes(framed(HEADER))
    (tmp_path / "given.safetensors").symlink_to(tmp_path / "blob")
    assert same(tensors.read(tmp_path / "given.safetensors"), STATE)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_3_gb_is_refused_unread(tmp_path, suffix):
    path = tmp_path / f"given{suffix}"
    with open(path, "wb") as file:
        file.truncate(3 << 30)  # a hole: nothing on the disk
    began = time.process_time()
    assert "larger than the 2 GB" in refusal(path)
    assert time.process_time() - began < 1


# --- whether they are a backbone's ---


@pytest.fixture(scope="module")
def wanted() -> dict[str, torch.Tensor]:
    return dict(weights.load(TINY, "random").tensors)


KERNELS = ("conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.bn2.running_var", "bn1.bias")
HURT = {
    "nan": lambda t: t.masked_fill(torch.arange(t.numel()).reshape(t.shape) == 1, torch.nan),
    "inf": lambda t: t.masked_fill(torch.arange(t.numel()).reshape(t.shape) == 1, torch.inf),
    "too large for float32": lambda t: t.double() * 0 + 1e300,
    "integers": lambda t: t.int(),
    "truths": lambda t: t > 0,
    "complex": lambda t: t.to(torch.complex64),
    "flat": lambda t: t.flatten()[:-1],
    "one more axis": lambda t: t[None],
    "a number": lambda t: t.sum(),
    "empty": lambda t: t[:0],
}


@pytest.mark.parametrize("how", HURT)
@pytest.mark.parametrize("name", KERNELS)
def test_a_tensor_that_does_not_fit_is_named(tmp_path, wanted, name, how):
    from safetensors.torch import save_file

    if name not in wanted:
        pytest.fail(f"{TINY} has no {name}; it has {list(wanted)[:5]}")
    save_file({**wanted, name: HURT[how](wanted[name])}, tmp_path / "given.safetensors")
    with pytest.raises(BadInput, match=re.escape(name)) as caught:
        weights.load(TINY, str(tmp_path / "given.safetensors"))
    clear(str(caught.value))


@pytest.mark.parametrize("value", [torch.tensor(torch.nan), torch.tensor(torch.inf)])
def test_a_count_that_is_no_number_is_refused(tmp_path, wanted, value):
    from safetensors.torch import save_file

    name = next(name for name in wanted if name.endswith("num_batches_tracked"))
    for given, fits in ((value, False), (torch.tensor(3.0), True), (torch.tensor(3), True)):
        save_file({**wanted, name: given}, tmp_path / "given.safetensors")
        if fits:
            assert weights.load(TINY, str(tmp_path / "given.safetensors")).tensors[name] == 3
        else:
            with pytest.raises(BadInput, match="holds NaN or infinite numbers"):
                weights.load(TINY, str(tmp_path / "given.safetensors"))


@pytest.mark.parametrize("name", ["x\ny", "\x1b[31m", "a" * 5000, "\u202egnp", "\0", "/etc/passwd"])
def test_a_name_from_a_file_stands_in_the_sentence_as_text(tmp_path, wanted, name):
    from safetensors.torch import save_file

    save_file({**wanted, name: torch.zeros(1)}, tmp_path / "given.safetensors")
    with pytest.raises(BadInput, match="unknown is for instance") as caught:
        weights.load(TINY, str(tmp_path / "given.safetensors"))
    clear(str(caught.value))


def test_100_000_tensors_are_refused_soon(tmp_path):
    header = {f"t{n}": entry("F32", [0], 0, 0) for n in range(100_000)}
    (tmp_path / "given.safetensors").write_bytes(framed(header, b""))
    began = time.process_time()
    assert "more than 20,000 tensors" in refusal(tmp_path / "given.safetensors")
    assert time.process_time() - began < 5


def test_a_backbone_given_as_nothing_finds_every_tensor_missing(tmp_path):
    (tmp_path / "given.safetensors").write_bytes(framed({}, b""))
    model = backbones.create(TINY)
    with pytest.raises(BadInput, match=f"0 of {len(model.state_dict()) - 2} tensors fit"):
        weights.load(TINY, str(tmp_path / "given.safetensors"))
