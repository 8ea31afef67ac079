"""Weight files of every odd kind, each with what is right for it: its tensors, or to be refused.

A case is (name, bytes, expected): `expected` are the tensors, by name, or None where the file has
to be refused. Headers and pickles are written here by hand, not by the code under test. Whatever is
hostile would only make the folder CANARY, in whatever folder the tests run.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch

CANARY = "ftlab_canary"
A = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5
B = np.arange(4, dtype=np.float32) / 2
STATE = {"a.weight": A, "b.bias": B}
Case = tuple[str, bytes, dict | None]


# --- safetensors ---------------------------------------------------------------------------------


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADER = {"a.weight": entry("F32", [2, 3], 0, 24), "b.bias": entry("F32", [4], 24, 40)}
DATA = A.tobytes() + B.tobytes()


def framed(header: bytes | dict | list, data: bytes = DATA, length: int | None = None) -> bytes:
    """A safetensors file whose length of the header may be a lie."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def with_(name: str, **changed) -> dict:
    return {k: {**v, **changed} if k == name else v for k, v in HEADER.items()}


def right_safetensors() -> Iterator[Case]:
    text = json.dumps(HEADER)
    yield "plain", framed(HEADER), STATE
    yield "padded", framed(text.encode() + b" " * 7), STATE
    yield "indented", framed(json.dumps(HEADER, indent=4).encode()), STATE
    yield "names the other way round", framed(dict(reversed(HEADER.items()))), STATE
    yield (
        "with texts",
        framed({"__metadata__": {"format": "pt", "x": "</script>"}, **HEADER}),
        STATE,
    )
    yield "more said of a tensor", framed(with_("a.weight", note="hi")), STATE
    swapped = {"a.weight": entry("F32", [2, 3], 16, 40), "b.bias": entry("F32", [4], 0, 16)}
    yield "numbers the other way round", framed(swapped, B.tobytes() + A.tobytes()), STATE
    yield "nothing", framed({}, b""), {}
    yield "a number", framed({"n": entry("I64", [], 0, 8)}, bytes([7, *bytes(7)])), {"n": 7}
    for shape in ([0], [0, 3], [2, 0, 5]):
        yield (
            f"empty {shape}",
            framed({"n": entry("F32", shape, 0, 0)}, b""),
            {"n": np.empty(shape)},
        )
    for shape in ([6], [3, 2], [1, 6, 1], [1] * 12 + [6]):
        header = with_("a.weight", shape=shape)
        yield f"as {shape}", framed(header), STATE | {"a.weight": A.reshape(shape)}
    for name in (
        "",
        "x" * 1000,
        "a\nb",
        "\0",
        "../../x",
        "/etc/passwd",
        "ü 🙂",
        "\u202egnp",
        "\x1b[2J",
    ):
        data, header = B.tobytes(), {name: entry("F32", [4], 0, 16)}
        yield f"called {name[:12]!r}", framed(header, data), {name: B}
    for code, kind in (
        *(("F64", "f8"), ("F16", "f2"), ("I64", "i8"), ("I32", "i4"), ("I16", "i2"), ("I8", "i1")),
        *(("U8", "u1"), ("BOOL", "?"), ("U16", "u2"), ("U32", "u4"), ("U64", "u8")),
    ):
        values = np.array([0, 1, 1, 0, 1]).astype(kind)
        header = {"n": entry(code, [5], 0, values.nbytes)}
        yield f"numbers {code}", framed(header, values.tobytes()), {"n": values}
    bfloat = (np.arange(5, dtype=np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    yield "numbers BF16", framed({"n": entry("BF16", [5], 0, 10)}, bfloat), {"n": np.arange(5)}
    eighth = bytes([0x00, 0x38, 0x40, 0xB8])  # sign, 4 bits of exponent around 7, 3 of fraction
    yield (
        "numbers F8_E4M3",
        framed({"n": entry("F8_E4M3", [4], 0, 4)}, eighth),
        {"n": [0, 1, 2, -1]},
    )


EXTREMES = (-1, 1, 4, 23, 25, 41, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40)


def wrong_safetensors() -> Iterator[Case]:
    whole = framed(HEADER)
    for place, value in ((p, v) for p in range(4) for v in (*EXTREMES, None, "0", 0.5, [], True)):
        name, at = ("a.weight", "b.bias")[place // 2], place % 2
        offsets = list(HEADER[name]["data_offsets"])
        offsets[at] = value
        yield f"offset {place} {value}", framed(with_(name, data_offsets=offsets)), None
    for offsets in ([], [0], [0, 24, 24], [24, 0], None, 24, "0-24", {"0": 24}):
        yield f"offsets {offsets}", framed(with_("a.weight", data_offsets=offsets)), None
    for shape in (
        *([], [2, 2], [2, 4], [7], [2, 3, 2], [-2, -3], [-6], [2**32, 2**32], [2**64], [2**61, 8]),
        *([0], [6.0], ["6"], [None], None, 6, "6", [[6]], {"6": 1}, [True, 6, 6]),
    ):
        yield f"shape {shape}", framed(with_("a.weight", shape=shape)), None
    for dtype in ("F64", "F16", "I8", "BOOL", "F99", "f32", "", "C64", None, 32, ["F32"], "F32\n"):
        yield f"dtype {dtype!r}", framed(with_("a.weight", dtype=dtype)), None
    for key in ("dtype", "shape", "data_offsets"):
        lacking = {k: v for k, v in HEADER["b.bias"].items() if k != key}
        yield f"no {key}", framed({**HEADER, "b.bias": lacking}), None
    for size in (*range(0, 12), len(whole) // 2, *range(len(whole) - 41, len(whole))):
        yield f"cut to {size}", whole[:size], None
    for more in (b"\0", b"x" * 4, DATA, b"PK\x05\x06" + bytes(18)):
        yield f"{len(more)} bytes more", whole + more, None
    length = len(whole) - len(DATA) - 8
    for lie in (
        0,
        1,
        2,
        length - 1,
        length + 1,
        length + 40,
        length + 41,
        10**8,
        2**31,
        2**63,
        2**64 - 1,
    ):
        yield f"length {lie}", framed(HEADER, length=lie), None
    yield from _overlapping()
    yield from _no_header()


def _overlapping() -> Iterator[Case]:
    a, b = HEADER.values()
    yield "two of one place", framed({"x": a, "y": a}, A.tobytes()), None
    yield "overlapping", framed({"a": a, "b": entry("F32", [4], 20, 36)}, DATA[:36]), None
    yield "a hole", framed({"a": a, "b": entry("F32", [4], 28, 44)}, DATA + bytes(4)), None
    yield "a hole first", framed({"b": entry("F32", [4], 4, 20)}, bytes(4) + B.tobytes()), None
    text_a, text_b = json.dumps(a), json.dumps(b)
    yield "a name twice", framed(f'{{"a": {text_a}, "b": {text_b}, "a": {text_a}}}'.encode()), None
    yield (
        "a name twice, another way",
        framed(f'{{"b": {text_b}, "\\u0062": {text_b}, "a": {text_a}}}'.encode()),
        None,
    )
    twice = text_a[:-1] + ', "dtype": "I32"}'
    yield "a dtype twice", framed(f'{{"a": {twice}, "b": {text_b}}}'.encode()), None
    yield "texts twice", framed(b'{"__metadata__": {"x": "1", "x": "2"}}', b""), None


def _no_header() -> Iterator[Case]:
    texts = (
        "",
        "[]",
        "null",
        "1",
        '"x"',
        "true",
        "{",
        "}",
        "{]",
        '{"a"}',
        '{"a": }',
        "{'a': 1}",
        "{,}",
    )
    for text in (
        *texts,
        "[" * 100_000,
        '{"a":' * 100_000,
        json.dumps(HEADER) + "{}",
        "NaN",
        "{a: 1}",
    ):
        yield f"header {text[:12]}", framed(text.encode()), None
    whole = json.dumps(HEADER)
    for encoding in ("utf-16", "utf-32", "utf-8-sig", "cp037"):
        yield f"header in {encoding}", framed(whole.encode(encoding)), None
    yield "header no text", framed(b'{"\xff": 1}'), None
    yield "header with a comment", framed(("/**/" + whole).encode()), None
    for meta in ({"x": 1}, {"x": None}, {"x": {}}, ["x"], 3, "x"):
        yield f"texts {meta}", framed({"__metadata__": meta, **HEADER}), None
    for value in (None, 1, "x", [], {}, [HEADER]):
        yield f"a tensor is {value}"[:40], framed({**HEADER, "c": value}), None
    yield "a huge header", framed(whole.encode() + b" " * (11 << 20)), None
    many = {f"t{n}": entry("F32", [0], 0, 0) for n in range(20_001)}
    yield "20,001 tensors", framed(many, b""), None


NO_WEIGHTS = {
    "nothing": b"",
    "a byte": b"\0",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "html": b"<!DOCTYPE html><html><title>404</title></html>" * 9,
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n",
    "json": b'{"a.weight": [1, 2, 3]}' * 9,
    "program": b"\x7fELF\x02\x01\x01" + bytes(500),
    "script": b"#!/bin/sh\nmkdir " + CANARY.encode() + b"\n",
    "gzip": b"\x1f\x8b\x08\0" + bytes(200),
    "tar": b"storages".ljust(257, b"\0") + b"ustar\x0000" + bytes(500),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(500),
    "npy": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    + bytes(99),
    "onnx": b"\x08\x07\x12\x07pytorch\x1a\x052.0.0" + bytes(200),
}


def nothing_of_the_kind() -> Iterator[Case]:
    """Neither safetensors nor a pickle of tensors, under either name."""
    for name, data in NO_WEIGHTS.items():
        yield name, data, None


# --- pickles -------------------------------------------------------------------------------------


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values.copy()) for name, values in STATE.items()}


def right_pickles() -> Iterator[Case]:
    plain = tensors()
    old = {"_use_new_zipfile_serialization": False}
    for way, options in (("zip", {}), ("old", old)):
        yield f"plain, {way}", saved(plain, **options), STATE
        yield f"ordered, {way}", saved(OrderedDict(plain), **options), STATE
        for key in ("state_dict", "model_state_dict", "model"):
            yield f"in {key}, {way}", saved({key: plain, "epoch": 3}, **options), STATE
        both = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}, "model": plain, "lr": 0.1}
        yield f"beside an optimizer, {way}", saved(both, **options), STATE
        yield f"twice nested, {way}", saved({"model": {"state_dict": plain}}, **options), None
        parameters = {k: torch.nn.Parameter(v) for k, v in plain.items()}
        yield f"parameters, {way}", saved(parameters, **options), STATE
        for kind in (torch.float16, torch.bfloat16, torch.float64):
            cast = {k: v.to(kind) for k, v in plain.items()}
            yield f"{kind}, {way}", saved(cast, **options), STATE
        yield f"nothing, {way}", saved({}, **options), {}
    for protocol, read in ((2, STATE), (3, STATE), (4, None)):  # torch's unpickler knows no 4
        yield f"protocol {protocol}", saved(plain, pickle_protocol=protocol), read
    yield from _views()


