"""Artifacts that are damaged, forged or half written: documented errors, nothing left behind."""

from __future__ import annotations

import errno
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import effcomp
from effcomp.errors import ArtifactError, DeviceError, EffcompError
from effcomp.ir import parse_graph, verify
from effcomp.plan.container import read_artifact
from tests.ahead.sealing import Files, changed_json, rewritten, sealed

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    path = tmp_path_factory.mktemp("artifact") / "model.eff"
    effcomp.compile(model, (X,), targets=["cpu", "cuda:90"]).save(path)
    return path


def expect(path: Path, why: str) -> None:
    with pytest.raises(ArtifactError, match=why):
        effcomp.load(path, "cpu")


def test_what_is_no_artifact(artifact: Path, tmp_path: Path) -> None:
    expect(tmp_path / "absent.eff", "there is no artifact")
    expect(tmp_path, "cannot be read as an artifact")
    (tmp_path / "text.eff").write_text("hello")
    expect(tmp_path / "text.eff", "cannot be read as an artifact")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    expect(tmp_path / "other.zip", "is not an effcomp artifact: it holds no manifest.json")


@pytest.mark.parametrize("left", [0, 1, 30, 1000, -1, -30])
def test_truncated(artifact: Path, tmp_path: Path, left: int) -> None:
    whole = artifact.read_bytes()
    path = tmp_path / "cut.eff"
    path.write_bytes(whole[: left if left >= 0 else len(whole) + left])
    expect(path, "cannot be read as an artifact")


