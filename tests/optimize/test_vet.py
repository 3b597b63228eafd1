"""What comes from elsewhere is judged before it runs: each harm has its reason, and soundness none."""

import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from ocr_ops.core.errors import BadInput
from ocr_ops.core.release import Release
from ocr_ops.core.spec import ModelSpec
from ocr_ops.optimize import vet
from ocr_ops.optimize.shapes import check_input, check_output
from ocr_ops.optimize.vet import MAX_PARTS, read_graph
from ocr_ops.optimize.wire import count_parts
from tests.optimize.graphs import detector, recogniser, save
from tests.optimize.hostile import HOSTILE, announcing, model, node

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST_MEGABYTES = 300
"""A process may grow by, whatever a graph announces."""


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which onnxruntime is given a graph to load."""
    vet._readable(9, 17)
    vet._readable(9, 99)

    def loads(*arguments: object, **options: object) -> None:
        pytest.fail("onnxruntime loaded it")

    monkeypatch.setattr(vet.ort, "InferenceSession", loads)


def memory() -> float:
    """The most megabytes this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("name", HOSTILE)
def test_harm_is_refused_with_its_reason(name: str, tmp_path: Path, no_runtime: None) -> None:
    """One line that names the file and what is wrong with it; neither memory nor onnxruntime is asked for anything."""
    graph, cause = HOSTILE[name]
    before = memory()
    with pytest.raises(BadInput) as refused:
        read_graph(save(graph, tmp_path / "m.onnx"))
    assert cause in refused.value.found + "; expected " + refused.value.expected
    assert "m.onnx" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert memory() - before < MOST_MEGABYTES


@pytest.mark.parametrize("make", [recogniser, lambda: detector(*IMAGENET), lambda: detector(*IMAGENET, side=640)])
def test_what_is_sound_passes_as_it_is(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    """Byte for byte."""
    path = save(make(), tmp_path / "m.onnx")
    assert read_graph(path) == path.read_bytes()


def test_bundles_of_our_own_pass(tiny_release: Release) -> None:
    for bundle in (tiny_release.detection, tiny_release.recognition):
        assert read_graph(bundle.graph) == bundle.graph.read_bytes()


def test_sizes_that_follow_the_picture_pass(tmp_path: Path) -> None:
    """A fill of the input's own shape, worked out step by step, is no harm."""
    steps = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "last"], ["w"]),
        node("Div", ["w", "four"], ["q"]),
        node("Concat", ["one", "q"], ["t"], axis=0),
        node("ConstantOfShape", ["t"], ["z"]),
        node("Shape", ["z"], ["u"]),
        node("Expand", ["half", "u"], ["y"]),
    ]
    constants = {"last": np.int64([3]), "four": np.int64([4]), "one": np.int64([1]), "half": np.float32([[0.5]])}
    read_graph(save(model(steps, constants), tmp_path / "m.onnx"))


def place(graph: onnx.ModelProto, path: Path, **entries: str) -> Path:
    """The graph with the weights of its first constant said to lie elsewhere."""
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return save(graph, path)


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ({"location": "../w.bin"}, "outside its folder"),
        ({"location": "deep/../../w.bin"}, "outside its folder"),
        ({"location": "deep/../w.bin"}, "outside its folder"),
        ({"location": "/etc/hostname"}, "outside its folder"),
        ({"location": "link.bin"}, "outside its folder"),
        ({"location": "folder/w.bin"}, "outside its folder"),
        ({"location": ""}, "outside its folder"),
        ({"location": "loop"}, "no sound place"),
        ({"location": "a\0b"}, "no sound place"),
        ({"location": "a" * 5000}, "no sound place"),
        ({"location": "pipe"}, "is not there"),
        ({"location": "none.bin"}, "is not there"),
        ({"location": "w.bin", "offset": "-4"}, "weights at -4"),
        ({"location": "w.bin", "offset": "x"}, "no sound place"),
        ({"location": "w.bin", "length": "9" * 5000}, "no sound place"),
        ({"location": "w.bin", "length": "4000000000"}, "weights at 0 to 4,000,000,000"),
        ({"location": "w.bin", "offset": "60", "length": "8"}, "weights at 60 to 68"),
        ({"location": "w.bin", "length": "8"}, "holds 8 bytes"),
    ],
)
def test_weights_from_elsewhere_are_never_read(entries: dict[str, str], cause: str, tmp_path: Path) -> None:
    """Up, absolute, behind a link, of a pipe that would never end, or beyond the end of a file."""
    (tmp_path / "w.bin").write_bytes(bytes(64))
    home = tmp_path / "models"
    (home / "deep").mkdir(parents=True)
    (home / "w.bin").write_bytes(bytes(64))
    (home / "link.bin").symlink_to("../w.bin")
    (home / "folder").symlink_to("..", target_is_directory=True)
    (home / "loop").symlink_to("loop")
    os.mkfifo(home / "pipe")
    with pytest.raises(BadInput) as refused:
        read_graph(place(recogniser(), home / "m.onnx", **entries))
    assert cause in refused.value.found
    assert "\n" not in str(refused.value)


def test_one_file_told_many_times_is_counted_as_often(tmp_path: Path) -> None:
    """A thousand tensors of one megabyte in a file of one megabyte would still be a gigabyte."""
    graph = recogniser()
    for number in range(1100):
        tensor = announcing(1 << 18)
        tensor.name = f"w{number}"
        graph.graph.initializer.append(tensor)
    for tensor in graph.graph.initializer[-1100:]:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(1 << 20))
    with pytest.raises(BadInput, match="1,153 MB"):
        read_graph(save(graph, tmp_path / "m.onnx"))