def _views() -> Iterator[Case]:
    a, b = tensors().values()
    yield "turned", saved({"a": a.T}), {"a": A.T}
    yield "every second", saved({"a": a[:, ::2]}), {"a": A[:, ::2]}
    yield "a part of one", saved({"a": a[1:]}), {"a": A[1:]}
    yield "one shared by two", saved({"a": a, "b": a}), {"a": A, "b": A}
    yield "two parts of one", saved({"a": a[0], "b": a[1]}), {"a": A[0], "b": A[1]}
    yield "stretched", saved({"b": b[None].expand(5, 4)}), {"b": np.tile(B, (5, 1))}
    yield (
        "channels last",
        saved({"a": a.reshape(1, 2, 3, 1).to(memory_format=torch.channels_last)}),
        {"a": A.reshape(1, 2, 3, 1)},
    )
    yield "a number", saved({"n": torch.tensor(7)}), {"n": 7}
    yield "an empty one", saved({"n": torch.empty(0, 3)}), {"n": np.empty((0, 3))}
    yield "a negative view", saved({"b": torch.complex(b, b).conj().imag}), {"b": -B}


def wrong_pickles() -> Iterator[Case]:
    plain, a = tensors(), tensors()["a.weight"]
    contents = {
        "a list": [a],
        "a number": 3,
        "a text": "text",
        "none": None,
        "a tensor": a,
        "numbers for names": {0: a},
        "texts for tensors": {"a": "b"},
        "one is no tensor": {**plain, "epoch": 3},
        "one is a list": {**plain, "c": [a]},
        "sparse": {"a": a.to_sparse()},
        "sparse rows": {"a": a.to_sparse_csr()},
        "quantised": {"a": torch.quantize_per_tensor(a, 0.1, 0, torch.qint8)},
        "quantised by channel": {
            "a": torch.quantize_per_channel(a, torch.ones(2), torch.zeros(2), 0, torch.quint8)
        },
        "meta": {"a": a.to("meta")},
        "nested": {"a": torch.nested.nested_tensor([a[0], a[1, :2]])},
        "far larger than its file": {"a": a[:1, :1].expand(2**20, 2**20)},
        "numpy": {"a": A},
        "a network": torch.nn.Linear(2, 2),
        "a class": {"a": torch.nn.Linear},
        "a device": {"a": torch.device("cpu")},
        "20,001 tensors": {f"t{n}": a for n in range(20_001)},
    }
    for what, content in contents.items():
        yield what, saved(content), None
    for way in (True, False):
        whole = saved(plain, _use_new_zipfile_serialization=way)
        for part in (0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.99):
            yield f"{part} of {'zip' if way else 'old'}", whole[: int(len(whole) * part)], None
    yield "safetensors", framed(HEADER), None
    yield from _zips(saved(plain))


