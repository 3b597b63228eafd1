"""CI: pipelines call verbs that exist, verbs are sound shell, locks hold what pyproject.toml asks for."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIPELINES = (".github/workflows/ci.yml", "ci/gitlab-ci.yml")
VERBS = sorted(file for file in (ROOT / "ci").iterdir() if not file.suffix)
COMMANDS = ("setup", "lint", "types", "test")


def strings(data: Any) -> Iterator[str]:
    """Every string in a parsed YAML document."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


def pins(name: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pipelines_call_verbs_that_exist(pipeline: str) -> None:
    """A pipeline only calls executable verbs of ci/, and all of those that guard a merge."""
    called = [re.match(r"ci/\w+", text) for text in strings(yaml.safe_load((ROOT / pipeline).read_text()))]
    verbs = {match.group() for match in called if match}

    assert {f"ci/{name}" for name in COMMANDS} <= verbs
    assert [verb for verb in verbs if not os.access(ROOT / verb, os.X_OK)] == []


def test_workflow_parses_as_github_reads_it() -> None:
    """YAML 1.1 reads the key `on` as true; both jobs have steps, and the release waits for the tests."""
    workflow = yaml.safe_load((ROOT / PIPELINES[0]).read_text())

    assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}
    assert workflow["jobs"]["release"]["needs"] == "test"
    assert all(job["steps"] for job in workflow["jobs"].values())


def test_makefile_calls_verbs_that_exist() -> None:
    """Every ci/ program the Makefile names is there."""
    names = set(re.findall(r"\bci/(\w+)", (ROOT / "Makefile").read_text()))

    assert {"setup", "release", "test", "lint", "types"} <= names
    assert {verb.name for verb in VERBS} >= names


@pytest.mark.parametrize("verb", [*VERBS, ROOT / ".ci" / "run"], ids=lambda verb: str(verb.name))
def test_verbs_are_sound_shell(verb: Path) -> None:
    """Executable, parsed by its shell, and strict about errors."""
    assert verb.stat().st_mode & stat.S_IXUSR
    shell = verb.read_text().splitlines()[0].removeprefix("#!/usr/bin/env ").removeprefix("#!/bin/")
    done = subprocess.run([shell, "-n", verb], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert shell == "sh" or "set -euo pipefail" in verb.read_text()


def test_help_lists_the_verbs() -> None:
    """`make` alone tells what there is."""
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"release", "test", "lint", "types", "serve", "ui", "bench", "format", "lock", "soak", "clean"} <= listed


def test_locks_agree_with_the_project() -> None:
    """What pyproject.toml pins, the locks pin; what serves is a part of the workbench, without its heavy packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    workbench, serving = pins("requirements.lock"), pins("bentos/requirements.lock")

    for requirement in (*project["dependencies"], *extras["ops"], *extras["test"]):
        name = re.split(r"[<>=]", requirement)[0].lower()
        assert name in workbench, f"{name} is not locked; run `make lock`"
        if "==" in requirement:
            assert requirement == f"{name}=={workbench[name]}"
    assert serving.items() <= workbench.items()
    assert not {"torch", "mlflow", "onnx", "optuna", "locust"} & serving.keys()
    assert "torch" not in workbench
    assert not [name for name in workbench if name.startswith(("nvidia-cu", "triton"))]


def test_every_direct_dependency_is_credited() -> None:
    """docs/licences.md names the licence of each package pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    text = (ROOT / "docs" / "licences.md").read_text()

    names = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in asked}
    assert {name for name in names if not name.startswith("types-") and name not in text} == set()


@pytest.mark.parametrize("name", ["requirements.lock", "bentos/requirements.lock"])
def test_locks_name_no_host(name: str) -> None:
    """Where packages come from is each machine's own business."""
    assert "://" not in (ROOT / name).read_text()


def test_every_locked_package_has_a_hash() -> None:
    """An altered download is refused."""
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text().partition("\n")[2].strip())

    assert len(entries) > 100
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_without_root_and_sudo_setup_says_what_to_install(tmp_path: Path) -> None:
    """On a machine it may not change, set-up names the packages in one line and exits with 5."""
    tree, programs = tmp_path / "tree", tmp_path / "programs"
    shutil.copytree(ROOT / "ci", tree / "ci")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    programs.mkdir()
    for name in ("bash", "cat", "sha256sum", "dirname", "awk", "python3", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name, text in (("dpkg-query", "exit 1"), ("apt-get", "exit 1"), ("id", "echo 1000")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        [tree / "ci" / "setup", "test"], env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 5, done.stderr
    assert "apt-get install -y" in done.stderr
    assert "prometheus" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tree / ".venv").exists()
