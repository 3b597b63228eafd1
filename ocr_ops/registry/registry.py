"""Registry: versions of models and releases, by digest and by alias.

Registered models: `ocr-detection` and `ocr-recognition` hold training outputs, `ocr` holds releases. MLflow keeps
no digest of what lies behind a version, and its files can be replaced without a trace: each version carries
digests as tags, and whatever is fetched is held against them.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import ocr_ops
from ocr_ops.core.attestation import ATTESTED_FILE, Attestations
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, CorruptBundle, UnknownModel
from ocr_ops.core.record import digest_file, short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.spec import CARD_FILE, CHARSET_FILE, SPEC_FILE, TASKS, TRAINING_FILE, ModelSpec, Task, output_of
from ocr_ops.core.verdict import Verdict
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import page
from ocr_ops.registry.client import Client, connect, download, log_points, save_pyfunc
from ocr_ops.registry.training import METRICS_FILE, RUN_NOTES, Training, check_weights

RELEASE_MODEL = "ocr"
Alias = Literal["candidate", "champion", "previous"]

_FOLDER = "model"
"""Where in its run's artifacts a version lies."""
_ABOUT = {
    "ocr-detection": "Text detectors: training outputs, with the bundles made of them.",
    "ocr-recognition": "Text recognisers: training outputs, with the bundles made of them.",
    "ocr": "Releases: a detector and a recogniser that serve together. The alias `champion` is what serves.",
}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version, as it was when asked for."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    description: str = field(repr=False)

    @property
    def digest(self) -> str:
        """What its `digest` tag says; empty for a version somebody registered without the toolkit."""
        return self.tags.get("digest", "")

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class Registry:
    """An open connection. Methods raise `RegistryUnreachable` when MLflow refuses or does not answer."""

    client: Client
    artifacts: Path

    @staticmethod
    def installed() -> bool:
        """Whether MLflow is there at all: a machine that trains can do without."""
        return find_spec("mlflow") is not None

    @classmethod
    def open(cls, workspace: Workspace) -> Self:
        """Connects to the store of a workspace, or to `MLFLOW_TRACKING_URI`."""
        uri = workspace.tracking_uri
        if uri.startswith("sqlite:"):
            workspace.home.mkdir(parents=True, exist_ok=True)
        return cls(connect(uri), workspace.artifacts.absolute())

    def register(self, model_dir: Path) -> ModelVersion:
        """Registers a training output as a version of `ocr-<task>`, and makes it the candidate.

        `model_dir`: `model.toml`, `weights.safetensors` (or, of an imported model, `model.onnx` and `charset.txt`),
        and if there are any `training.json` and `card.md`. The same weights and spec again give the version they
        have. `BadInput` when the weights cannot be read.
        """
        spec = ModelSpec.read(model_dir)
        weights = output_of(model_dir)
        check_weights(weights)
        digest, name = digest_file(weights), f"ocr-{spec.task}"
        for known in self._search(name, digest):
            if known.tags.get("spec_digest") == spec.digest:
                return self._with_alias(known, "candidate")
        training = Training.read(model_dir / TRAINING_FILE)
        if (model_dir / METRICS_FILE).is_file():  # a run's folder: its curves whole, not thinned out
            training.curves.update(Training.of_run(model_dir).curves)
        told = training.facts.get("weights", digest)
        if told != digest:
            remedy = "publish the training again, or remove the file"
            raise BadInput(model_dir / TRAINING_FILE, f"about weights {told}", digest, remedy)
        card = model_dir / CARD_FILE
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        with self._run(name, f"{spec.name} {short(digest)}") as run:
            recipe = {f"recipe.{key}": value for key, value in spec.recipe.items()}
            network = {f"network.{key}": value for key, value in spec.network.items()}
            self._log_params(run, {"model": spec.name, **recipe, **network, **training.facts})
            self._log_metrics(run, training.figures)
            self._log_curves(run, training.curves)
            if training.curves:
                self._log_file(run, "plots/curves.png", page.curves_png(training.curves))
            for file in (SPEC_FILE, weights.name, CHARSET_FILE, TRAINING_FILE, CARD_FILE):
                if (model_dir / file).is_file():
                    self.client.log_artifact(run, str(model_dir / file), _FOLDER)
            self._log_samples(run, model_dir)
            tags = {"digest": digest, "spec_digest": spec.digest, "model": spec.name}
            made = self._create_version(name, run, tags, page.model_description(spec, digest, training.figures, text))
        return self._with_alias(made, "candidate")

    def log_training(self, model_dir: Path, folder: Path) -> str:
        """Logs a training run's folder as an MLflow run: settings, curves so far, pictures. Its run id.

        Each leg of a training becomes a run of its own, whose curves begin where the training did.
        """
        spec = ModelSpec.read(model_dir)
        training = Training.of_run(folder)
        with self._run(f"ocr-{spec.task}", f"train {spec.name}") as run:
            recipe = {f"recipe.{key}": value for key, value in spec.recipe.items()}
            network = {f"network.{key}": value for key, value in spec.network.items()}
            self._log_params(run, {"model": spec.name, **recipe, **network})
            self._log_curves(run, training.curves)
            if training.curves:
                self._log_file(run, "plots/curves.png", page.curves_png(training.curves))
            self._log_samples(run, folder)
        return run

    def log_bundle(self, made: ModelVersion, bundle: ModelBundle, report: Report | None) -> ModelVersion:
        """Adds an exported bundle to the run of the model it came from, with its figures if it was measured.

        `BadInput` when it was made from other weights, or the report is about something else.
        """
        _require_weights(bundle, made)
        if report and report.subject != bundle.digest:
            found = f"about {short(report.subject)}"
            raise BadInput(f"report {report.name!r}", found, short(bundle.digest), "measure this bundle")
        precision = bundle.manifest.precision
        self._log_metrics(made.run_id, bundle.manifest.facts, precision)
        if report:
            self._log_metrics(made.run_id, report.metrics, precision)
            self._log_reports(made.run_id, [report], precision)
        if made.tags.get(f"bundle.{precision}") != bundle.digest:
            self.client.log_artifacts(made.run_id, str(bundle.path), f"bundles/{precision}")
            self._tag(made, {f"bundle.{precision}": bundle.digest})
        return self.version(made.name, made.version)

    def log_release(
        self, release: Release, detection: ModelVersion, recognition: ModelVersion, reports: Sequence[Report]
    ) -> ModelVersion:
        """Registers a release as a version of `ocr`, an MLflow pyfunc model, and makes it the candidate.

        The same release again gives the version it has, showing these reports if there are any. `BadInput` when
        a bundle was not made from the version named for it.
        """
        bundles = dict(zip(TASKS, (release.detection, release.recognition), strict=True))
        sources = dict(zip(TASKS, (detection, recognition), strict=True))
        for task in TASKS:
            _require_weights(bundles[task], sources[task])
        known = self._search(RELEASE_MODEL, release.digest)
        if known:
            made = known[0]
        else:
            tags = {"digest": release.digest, "gate": "PENDING"}
            for task in TASKS:
                tags |= {task: bundles[task].digest, f"{task}.version": str(sources[task].version)}
            with self._run(RELEASE_MODEL, f"release {short(release.digest)}") as run:
                for task, bundle in bundles.items():
                    self._log_params(run, {f"{task}.{key}": value for key, value in _facts(bundle).items()})
                with tempfile.TemporaryDirectory() as folder:
                    self.client.log_artifacts(run, str(_as_pyfunc(release, Path(folder))), _FOLDER)
                made = self._create_version(RELEASE_MODEL, run, tags, "")
        if reports or not made.description:
            versions = {task: source.version for task, source in sources.items()}
            description = page.release_description(release, made.version, versions, reports)
            gate = page.gate_of(made.description) or page.PENDING
            self._describe(made, page.with_gate(description, gate))
        for report in reports:
            self._log_metrics(made.run_id, report.metrics, f"{report.kind}.{report.name}")
            # Of everything; what was found of each slice stands in the report.
            judged = {one.name: one.found for one in report.checks if one.found is not None and "(" not in one.name}
            self._tag(made, {f"{report.name}.{name}": f"{value:.6g}" for name, value in judged.items()})
        self._log_reports(made.run_id, reports, "samples")
        return self._with_alias(made, "candidate")

    def tag_gate(
        self, made: ModelVersion, verdict: Verdict, report: Report, receipt_digest: str | None
    ) -> ModelVersion:
        """Shows the gate's outcome on a release: tags `gate`, `receipt`, `gate.<figure>`, and the description."""
        tags = {f"gate.{name}": f"{value:.6g}" for name, value in report.metrics.items()}
        self._log_metrics(made.run_id, report.metrics, "gate")
        self._log_reports(made.run_id, [report], "gate")
        now = self.version(made.name, made.version)
        self._describe(now, page.with_gate(now.description, page.gate_section(verdict, report, receipt_digest)))
        self._tag(made, {**tags, "gate": str(verdict), "receipt": receipt_digest or "none"})
        return self.version(made.name, made.version)

    def version(self, name: str, number: int) -> ModelVersion:
        """One version. `UnknownModel` when there is none."""
        return _version(self.client.get_model_version(name, str(number)))

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a registered model, newest first; none of a model nobody registered."""
        return self._search(name)

    def find(self, name: str, digest: str) -> ModelVersion:
        """The newest version tagged with a digest. `UnknownModel` when there is none."""
        for found in self._search(name, digest):
            return found
        remedy = "see what is registered in the MLflow UI"
        raise UnknownModel(f"{name} {short(digest)}", "not registered", "a registered digest", remedy)

    def alias(self, name: str, alias: Alias) -> ModelVersion | None:
        """The version an alias names, if it names one."""
        try:
            return _version(self.client.get_model_version_by_alias(name, alias))
        except UnknownModel:
            return None

    def set_alias(self, made: ModelVersion, alias: Alias) -> None:
        """Moves an alias to a version: one atomic step in MLflow."""
        self.client.set_registered_model_alias(made.name, alias, str(made.version))

    def fetch_release(self, made: ModelVersion, to: Path) -> Release:
        """Downloads a release to the folder `to` (replaced), once it is what the version's digest tag says.

        `CorruptBundle` when it is not whole or not that release: what lies behind a version can be swapped.
        """
        remedy = "someone replaced or removed its files, or its tag: register the release again"
        part = to.with_name(f".{to.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            source = self.client.get_model_version_download_uri(made.name, str(made.version))
            try:
                fetched = download(f"{source.rstrip('/')}/data/release", self.client, part)
            except (OSError, UnknownModel) as error:
                raise CorruptBundle(made, f"no files ({error})", made.digest or "a release", remedy) from None
            release = Release.open(fetched)
            if release.digest != made.digest:
                raise CorruptBundle(made, release.digest, made.digest or "a digest tag", remedy)
            shutil.rmtree(to, ignore_errors=True)
            fetched.rename(to)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return Release.open(to)

    def log_attestations(self, made: ModelVersion, found: Attestations) -> Attestations:
        """Adds to the attestations kept with a release's version, whose files stay as they are otherwise; gives all."""
        kept = f"{_FOLDER}/data/release"
        listed = {Path(file.path).name for file in self.client.list_artifacts(made.run_id, kept)}
        with tempfile.TemporaryDirectory() as folder:
            if ATTESTED_FILE in listed:
                source = self.client.get_run(made.run_id).info.artifact_uri
                download(f"{source}/{kept}/{ATTESTED_FILE}", self.client, Path(folder))
            known = Attestations.beside(Path(folder), found.release)
            whole = known.joined(found.attestations)
            if whole != known:
                file = whole.save(Path(folder) / ATTESTED_FILE)
                self.client.log_artifact(made.run_id, str(file), kept)
        return whole

    def fetch_bundle(self, task: Task, digest: str, to: Path) -> ModelBundle:
        """Downloads a bundle of this digest to the folder `to` (replaced). `UnknownModel` when none was logged."""
        for made in self._search(f"ocr-{task}"):
            for tag, value in made.tags.items():
                if tag.startswith("bundle.") and value == digest:
                    uri = self.client.get_run(made.run_id).info.artifact_uri
                    with tempfile.TemporaryDirectory() as folder:
                        kept = f"{uri}/bundles/{tag.removeprefix('bundle.')}"
                        fetched = ModelBundle.open(download(kept, self.client, Path(folder)))
                        if fetched.digest == digest:
                            return fetched.copy(to)
        raise UnknownModel(f"{task} bundle {short(digest)}", "not registered", "its bundle", "export the model here")

    def _search(self, name: str, digest: str | None = None) -> list[ModelVersion]:
        query = f"name = '{name}'" + (f" and tags.digest = '{digest}'" if digest else "")
        numbers: list[int] = []
        token: str | None = None
        while token != "":
            found = self.client.search_model_versions(query, max_results=200, page_token=token)
            numbers += [int(one.version) for one in found]
            token = found.token or ""
        # A search leaves the aliases out; one by one they come along.
        return [self.version(name, number) for number in sorted(numbers, reverse=True)]

    def _create_version(self, name: str, run: str, tags: Mapping[str, str], description: str) -> ModelVersion:
        """Comes last of a run's effects, so that no version points at half a run."""
        try:
            self.client.get_registered_model(name)
        except UnknownModel:
            self.client.create_registered_model(name, description=_ABOUT[name])
        source = f"{self.client.get_run(run).info.artifact_uri}/{_FOLDER}"
        made = self.client.create_model_version(name, source, run_id=run, tags=dict(tags), description=description)
        return _version(made)

    def _with_alias(self, made: ModelVersion, alias: Alias) -> ModelVersion:
        self.set_alias(made, alias)
        return self.version(made.name, made.version)

    @contextmanager
    def _run(self, experiment: str, name: str) -> Iterator[str]:
        """The id of a run that ends FINISHED, or FAILED when the body raises."""
        found = self.client.get_experiment_by_name(experiment)
        if found:
            number = found.experiment_id
        else:
            # A server keeps artifacts where it was told to; with a bare database it is for us to say.
            served = self.client.uri.startswith(("http:", "https:"))
            place = None if served else (self.artifacts / experiment).as_uri()
            number = self.client.create_experiment(experiment, artifact_location=place)
        run = self.client.create_run(number, run_name=name).info.run_id
        try:
            yield run
        except BaseException:
            self.client.set_terminated(run, "FAILED")
            raise
        self.client.set_terminated(run, "FINISHED")

    def _log_params(self, run: str, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            self.client.log_param(run, _key(name), str(value)[:500])

    def _log_metrics(self, run: str, metrics: Mapping[str, float], prefix: str = "") -> None:
        dot = f"{prefix}." if prefix else ""
        log_points(self.client, run, [(_key(dot + name), value, 0) for name, value in metrics.items()])

    def _log_curves(self, run: str, curves: Mapping[str, page.Curve]) -> None:
        points = [(_key(name), value, step) for name, curve in curves.items() for step, value in curve]
        log_points(self.client, run, points)

    def _log_samples(self, run: str, folder: Path) -> None:
        """What a run's folder shows of itself: pictures, confusions, rows put aside, a fine-tuning's judgement."""
        for file in sorted(folder.glob("*.png")):
            self.client.log_artifact(run, str(file), "samples")
        for name in RUN_NOTES:
            if (folder / name).is_file():
                self.client.log_artifact(run, str(folder / name), "samples")

    def _log_reports(self, run: str, reports: Sequence[Report], plot: str) -> None:
        for report in reports:
            text = report.model_dump_json(indent=2)
            self.client.log_text(run, text, f"reports/{report.kind}-{_key(report.name)}.json")
        picture = page.samples_png(reports)
        if picture:
            self._log_file(run, f"plots/{plot}.png", picture)

    def _log_file(self, run: str, path: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            file.write_bytes(data)
            self.client.log_artifact(run, str(file), str(Path(path).parent))

    def _tag(self, made: ModelVersion, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_model_version_tag(made.name, str(made.version), _key(name), value)

    def _describe(self, made: ModelVersion, text: str) -> None:
        self.client.update_model_version(made.name, str(made.version), text)


def _version(found: Any) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id,
        tags=dict(found.tags),
        aliases=tuple(found.aliases),
        description=found.description or "",
    )


def _require_weights(bundle: ModelBundle, made: ModelVersion) -> None:
    if bundle.manifest.weights != made.digest:
        found = f"made from weights {short(bundle.manifest.weights)}"
        raise BadInput(bundle.path, found, f"{short(made.digest)} of {made}", "name the version it came from")


def _facts(bundle: ModelBundle) -> dict[str, Any]:
    """A manifest's one-line facts, for people to search by."""
    manifest = bundle.manifest
    return {
        "model": manifest.model,
        "precision": manifest.precision,
        "licence": manifest.licence,
        "opset": manifest.opset,
        "weights": manifest.weights,
        "toolkit": manifest.toolkit,
        "digest": bundle.digest,
    }


def _as_pyfunc(release: Release, folder: Path) -> Path:
    """An MLflow pyfunc model of a release in `folder`: the release, and the code that runs it."""
    shutil.copytree(release.path, folder / "release")
    package, code = Path(ocr_ops.__file__).parent, folder / "ocr_ops"
    code.mkdir()
    shutil.copy(package / "__init__.py", code)
    for room in ("core", "runtime"):
        shutil.copytree(package / room, code / room, ignore=shutil.ignore_patterns("__pycache__"))
    made = folder / _FOLDER
    save_pyfunc(
        made,
        loader="ocr_ops.runtime.pyfunc",
        data=folder / "release",
        code=code,
        requirements=_serving_set(),
    )
    return made


def _serving_set() -> list[str]:
    """What serving needs, as installed here: the package's requirements that belong to no extra."""
    names = [re.split(r"[^\w.-]", line)[0] for line in requires("ocr-ops") or [] if "extra ==" not in line]
    pinned = []
    for name in names:
        try:
            pinned.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            pinned.append(name)
    return pinned


def _key(name: str) -> str:
    """A name as metrics, params, tags and files all allow it."""
    return re.sub(r"[^\w.-]+", "-", name)