def _zips(whole: bytes) -> Iterator[Case]:
    yield "packed", packed(whole), None
    yield "without its pickle", packed(whole, zipfile.ZIP_STORED, without="data.pkl"), None
    yield "without a storage", packed(whole, zipfile.ZIP_STORED, without="/data/0"), None
    yield "a zip of something else", packed(whole, zipfile.ZIP_STORED, only="version"), None
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(4)}))) as source:
            for name in source.namelist():
                archive.writestr(
                    name, bytes(300 << 20) if name.endswith("/0") else source.read(name)
                )
    yield "a bomb", bomb.getvalue(), None
    lying = bytearray(whole)
    at = lying.rfind(b"PK\x01\x02")
    struct.pack_into("<II", lying, at + 20, 2**31, 2**31)
    yield "a zip that lies about a size", bytes(lying), None


def packed(
    whole: bytes, way: int = zipfile.ZIP_DEFLATED, without: str = "\n", only: str = ""
) -> bytes:
    """A .pth zipped anew, perhaps without some of its entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(file, "w", way) as archive:
        for name in source.namelist():
            if not name.endswith(without) and only in name:
                archive.writestr(name, source.read(name))
    return file.getvalue()


# --- hostile pickles, which would make a folder --------------------------------------------------

CODE = f"__import__('os').mkdir({CANARY!r})"
CALLS = {  # what is called -> with which text
    "os mkdir": CANARY,
    "posix mkdir": CANARY,
    "os makedirs": CANARY,
    "os system": f"mkdir {CANARY}",
    "posix system": f"mkdir {CANARY}",
    "os popen": f"mkdir {CANARY}",
    "subprocess getoutput": f"mkdir {CANARY}",
    "subprocess getstatusoutput": f"mkdir {CANARY}",
    "builtins eval": CODE,
    "builtins exec": CODE,
    "__builtin__ eval": CODE,
    "timeit timeit": CODE,
    "timeit main": CODE,
    "cProfile run": CODE,
    "profile run": CODE,
    "pdb run": CODE,
    "trace main": CODE,
    "doctest debug_script": CODE,
    "code interact": CODE,
    "pathlib Path.mkdir": CANARY,
    "shelve open": f"{CANARY}",
    "dbm.dumb open": CANARY,
    "logging FileHandler": CANARY,
    "tempfile mkdtemp": CANARY,
    "importlib import_module": "antigravity",
    "importlib.util find_spec": CANARY,
    "runpy run_path": CANARY,
    "runpy run_module": "this",
    "webbrowser open": f"file:///{CANARY}",
    "pickle loads": CANARY,
    "_pickle loads": CANARY,
    "marshal loads": CANARY,
    "torch load": CANARY,
    "torch.hub load": CANARY,
    "torch.jit load": CANARY,
    "torch.utils.cpp_extension load_inline": CANARY,
    "torch.serialization load": CANARY,
    "torch._inductor.codecache compile_file": CANARY,
    "torch.storage _load_from_bytes": CANARY,
    "numpy load": CANARY,
    "numpy memmap": CANARY,
    "numpy.f2py.crackfortran getlincoef": CODE,
    "numpy.testing._private.utils runstring": CODE,
    "sqlite3 connect": CANARY,
    "zipfile ZipFile": CANARY,
    "ctypes CDLL": CANARY,
    "operator methodcaller": CANARY,
    "functools partial": CANARY,
    "builtins getattr": CANARY,
    "builtins __import__": "os",
    "builtins open": CANARY,
    "io FileIO": CANARY,
    "codecs open": CANARY,
    "ftlab.files write_text": CANARY,
    "pip main": f"download {CANARY}",
    "types FunctionType": CANARY,
}


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _calls(module: str, name: str, text: str) -> dict[str, bytes]:
    """Pickles that call module.name(text), by every opcode that can."""
    named, given = f"{module}\n{name}\n".encode(), _text(text)
    stacked = b"\x8c" + bytes([len(module)]) + module.encode()
    stacked += b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93"
    return {
        "REDUCE": b"\x80\x02c" + named + given + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + stacked + given + b"\x85R.",
        "INST": b"(" + given + b"i" + named + b".",
        "OBJ": b"(c" + named + given + b"o.",
        "NEWOBJ": b"\x80\x02c" + named + given + b"\x85\x81.",
        "in a value": b"\x80\x02}" + _text("a") + b"c" + named + given + b"\x85Rs.",
    }


def in_a_zip(program: bytes) -> bytes:
    """A .pth whose pickle is that program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("data.pkl", program), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", data)
    return file.getvalue()