def test_weights_in_an_attribute_may_lie_beside_the_graph(tmp_path: Path) -> None:
    """Constants of nodes are looked for like any other, and put in."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(np.float32([7]).tobytes())
    graph = model([node("Constant", [], ["w"], value=tensor), node("Add", ["x", "w"], ["y"])])
    made = onnx.load_model_from_string(read_graph(save(graph, tmp_path / "m.onnx")))
    assert made.graph.node[0].attribute[0].t.raw_data == np.float32([7]).tobytes()


def test_a_file_of_crumbs_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    """A million empty nodes are two megabytes on disk and eighty in memory."""
    crumbs = b"\x0a\x00" * (MAX_PARTS + 1)
    size = len(crumbs)
    head = b"\x3a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
    (tmp_path / "m.onnx").write_bytes(head + crumbs)
    before = memory()
    with pytest.raises(BadInput, match="more than 524,288 parts"):
        read_graph(tmp_path / "m.onnx")
    assert memory() - before < 50


@given(st.binary(max_size=200))
def test_counting_ends_on_any_bytes(data: bytes) -> None:
    """What no parser would read is counted up to where it breaks."""
    assert 0 <= count_parts(data, onnx.ModelProto.DESCRIPTOR, 1000) <= max(1, len(data) * 2)


SPEC = {
    "name": "bars",
    "task": "recognition",
    "licence": "Apache-2.0",
    "charset": "abc ",
    "input": {"channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "height": 48, "stride": 8, "max_side": 640},
    "quality": {"floor": 0.5},
}


@pytest.mark.parametrize(
    ("changes", "graph", "cause"),
    [
        ({"channels": 1, "mean": [0.5], "std": [0.5]}, recogniser(), "channels 3 in its input; expected 1"),
        ({"height": 32}, recogniser(), "height 48 in its input; expected 32"),
        ({"width": 96}, recogniser(width=128), "width 128 in its input; expected 96"),
        ({}, recogniser(width=128), "width 128 in its input; expected free"),
        ({}, recogniser(twice=True), "6 classes; expected 5: 4 characters and the blank"),
        ({}, detector(*IMAGENET), r"an output of 4 axes; expected \(N, T, classes\)"),
    ],
)
def test_a_spec_that_says_otherwise(changes: dict[str, object], graph: onnx.ModelProto, cause: str) -> None:
    """Channels, fixed sizes, axes and classes are declared: no run is needed to see that they differ."""
    spec = ModelSpec.parse({**SPEC, "input": {**SPEC["input"], **changes}}, "test")  # type: ignore[dict-item]
    with pytest.raises(BadInput, match=cause):
        judge(graph, spec)


def judge(graph: onnx.ModelProto, spec: ModelSpec) -> None:
    check_input(graph, spec, Path("m.onnx"))
    check_output(graph, spec, Path("m.onnx"))


BASES = [recogniser(), detector(*IMAGENET), HOSTILE["a fill in a branch"][0], HOSTILE["functions by the billion"][0]]
NUMBERS = st.one_of(st.integers(-2, 5), st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from([1 << 31, 1 << 40]))
NAMES = st.sampled_from(
    ["", "x", "y", "ink", "weights", "s", "Relu", "If", "ConstantOfShape", "Expand", "Tile", "Loop"]
)


def _scramble(message: object, draw: Callable[[st.SearchStrategy[object]], object]) -> None:
    """Changes one field, somewhere in a message."""
    assert isinstance(message, Message)
    inside = list(vet._within(message))
    one = inside[draw(st.integers(0, len(inside) - 1))]  # type: ignore[call-overload]
    fields = [field for field, _ in one.ListFields()]
    if not fields:
        return
    field = fields[draw(st.integers(0, len(fields) - 1))]  # type: ignore[call-overload]
    if field.message_type is not None or draw(st.booleans()):
        one.ClearField(field.name)
        return
    kinds = {field.TYPE_STRING: NAMES, field.TYPE_BYTES: st.binary(max_size=20), field.TYPE_FLOAT: st.floats(width=32)}
    value = draw(kinds.get(field.type, NUMBERS))
    try:
        if field.is_repeated:
            getattr(one, field.name).append(value)
        else:
            setattr(one, field.name, value)
    except (TypeError, ValueError):  # no number of that type
        one.ClearField(field.name)


@given(st.data())
def test_scrambled_graphs_pass_or_are_refused(data: st.DataObject) -> None:
    """Whatever is changed in a graph: no other error, no great memory, and no wait."""
    graph = onnx.ModelProto()
    graph.CopyFrom(data.draw(st.sampled_from(BASES)))
    for _ in range(data.draw(st.integers(1, 4))):
        _scramble(graph, data.draw)
    before = memory()
    vetted(graph.SerializeToString())
    assert memory() - before < MOST_MEGABYTES


@given(st.data())
def test_scrambled_files_pass_or_are_refused(data: st.DataObject) -> None:
    """The same of bytes."""
    whole = bytearray(data.draw(st.sampled_from(BASES)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        whole = whole or bytearray(1)
    vetted(bytes(whole))


def vetted(data: bytes) -> None:
    """Reads a graph's bytes; fails on any refusal but one line of bad input."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(data)
        file.flush()
        cause = ""
        try:
            read_graph(Path(file.name))
        except BadInput as refused:
            cause = str(refused)
    assert "\n" not in cause
