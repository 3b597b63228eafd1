"""Prepare: a bundle that also carries its graph as onnxruntime optimises it for machines like this one.

Loading spares the optimiser's work, and computes the same: the operators, their order and layout are those that a
session of the plain graph comes to here.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import GateFailed, UsageError
from ocr_ops.runtime.session import Session, graph_name, options

PREPARED_FOR = ("cpu", "cuda")
"""Providers whose graphs can be written down; others compile theirs."""
SHAPES = ((1, 64, 96), (3, 96, 64), (2, 192, 320))
"""Batch, height and width of the runs that compare; what a model has fixed stays."""


def prepared(bundle: ModelBundle, out: Path, provider: str = "cpu") -> ModelBundle:
    """Writes to `out` the bundle with one file more, `graph_name(provider)`; those of other machines stay in it.

    Its `parent` is the bundle. `GateFailed` when an output is not the same bit for bit, `UsageError` for a provider
    that keeps no graphs, `OutsideSystem` for one that does not work here.
    """
    if provider not in PREPARED_FOR:
        raise UsageError("provider", provider, " or ".join(PREPARED_FOR), "it optimises when it loads; nothing is kept")
    plain = Session(bundle, threads=1, provider=provider)
    files = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
    name = graph_name(provider)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = options(1)
        wanted.optimized_model_filepath = str(Path(scratch) / name)
        ort.InferenceSession(files[GRAPH_FILE], wanted, providers=[plain.provider], enable_fallback=0)
        files[name] = (Path(scratch) / name).read_bytes()
        manifest = bundle.manifest.model_copy(update={"parent": bundle.digest})
        draft = ModelBundle.write(Path(scratch) / "draft", manifest, files)
        made = Session(draft, threads=1, provider=provider)
        for batch in _batches(bundle):
            if not np.array_equal(plain.run(batch), made.run(batch)):
                raise GateFailed(
                    bundle.path, f"another output for input {batch.shape}", "the same bits", "do not use it"
                )
    return ModelBundle.write(out, manifest, files)


def _batches(bundle: ModelBundle) -> list[NDArray[np.float32]]:
    rng, spec = np.random.default_rng(21), bundle.manifest.input
    return [
        rng.uniform(-1, 1, (count, spec.channels, spec.height or height, spec.width or width)).astype(np.float32)
        for count, height, width in SHAPES
    ]
