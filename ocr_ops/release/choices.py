"""What a serving search varies, and what a point of it means: a variant and the settings to serve it with."""

import math
from collections.abc import Callable, Mapping

from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from ocr_ops.release.space import Point, Space

SIDES = (0.5, 0.75, 1.0, 1.25)
"""Of the detector's longest page side, to that of its manifest."""
BATCHES = (8, 32, 64)
WAITS = (0.0, 2.0, 10.0)
"""Milliseconds that crops wait for company."""
AS_MODEL = "model"
"""Buckets: those of the recogniser's manifest."""
GRADES = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Pixels: widths half or a third apart from each other."""


def serving_space(releases: Mapping[str, Release], cores: int) -> Space:
    """Every variant by name, and what is worth trying of the settings on so many cores."""
    powers = tuple(2**i for i in range(cores.bit_length()))
    first = next(iter(releases.values()))
    return Space(
        {
            "variant": tuple(releases),
            "threads": powers,
            "workers": powers if cores > 1 else (1, 2),
            "gateway_workers": tuple(power for power in powers if power <= max(2, cores // 2)),
            "max_batch_size": BATCHES,
            "max_wait_ms": WAITS,
            "max_side": _sides(first),
            "buckets": _buckets(list(releases.values())),
        }
    )


def todays(releases: Mapping[str, Release], cores: int) -> Point:
    """The first variant, served without any settings."""
    name, first = next(iter(releases.items()))
    plain, workers = ServingSettings(), ServingSettings().workers_on(cores)
    return {
        "variant": name,
        "threads": 2 ** (cores.bit_length() - 1),
        "workers": workers["recognition"],
        "gateway_workers": workers["gateway"],
        "max_batch_size": plain.max_batch_size,
        "max_wait_ms": plain.max_wait_ms,
        "max_side": first.detection.manifest.input.max_side,
        "buckets": AS_MODEL,
    }


def expectation(today: Point, cores: int) -> Callable[[Point], float]:
    """What is known of throughput before anything is measured: its logarithm, up to a constant.

    About half of a page's cost is the detector's and grows with the page's area; threads and workers help as far as
    there are cores, and beyond get in each other's way.
    """

    def expect(point: Point) -> float:
        area = (float(point["max_side"]) / float(today["max_side"])) ** 2
        used = int(point["threads"]) * int(point.get("workers", 1))
        return 0.8 * math.log(min(used, cores)) - 0.05 * math.log(max(used / cores, 1)) - math.log(0.5 + 0.5 * area)

    return expect


def settings_of(point: Point) -> ServingSettings:
    """The settings of a point; a dimension it lacks is as without any."""
    plain = ServingSettings().model_dump()
    changed: dict[str, object] = {name: value for name, value in point.items() if name in plain}
    if "workers" in point:
        changed |= {"detection_workers": point["workers"], "recognition_workers": point["workers"]}
    buckets = str(point.get("buckets", AS_MODEL))
    changed["buckets"] = () if buckets == AS_MODEL else tuple(int(width) for width in buckets.split(","))
    return ServingSettings.parse(changed, "a point of the search")


def _sides(release: Release) -> tuple[int, ...]:
    spec = release.detection.manifest.input
    if spec.height and spec.width:
        return (spec.max_side,)
    sides = {max(1, round(spec.max_side * share / spec.stride)) * spec.stride for share in SIDES}
    return tuple(sorted(sides | {spec.max_side}))


def _buckets(releases: list[Release]) -> tuple[str, ...]:
    """The manifest's own, and where it leaves the choice, fewer of them: fuller calls for more padding."""
    manifests = [release.recognition.manifest for release in releases]
    if any(manifest.input.width for manifest in manifests):
        return (AS_MODEL,)
    widest = max(manifest.input.max_side for manifest in manifests)
    allowed = set(GRADES).intersection(*(manifest.buckets for manifest in manifests if manifest.buckets))
    fewer = sorted(width for width in allowed if width <= widest)
    return (AS_MODEL, ",".join(map(str, fewer))) if fewer else (AS_MODEL,)
