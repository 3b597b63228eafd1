"""Bounds decide, on every slice; what is too little to tell, or was not measured, admits nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.bench.admission import OTHER, Errors, admission, members, prevailing
from ocr_ops.core.policy import VariantPolicy
from ocr_ops.core.verdict import Check, Verdict, worst

PAGES, LINES, CHARACTERS = 24, 20, 30
"""Of the samples here: lines a page, characters a line."""
POLICY = VariantPolicy()
Samples = dict[str, Sequence[float]]


def lines(edits: Sequence[float] | float = 0.0, cpu_ms: float = 100.0, spread: float = 0.05) -> Samples:
    """What a recogniser made of all lines."""
    noise = 1 + spread * np.random.default_rng(int(cpu_ms)).standard_normal(PAGES)
    made = [edits] * (PAGES * LINES) if isinstance(edits, float) else edits
    return {"edits": made, "characters": [CHARACTERS] * len(made), "cpu_ms": list(cpu_ms * noise)}


def slices(odd: int = 60) -> dict[str, list[tuple[str, ...]]]:
    """The first `odd` lines are long, and the first pages noisy."""
    items = [("width: long" if i < odd else "width: short",) for i in range(PAGES * LINES)]
    pages = [("noise: high" if i < PAGES // 3 else "noise: low",) for i in range(PAGES)]
    return {"items": items, "pages": pages}


def judged(own: Samples, parent: Samples, policy: VariantPolicy = POLICY, odd: int = 60) -> dict[str, Check]:
    """The checks by name."""
    return {check.name: check for check in admission("recognition", own, parent=parent, **slices(odd), policy=policy)}


def verdict(checks: Mapping[str, Check]) -> Verdict:
    return worst(check.verdict for check in checks.values())


def test_a_variant_that_reads_alike_and_is_faster_is_admitted() -> None:
    """Every slice has its checks, and the bound of no error at all is the rule of three."""
    checks = judged(lines(cpu_ms=60.0), lines())
    assert verdict(checks) is Verdict.PASS
    assert {"cer_increase (width: long)", "speedup (noise: high)", "lines", "pages"} <= checks.keys()
    assert checks["cer_increase"].found == pytest.approx(3.69 / (PAGES * LINES * CHARACTERS), rel=0.01)
    assert checks["speedup"].found is not None
    assert 1 < checks["speedup"].found < 100 / 60


def test_a_variant_that_reads_worse_is_refused() -> None:
    """An edit more in every third line is a CER more than a point up: FAIL, with figure, bound and limit."""
    worse = [float(i % 3 == 0) for i in range(PAGES * LINES)]
    checks = judged(lines(worse, 60.0), lines())
    assert checks["cer_increase"].verdict is Verdict.FAIL
    assert str(checks["cer_increase"]).startswith("cer_increase 0.01111, at worst 0.01")


def test_a_loss_in_one_slice_is_not_hidden_by_the_rest() -> None:
    """Two edits in each of few long lines pass on average, and are refused by their slice, which is named."""
    hurt = [2.0 * (i < 30) for i in range(PAGES * LINES)]
    checks = judged(lines(hurt, 60.0), lines(), odd=30)
    assert checks["cer_increase"].found is not None
    assert checks["cer_increase"].found < 0.01
    assert checks["cer_increase (width: long)"].verdict is Verdict.FAIL
    assert checks["cer_increase (width: short)"].verdict is Verdict.PASS
    assert verdict(judged(lines(hurt, 60.0), lines(), VariantPolicy(max_cer_increase=0.02), odd=30)) is Verdict.FAIL


def test_a_slow_variant_is_refused_and_an_unsure_one_too() -> None:
    """FAIL when it is shown to be slower; INCONCLUSIVE when the interval holds 1, which does not pass either."""
    assert judged(lines(cpu_ms=120.0), lines())["speedup"].verdict is Verdict.FAIL
    assert judged(lines(cpu_ms=99.0, spread=0.4), lines())["speedup"].verdict is Verdict.INCONCLUSIVE


def test_too_few_lines_prove_nothing() -> None:
    """Ten lines read alike on three pages are no reason to admit anything, nor one to condemn it."""
    few: Samples = {"edits": [0.0] * 10, "characters": [CHARACTERS] * 10, "cpu_ms": [60.0] * 3}
    dear = few | {"cpu_ms": [100.0] * 3}
    placed = {"items": [("width: long",)] * 10, "pages": [("noise: low",)] * 3}
    checks = {check.name: check for check in admission("recognition", few, parent=dear, **placed, policy=POLICY)}
    assert {name: checks[name].verdict for name in ("cer_increase", "lines", "pages")} == dict.fromkeys(
        ("cer_increase", "lines", "pages"), Verdict.INCONCLUSIVE
    )
    assert verdict(checks) is Verdict.INCONCLUSIVE


def test_nothing_measured_is_invalid() -> None:
    """No line and no page at all."""
    nothing: Samples = {"edits": [], "characters": [], "cpu_ms": []}
    checks = admission("recognition", nothing, parent=nothing, items=[], pages=[], policy=POLICY)
    assert worst(check.verdict for check in checks) is Verdict.INVALID


def test_a_detector_answers_for_its_boxes() -> None:
    """Missed and false boxes lower hmean; in a slice, those missed count."""
    boxes = PAGES * LINES
    page: Samples = {"found": [LINES] * PAGES, "expected": [LINES] * PAGES, "cpu_ms": [100.0] * PAGES}
    parent = page | {"hits": [LINES] * PAGES, "missed": [0.0] * boxes}
    same = parent | {"cpu_ms": [50.0] * PAGES}
    checks = {check.name: check for check in admission("detection", same, parent=parent, **slices(200), policy=POLICY)}
    assert verdict(checks) is Verdict.PASS
    missed = [float(i < 12) for i in range(boxes)]
    blind = page | {"hits": [LINES - 12, *[LINES] * (PAGES - 1)], "missed": missed}
    checks = {check.name: check for check in admission("detection", blind, parent=parent, **slices(200), policy=POLICY)}
    assert checks["hmean_drop"].figure == pytest.approx(12 / boxes)
    assert checks["boxes_lost (width: long)"].verdict is Verdict.FAIL


def test_small_slices_are_pooled() -> None:
    """Each item once; a pool that is too small is nobody's slice."""
    labels = [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("b", "y")]
    found = members(labels, 3)
    assert {name: items.tolist() for name, items in found.items()} == {"a": [0, 1, 2], OTHER: [0, 1, 2, 3, 4]}
    assert list(members([("a",), ("a",), ("b",)], 2)) == ["a"]


def test_a_page_is_of_the_slices_most_of_its_lines_are_in() -> None:
    """A tie is no majority."""
    assert prevailing([("a", "n"), ("a", "m"), ("b", "n"), ("b", "n")]) == ("n",)
    assert prevailing([]) == ()


@given(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0]), min_size=2, max_size=60))
def test_the_bound_is_never_below_the_figure(extra: list[float]) -> None:
    """Nor at it: there is always something that was not seen."""
    size = len(extra)
    check = Errors.of(extra, [0.0] * size, [20.0] * size).check("cer_increase", 0.005)
    assert check.found is not None
    assert check.figure is not None
    assert check.found >= check.figure
    assert check.found > 0


def test_the_bound_holds_about_as_often_as_it_says() -> None:
    """Of 200 variants whose lines get worse one time in fifty, the bound covers the truth in at least 93 of 100."""
    rng = np.random.default_rng(5)
    rate, size = 0.02, 150
    covered = 0
    for _ in range(200):
        own = (rng.random(size) < rate).astype(float)
        check = Errors.of(own, np.zeros(size), np.full(size, 20.0)).check("cer_increase", 0.005)
        covered += check.found is not None and check.found >= rate / 20
    assert covered >= 186