def in_the_old_way(program: bytes) -> bytes:
    """A .pth as before PyTorch 1.6: magic number, protocol and system, then the pickle."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return magic + pickle.dumps(system, 2) + program


def hostile() -> Iterator[Case]:
    for called, text in CALLS.items():
        module, _, name = called.partition(" ")
        for way, program in _calls(module, name, text).items():
            yield f"{called} by {way}, zip", in_a_zip(program), None
            if way in ("REDUCE", "STACK_GLOBAL"):
                yield f"{called} by {way}, old", in_the_old_way(program), None
                yield f"{called} by {way}, bare", program, None
    program = _calls("os", "mkdir", CANARY)["REDUCE"]
    yield "before the pickle", pickle.dumps(0) + program, None
    yield "as the magic number", program + program, None
    yield "in two steps", in_a_zip(b"\x80\x02cos\nmkdir\nq\x00" + _text(CANARY) + b"\x85R0}."), None
    named = b"\x80\x02ccollections\nOrderedDict\n)R}" + _text("__class__") + b"cos\nmkdir\ns"
    yield "as a state", in_a_zip(named + b"b."), None
    yield "as an extension", in_a_zip(b"\x80\x02\x82\x01" + _text(CANARY) + b"\x85R."), None


def endless() -> Iterator[tuple[str, bytes, str]]:
    """Pickles that would take for ever, or all memory, or the reader down; what is said of them."""
    killed, refused = "could not be read safely", "given.pth"  # the latter: either way
    doubled = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(200))
    hashed = b"\x80\x02" + doubled + b"}h\xc8K\x01s."
    yield "a name to be hashed for ever", in_a_zip(hashed), killed
    hashed = b"\x80\x02" + doubled + b"cbuiltins\nset\n]h\xc8a\x85R."
    yield "a set hashed for ever", in_a_zip(hashed), killed
    array = b"cbuiltins\nbytearray\n\x8a\x06%s\x85R"
    huge = b"\x80\x02" + array % (2**46).to_bytes(6, "little") + b"."
    yield "64 TB", in_a_zip(huge), refused
    many = b"\x80\x02]" + (array % (2**30).to_bytes(6, "little") + b"a") * 300 + b"."
    yield "300 times 1 GB", in_a_zip(many), refused
    deep = b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."
    yield "deep lists", in_a_zip(deep), refused
    yield "deep tuples", in_a_zip(b"\x80\x02)" + b"\x85" * 10**6 + b"."), refused
