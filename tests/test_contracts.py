"""Architecture: who may import whom, and that the serving box really is lean."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVING = ("ocr_ops/core", "ocr_ops/runtime", "bentos")
HEAVY = {"torch", "mlflow", "optuna", "onnx", "locust", "matplotlib", "pandas"}


def test_imports_point_one_way() -> None:
    """The contracts of pyproject.toml hold."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def imported(file: Path) -> set[str]:
    """Top-level packages a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("room", SERVING)
def test_no_source_that_serves_imports_a_heavy_package(room: str) -> None:
    """Not at the top, not inside a function, not for type checkers."""
    files = sorted((ROOT / room).rglob("*.py"))

    assert files
    assert {str(file): found for file in files if (found := imported(file) & HEAVY)} == {}


def test_the_services_import_where_heavy_packages_are_poison() -> None:
    """Nor does anything they import: with those packages forbidden, every serving module still loads."""
    files = [file.relative_to(ROOT) for room in SERVING for file in sorted((ROOT / room).rglob("*.py"))]
    modules = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    script = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)\nprint('loaded', {len(modules)})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["loaded", str(len(modules))]


def test_only_one_room_imports_each_heavy_package() -> None:
    """mlflow stands behind the registry, torch behind training; their imports are nowhere else."""
    homes = {"mlflow": "registry", "torch": "train"}
    for package, home in homes.items():
        users = {
            file.relative_to(ROOT / "ocr_ops").parts[0].removesuffix(".py")
            for file in (ROOT / "ocr_ops").rglob("*.py")
            if package in imported(file)
        }
        assert users == {home}


def test_nothing_we_run_opens_pickles() -> None:
    """They are code: no source imports what opens them, and `torch.load` and `numpy.load` are told not to."""
    openers = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for room in ("ocr_ops", "bentos", "loadtests"):
        for file in sorted((ROOT / room).rglob("*.py")):
            assert not imported(file) & openers, file
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                told = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
                called = ast.unparse(node.func)
                assert called != "torch.load" or told.get("weights_only") is True, f"{file}:{node.lineno}"
                assert called not in ("np.load", "numpy.load") or not told.get("allow_pickle"), f"{file}:{node.lineno}"
