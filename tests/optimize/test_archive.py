"""Archives give up the one model in them, or are refused before anything of theirs lies elsewhere."""

import gzip
import io
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.errors import BadInput
from ocr_ops.optimize.archive import MAX_MEMBERS, is_archive, model_in

Write = Callable[[Path], None]


def zipped(**members: bytes) -> Write:
    """A zip of members by name."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return write


def tarred(*entries: tarfile.TarInfo, data: bytes = b"graph") -> Write:
    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            for entry in entries:
                entry.size = len(data) if entry.isreg() else 0
                archive.addfile(entry, io.BytesIO(data))

    return write


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def linked_zip(path: Path) -> None:
    info = zipfile.ZipInfo("m.onnx")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


def lzma_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("m.onnx", b"graph")


def locked_zip(path: Path) -> None:
    """With the bit set that says it is encrypted."""
    zipped(**{"m.onnx": b"graph"})(path)
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)


def lying_zip(path: Path) -> None:
    """A member that says it is four bytes long, and is a megabyte."""
    zipped(**{"m.onnx": bytes(1 << 20)})(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2") + 24
    data[place : place + 4] = (4).to_bytes(4, "little")
    path.write_bytes(data)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("m.onnx", "w") as file:
        for _ in range(32):
            file.write(bytes(1 << 20))


def tar_bomb(path: Path) -> None:
    """A gigabyte and a half of zeros, said in the header of one member: none of it needs to be there."""
    info = entry("m.onnx")
    info.size = 3 << 29
    path.write_bytes(gzip.compress(info.tobuf() + bytes(1 << 16)))


def long_header(path: Path) -> None:
    """The name of a member is told to be a gigabyte long."""
    info = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 30
    path.write_bytes(gzip.compress(info.tobuf() + bytes(1 << 16)))


def headers_in_headers(path: Path) -> None:
    info = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 2
    path.write_bytes((info.tobuf() + b"a\0".ljust(512, b"\0")) * 5000)


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(MAX_MEMBERS + 1):
            archive.writestr(f"{number}.txt", b"")


def very_many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5000):
            archive.writestr(f"{number:0200}.txt", b"")


def cut(path: Path) -> None:
    whole = path.with_name("whole.tar.gz")
    with tarfile.open(whole, "w:gz") as archive:
        info = entry("m.onnx")
        info.size = 1 << 20
        archive.addfile(info, io.BytesIO(bytes(range(256)) * 4096))
    path.write_bytes(whole.read_bytes()[:2000])
    whole.unlink()


@pytest.mark.parametrize(
    ("name", "write", "cause"),
    [
        ("a.zip", zipped(**{"../m.onnx": b"graph"}), "'../m.onnx', which leads outside"),
        ("a.zip", zipped(**{"/tmp/m.onnx": b"graph"}), "leads outside"),  # noqa: S108
        ("a.zip", zipped(**{"a\\..\\m.onnx": b"graph"}), "leads outside"),
        ("a.zip", zipped(**{"C:m.onnx": b"graph"}), "leads outside"),
        ("a.zip", zipped(**{"a/../../m.onnx": b"graph"}), "leads outside"),
        ("a.zip", zipped(**{"a\x1bm.onnx": b"graph"}), "expected names of files"),
        ("a.zip", zipped(**{"a" * 300: b"graph"}), "expected names of files"),
        ("a.zip", zipped(**{"m.onnx": b"graph", "M.onnx": b"graph"}), "'M.onnx' twice"),
        ("a.zip", zipped(**{"m.onnx": b"graph", "m.onnx/a": b"graph"}), "does not unpack"),
        ("a.zip", linked_zip, "a link 'm.onnx'"),
        ("a.zip", lzma_zip, "compression 14 of 'm.onnx'"),
        ("a.zip", locked_zip, "encrypted"),
        ("a.zip", lying_zip, "does not unpack"),
        ("a.zip", bomb, "unpacks to 34 MB, 200 times its size"),
        ("a.zip", many, "more than 1,000 files"),
        ("a.zip", very_many, "a table of contents for very many files"),
        ("a.zip", zipped(**{"a.onnx": b"graph", "b/c.onnx": b"graph"}), "2 ONNX files: a.onnx, b/c.onnx"),
        ("a.zip", zipped(**{"readme.txt": b"hello"}), "no ONNX file in it"),
        ("a.tar", tarred(entry("x/inference.pdiparams")), "a PaddlePaddle model"),
        ("a.tar", tarred(entry("../m.onnx")), "'../m.onnx', which leads outside"),
        ("a.tar", tarred(entry("/etc/m.onnx")), "leads outside"),
        ("a.tar", tarred(entry("m.onnx", tarfile.SYMTYPE, "/etc/passwd")), "a link 'm.onnx'"),
        ("a.tar", tarred(entry("a"), entry("m.onnx", tarfile.LNKTYPE, "a")), "a link 'm.onnx'"),
        ("a.tar", tarred(entry("m.onnx", tarfile.FIFOTYPE)), "a device 'm.onnx'"),
        ("a.tar", tarred(entry("m.onnx", tarfile.CHRTYPE)), "a device 'm.onnx'"),
        ("a.tar", tarred(entry("../up", tarfile.DIRTYPE)), "leads outside"),
        ("a.tar", headers_in_headers, "does not unpack"),
        ("a.tar.gz", tar_bomb, "unpacks to 1,611 MB"),
        ("a.tgz", long_header, "a header of 1,073,74"),
        ("a.tar.gz", cut, "does not unpack"),
        ("a.tar", lambda path: path.write_bytes(b"no tar" * 200), "does not unpack"),
        ("a.zip", lambda path: path.write_bytes(b"no zip" * 200), "no zip archive"),
        ("a.tgz", lambda path: path.write_bytes(b""), "does not unpack"),
        ("a.zip", lambda path: path.mkdir(), "no such file"),
    ],
)
def test_malice_is_refused(name: str, write: Write, cause: str, tmp_path: Path) -> None:
    """One line with the reason; nothing lies outside the folder, and memory stays."""
    home = tmp_path / "home"
    home.mkdir()
    write(home / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput) as refused:
        model_in(home / name, home / "out")
    line = str(refused.value)
    assert cause in line
    assert "\n" not in line
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert not any(path.is_symlink() for path in home.rglob("*"))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100


@pytest.mark.parametrize("name", ["PP-rec.tar", "PP-rec.tar.gz", "PP-rec.TGZ", "PP-rec.zip"])
def test_a_sound_one_gives_its_model(name: str, tmp_path: Path) -> None:
    """With the files that lie beside it, such as `inference.yml`."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "inference.onnx").write_bytes(b"graph")
    (folder / "inference.yml").write_bytes(b"settings")
    archive = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(archive, "w") as made:
            for file in folder.iterdir():
                made.write(file, f"model/{file.name}")
    else:
        with tarfile.open(archive, "w" if name.endswith("tar") else "w:gz") as made:
            made.add(folder, "./model")
    assert is_archive(archive)
    found = model_in(archive, tmp_path / "out")
    assert found.read_bytes() == b"graph"
    assert found.with_name("inference.yml").read_bytes() == b"settings"


@given(data=st.binary(max_size=600), name=st.sampled_from(["a.zip", "a.tar", "a.tgz"]), sound=st.booleans())
def test_any_bytes_are_refused_in_one_line(
    data: bytes, name: str, sound: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also those that begin as an archive does."""
    folder = tmp_path_factory.mktemp("bytes")
    start = {"a.zip": b"PK\3\4", "a.tar": entry("a").tobuf(), "a.tgz": gzip.compress(entry("a").tobuf())[:-8]}[name]
    (folder / name).write_bytes((start if sound else b"") + data)
    with pytest.raises(BadInput) as refused:
        model_in(folder / name, folder / "out")
    assert "\n" not in str(refused.value)
