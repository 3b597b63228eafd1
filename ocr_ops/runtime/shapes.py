"""Shapes: on a GPU, a session of its own for each shape of input that comes often.

ONNX Runtime's CUDA provider remembers how a convolution is best run for the shape it had last, and for no other: with
cuDNN 9 each change of shape costs a network of ours 15 to 50 ms (github.com/microsoft/onnxruntime/issues/23006), where
the run itself takes 1 to 3. Pages and crops change it with nearly every call. A session that is only ever given one
shape works it out once.
"""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFTEN = 4
"""Times a shape has come before it is given a session: loading one costs as much as some changes of shape."""
MOST = 64
"""Sessions beside the common one. Each has memory of its own: 76 of the small networks at most took 32 GB."""
FREE = 0.5
"""Of the GPU's memory: with less than this there are no more sessions. Calls of all sizes need the rest."""
ROWS = 4
"""Inputs of a batch are filled up to a power of this: so that there are few shapes, and none is mostly filling."""

Shape = tuple[int, ...]


class ByShape:
    """The sessions of one graph. May be used by several threads at once."""

    def __init__(
        self, common: Any, load: Callable[[], Any], free: Callable[[], float] | None = None, most: int = MOST
    ) -> None:
        """`common` runs whatever comes seldom; `load` makes another session of the same graph. `free` tells how much of
        the memory they take is free, 0 to 1; None: `free_memory`.
        """
        self._common, self._load, self._free, self._most = common, load, free or free_memory, most
        self._own: OrderedDict[Shape, Any] = OrderedDict()
        """The one used last at the end."""
        self._seen: Counter[Shape] = Counter()
        self._lock = threading.Lock()

    def of(self, shape: Shape) -> Any:
        """The session to run an input of this shape with."""
        with self._lock:
            if shape in self._own:
                self._own.move_to_end(shape)
                return self._own[shape]
            self._seen[shape] += 1
            if self._seen[shape] != OFTEN:
                return self._common
            if self._free() < FREE:
                self._seen[shape] = 0
                if not self._own:
                    return self._common
                del self._seen[self._own.popitem(last=False)[0]]
        try:
            made = self._load()  # others who come with this shape meanwhile make do with the common one
        except Exception:  # noqa: BLE001  no memory for it; if it is the graph, the common one will tell
            with self._lock:
                self._most = len(self._own)
            return self._common
        with self._lock:
            self._own[shape] = made
            while len(self._own) > self._most:
                del self._seen[self._own.popitem(last=False)[0]]
        return made


def free_memory() -> float:
    """How much of the memory of this process's GPU is free, 0 to 1; 0 where NVIDIA's driver does not tell."""
    import pynvml  # noqa: PLC0415  of the `gpu` extra, and of BentoML's

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    try:
        pynvml.nvmlInit()
        by_number = visible.isdecimal()
        gpu = (
            pynvml.nvmlDeviceGetHandleByIndex(int(visible)) if by_number else pynvml.nvmlDeviceGetHandleByUUID(visible)
        )
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
    except pynvml.NVMLError:
        return 0.0
    return float(memory.free / memory.total)


def filled(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """A batch (N, ...) with zeros after its own, up to the next power of `ROWS`."""
    rows = 1
    while rows < len(batch):
        rows *= ROWS
    if rows == len(batch):
        return batch
    return np.concatenate([batch, np.zeros((rows - len(batch), *batch.shape[1:]), batch.dtype)])