CHANGES: dict[str, tuple[Callable[[Files], None], str]] = {
    "stage": (
        lambda f: f.update({"stages/cpu/00-captured.ir": b"other"}),
        "stages/cpu/00-captured.ir is damaged: its digest does not match",
    ),
    "kernel gone": (lambda f: f.pop(next(n for n in f if n.startswith("kernels/"))), "is missing"),
    "more": (lambda f: f.update({"extra.py": b""}), "extra.py is not in the manifest"),
    "traversal": (lambda f: f.update({"../evil.py": b""}), "a file called '../evil.py'"),
    "absolute": (lambda f: f.update({"/evil.py": b""}), "a file called '/evil.py'"),
    "backslash": (lambda f: f.update({"a\\..\\b": b""}), "which no artifact does"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tampered(artifact: Path, tmp_path: Path, name: str) -> None:
    change, why = CHANGES[name]
    expect(rewritten(artifact, tmp_path / "bad.eff", change), why)


def test_damaged_weights(artifact: Path, tmp_path: Path) -> None:
    body = bytearray(artifact.read_bytes())
    region = read_artifact(artifact).weights
    assert region is not None
    body[region.offset + region.size - 1] ^= 1
    path = tmp_path / "bad.eff"
    path.write_bytes(body)
    expect(path, "the weights are damaged near 0.weight")


def _manifest(change: Callable[[Any], None]) -> Callable[[Files], None]:
    return lambda files: changed_json(files, "manifest.json", change)


SEALED: dict[str, tuple[Callable[[Files], None], str]] = {
    "format": (
        _manifest(lambda m: m.update(version=7)),
        "has format version 7, this effcomp reads version 1",
    ),
    "field": (_manifest(lambda m: m.update(more=1)), "not an artifact's manifest: more"),
    "no json": (lambda f: f.update({"plan.json": b"{"}), "plan.json: the text"),
    "plan version": (
        lambda f: changed_json(f, "plan.json", lambda p: p["targets"]["cpu"].update(version=9)),
        "the plan for cpu: the plan has version 9",
    ),
    "targets": (
        _manifest(lambda m: m["targets"].pop("cpu")),
        r"the manifest names the targets \['cuda:90'\]",
    ),
    "bindings": (_manifest(lambda m: m["bindings"].pop()), "ports, the manifest binds"),
    "binding": (
        _manifest(lambda m: m["bindings"][0].update(name="nothing")),
        "which is not there",
    ),
    "strides": (
        _manifest(lambda m: m["weights"]["entries"]["0.weight"].update(strides=[-1, 1])),
        "has the strides",
    ),
    "wide strides": (
        _manifest(lambda m: m["weights"]["entries"]["0.weight"].update(strides=[1 << 70, 1])),
        "has the strides",
    ),
    "dtype": (
        _manifest(lambda m: m["weights"]["entries"]["0.weight"].update(dtype="f16")),
        r"0.weight is f32\[4, 4\] instead of f16\[4, 4\]",
    ),
    "cubin alone": (
        lambda f: f.pop(next(n for n in f if n.endswith(".cubin"))),
        "has no cubin beside it",
    ),
}


@pytest.mark.parametrize("name", SEALED)
def test_forged(artifact: Path, tmp_path: Path, name: str) -> None:
    change, why = SEALED[name]
    expect(sealed(artifact, tmp_path / "bad.eff", change), why)


def _header(change: Callable[[Any], None]) -> Callable[[Files], None]:
    def apply(files: Files) -> None:
        body = files["weights.safetensors"]
        length = int.from_bytes(body[:8], "little")
        header = json.loads(body[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        files["weights.safetensors"] = struct.pack("<Q", len(text)) + text + body[8 + length :]

    return apply


HEADERS: dict[str, tuple[Callable[[Any], None], str]] = {
    "beyond": (lambda h: h["0.bias"].update(data_offsets=[64, 1 << 40]), "outside the 80 bytes"),
    "overlap": (lambda h: h["0.bias"].update(data_offsets=[0, 16]), "over another tensor"),
    "negative": (lambda h: h["0.bias"].update(data_offsets=[-16, 0]), "outside the 80 bytes"),
    "size": (lambda h: h["0.bias"].update(shape=[5]), r"not those of F32 \[5\]"),
    "shape": (lambda h: h["0.bias"].update(shape=[2, 2]), r"0.bias is f32\[2, 2\] instead of"),
    "absent": (lambda h: h.pop("0.bias"), "saved without its weights"),
    "unknown": (lambda h: h["0.bias"].update(dtype="F99"), "saved without its weights"),
    "field": (lambda h: h["0.bias"].update(x=1), "the header: 0.bias.x"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_forged_weights(artifact: Path, tmp_path: Path, name: str) -> None:
    change, why = HEADERS[name]
    expect(rewritten(artifact, tmp_path / "bad.eff", _header(change)), why)


def test_twice_the_same_name(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.eff"
    path.write_bytes(artifact.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("plan.json", b"{}")
    expect(path, "holds plan.json twice")


def test_a_bomb_is_not_unpacked(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.eff"
    path.write_bytes(artifact.read_bytes())
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("stages/cpu/99-bomb.ir", "w") as entry,
    ):
        for _ in range(9):
            entry.write(bytes(1 << 26))
    assert path.stat().st_size < 2 << 20
    expect(path, "would unpack to 603979776 bytes")


def test_another_device(artifact: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="compiled for cpu, cuda:90, but torch sees no CUDA"):
            effcomp.load(artifact, "cuda")
    with pytest.raises(DeviceError, match="there is no device 'gpu'"):
        effcomp.load(artifact, "gpu")
    with pytest.raises(DeviceError, match="compiled for cpu, cuda:90, but this device is meta"):
        effcomp.load(artifact, "meta")
    compiled = effcomp.compile(nn.Linear(4, 4), (X,), targets=["cuda:90"])
    compiled.save(tmp_path / "gpu.eff")
    with pytest.raises(DeviceError, match="compiled for cuda:90, but this device is cpu"):
        compiled(X)
    with pytest.raises(DeviceError, match="load it on such a device"):
        effcomp.load(tmp_path / "gpu.eff", "cpu")
    with pytest.raises(DeviceError, match="no target 'cuda:42'"):
        effcomp.compile(nn.Linear(4, 4), (X,), targets=["cuda:42"])


# Saving.


def test_a_full_disk_leaves_what_was_there(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.eff"
    path.write_bytes(b"before")
    model = effcomp.load(artifact, "cpu")
    written = 0

    def write(entry: Any, body: Any) -> int:
        nonlocal written
        written += 1
        if written == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(entry, body)

    whole = zipfile._ZipWriteFile.write  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr("zipfile._ZipWriteFile.write", write)
    with pytest.raises(ArtifactError, match="No space left on device; nothing was changed"):
        model.save(path)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["model.eff"]


def test_an_interrupt_leaves_nothing(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        effcomp.load(artifact, "cpu").save(tmp_path / "model.eff")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be written"):
        effcomp.load(artifact, "cpu").save(tmp_path / "absent" / "model.eff")


def test_an_artifact_may_replace_the_one_it_came_from(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.eff"
    path.write_bytes(artifact.read_bytes())
    model = effcomp.load(path, "cpu")
    expected = model(X)
    model.save(path)
    assert torch.equal(model(X), expected)
    assert torch.equal(effcomp.load(path, "cpu")(X), expected)


# Anything at all.


@settings(max_examples=150)
@given(data=st.data())
def test_changed_bytes_give_documented_errors(artifact: Path, data: st.DataObject) -> None:
    body = bytearray(artifact.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip":
                body[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del body[at : at + data.draw(st.integers(1, 64))]
            case "insert":
                body[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case _:
                # The directory at the end is what a zip is read by.
                at = len(body) - 1 - at % min(len(body), 400)
                body[at] = data.draw(st.integers(0, 255))
    path = artifact.with_name("changed.eff")
    path.write_bytes(body)
    try:
        model = effcomp.load(path, "cpu")
    except EffcompError:
        return
    assert torch.equal(model(X), effcomp.load(artifact, "cpu")(X))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(), st.text(max_size=3),
    st.just([]), st.just({}), st.just(1 << 70), st.just("s0 // 0"),
)  # fmt: skip


@settings(max_examples=150)
@given(data=st.data())
def test_changed_texts_give_documented_errors(artifact: Path, data: st.DataObject) -> None:
    """Plans and manifests that say anything, under digests that are right."""
    name = data.draw(st.sampled_from(["plan.json", "manifest.json"]))

    def change(files: Files) -> None:
        value = json.loads(files[name])
        _replace(value, data)
        files[name] = json.dumps(value).encode()

    try:
        effcomp.load(sealed(artifact, artifact.with_name("changed.eff"), change), "cpu")
    except EffcompError:
        return


@settings(max_examples=300)
@given(data=st.data())
def test_changed_programs_give_documented_errors(artifact: Path, data: st.DataObject) -> None:
    """The text of a stage, with characters and lines exchanged."""
    stages = read_artifact(artifact).stages
    text = data.draw(st.sampled_from([t for target in stages.values() for _, t in target]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.sampled_from(["character", "cut", "line", "word"])):
            case "character":
                text = text[:at] + data.draw(st.characters(max_codepoint=0x2FF)) + text[at + 1 :]
            case "cut":
                text = text[:at] + text[at + data.draw(st.integers(1, 40)) :]
            case "line":
                lines = text.splitlines(keepends=True)
                line = lines.pop(at % len(lines))
                text = "".join([*lines[: at % 7], line, *lines[at % 7 :]])
            case _:
                words = [*text.split(" "), "f32[4]", "-1", "s0", "nn.linear", "@", "{", "9" * 30]
                text = text[:at] + data.draw(st.sampled_from(words)) + text[at:]
        text = text or " "
    try:
        verify(parse_graph(text))
    except EffcompError:
        return


def _replace(value: Any, data: st.DataObject) -> None:
    """Change something somewhere inside a JSON value."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        inside = value[key]
        if isinstance(inside, (dict, list)) and inside and data.draw(st.integers(0, 7)):
            value = inside
            continue
        if data.draw(st.booleans()):
            value[key] = data.draw(VALUES)
        else:
            del value[key]
        return


def test_another_torch_is_noted(artifact: Path, tmp_path: Path) -> None:
    older = _manifest(lambda m: m["versions"].update(torch="2.99.0"))
    notes = effcomp.load(sealed(artifact, tmp_path / "older.eff", older), "cpu").notes
    assert notes[0] == f"compiled with torch 2.99.0, running with {torch.__version__}"
