"""Fine-tuning: a trained model goes on from its weights with a few hundred lines (or pages) of somebody's own.

New characters extend the charset, real material is mixed with the renderer's so that nothing is forgotten, and a
fifth of the documents, seen neither in training nor in choosing the best weights, judges whether it helped.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ocr_ops.core.errors import UsageError
from ocr_ops.core.record import digest_file, write_atomic
from ocr_ops.core.spec import CARD_FILE, SPEC_FILE, WEIGHTS_FILE, ModelSpec, Setting
from ocr_ops.core.verdict import Verdict
from ocr_ops.data.lines import read_lines
from ocr_ops.data.pages import read_pages
from ocr_ops.train import loop
from ocr_ops.train.devices import rank
from ocr_ops.train.distil import open_teacher
from ocr_ops.train.fit import LESSONS, AnyLesson, Taught, publish_best, spec_text, train
from ocr_ops.train.fit_detection import document_of
from ocr_ops.train.judge import Comparison, Judgement, compare, set_apart
from ocr_ops.train.material import NOTHING, Material
from ocr_ops.train.networks import load
from ocr_ops.train.transfer import transfer

JUDGEMENT = "judgement.json"
EXAMS = 5
"""Evaluations of a run."""
RENDERED = 200
"""Rendered samples that judge what was forgotten."""
GENTLE: dict[str, Setting] = {"steps": 300, "ema": 0.98, "real_share": 0.5}
"""What a recipe becomes: short, half of it real,"""
LEARNING_RATE, BATCH = 5e-4, 32
"""and at most this rate and size of a batch: a fraction of those of a training from nothing."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned model: its run folder, its model folder (with weights only if `published`) and the judgement."""

    run: Path
    model: Path
    judgement: Judgement
    published: bool


def finetune(
    source: Path,
    data: Path,
    model: Path,
    runs: Path,
    *,
    material: Material = NOTHING,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    teacher: Path | None = None,
    fresh: bool = False,
    publish: bool = False,
) -> Tuned:
    """Trains the model folder `source` further on `data` (labelled lines, or pages for a detector), as `model`.

    `model` is made when it is not there: the source's spec with its charset extended by the new characters of the
    labels, and a gentle recipe of `steps`. `material` may be mixed in besides, and `teacher` (a bundle or a model
    folder) learnt from. Its weights are put there when they helped, or with `publish`; they stay in `runs`/NAME in any
    case. Resumes unless `fresh`. Raises `BadInput` for data that cannot be used.
    """
    if model.resolve() == source.resolve():
        raise UsageError(model, "the model it starts from", "another folder", "give a new one as MODEL or --name")
    source_spec, weights = ModelSpec.read(source), source / WEIGHTS_FILE
    tensors = loop.read_tensors(weights)[0]
    before = load(source_spec, tensors, weights)
    spec = ModelSpec.read(model) if (model / SPEC_FILE).is_file() else gentle(source_spec, model.name, steps)
    lines = spec.task == "recognition"
    added = new_characters(data, spec.charset) if lines else ""
    spec = spec.model_copy(update={"charset": spec.charset + added})
    apart = set_apart(documents(data, spec))
    material = replace(material, apart=apart)
    if lines:
        material = replace(material, lines=(data, *material.lines))
    else:
        material = replace(material, pages=(data, *material.pages))
    asked = open_teacher(teacher, spec.task) if teacher else None
    lesson = LESSONS[spec.task](spec, material, RENDERED if lines else RENDERED // 8, asked)
    moved = transfer(tensors, source_spec, lesson.network, spec)
    if rank() == 0:
        write_atomic(model / SPEC_FILE, spec_text(spec).encode())
        grown = f"; the charset grew by {added!r}" if added else ""
        told = f"{moved.copied} tensors of {source_spec.name}, {moved.grown} grown, {moved.fresh} fresh"
        tqdm.write(f"{spec.name}: {told}{grown}; {len(apart)} documents set apart to judge by", file=sys.stderr)
    run = runs / spec.name
    every = max(1, int(loop.setting(spec, "steps")) // EXAMS)
    train(lesson, spec, loop.Leg(run, minutes=minutes, evaluate_steps=every, device=device, fresh=fresh))
    own, rendered = judge(lesson, data, apart, before, source_spec)
    judgement = Judgement(
        model=spec.name,
        source=digest_file(weights),
        weights=digest_file(run / WEIGHTS_FILE),
        figure="CER" if lines else "1 - hmean",
        own=own,
        rendered=rendered,
        new_characters="".join(char for char in spec.charset if char not in source_spec.charset),
        left_out=len(lesson.quarantine),
    )
    publish = publish or judgement.own.verdict is Verdict.PASS
    if rank() == 0:
        judgement.save(run / JUDGEMENT)
        for folder in (run, model):
            taught = Taught(**lesson.teaching.facts) if lesson.teaching else None
            write_atomic(folder / CARD_FILE, card(spec, source_spec, judgement, taught).encode())
        if publish:
            publish_best(run, model)
    return Tuned(run, model, judgement, publish)


def gentle(spec: ModelSpec, name: str, steps: int | None = None) -> ModelSpec:
    """A spec under another name, with a recipe for going on from trained weights."""
    recipe: dict[str, Setting] = {**spec.recipe, **GENTLE}
    recipe["learning_rate"] = min(LEARNING_RATE, loop.setting(spec, "learning_rate"))
    recipe["batch"] = min(BATCH, int(loop.setting(spec, "batch")))
    if spec.task == "recognition":
        recipe["longest"] = spec.input.max_side  # lines are learnt at the width they are served at
    if steps:
        recipe["steps"] = steps
    return ModelSpec.parse({**spec.model_dump(), "name": name, "recipe": recipe}, name)


def new_characters(data: Path, charset: str) -> str:
    """Printable characters of the labels that the charset lacks, in code point order."""
    seen = {char for line in read_lines(data).lines for char in line.text}
    return "".join(sorted(char for char in seen - set(charset) if char.isprintable()))


def documents(data: Path, spec: ModelSpec) -> set[str]:
    """What a split must not part."""
    if spec.task == "recognition":
        return {line.document for line in read_lines(data).lines}
    return {document_of(page.image) for page in read_pages(data, strict=False).pages}


def judge(
    lesson: AnyLesson, data: Path, apart: frozenset[str], source: nn.Module, source_spec: ModelSpec
) -> tuple[Comparison, Comparison]:
    """Compares the lesson's network with its source: on what was set apart of the data, and on rendered samples."""
    device = next(lesson.network.parameters()).device
    rivals = ((source.to(device), source_spec), (lesson.network, lesson.spec))
    rendered: list[tuple[str, Any]] = [(str(i), sample) for i, sample in enumerate(lesson.exam["synthetic"])]
    own: list[tuple[str, Any]] = [*lesson.unseen(data, apart)]
    compared = []
    with torch.no_grad():
        for samples in (own, rendered):
            names, inside = [name for name, _ in samples], [sample for _, sample in samples]
            before, after = (lesson.errors(network.eval(), spec, inside) for network, spec in rivals)
            compared.append(compare(names, before, after))
    return compared[0], compared[1]


def card(spec: ModelSpec, source: ModelSpec, judgement: Judgement, taught: Taught | None = None) -> str:
    """The model's card, as far as the toolkit can write it."""
    grown = f"Its charset grew by `{judgement.new_characters}`.\n" if judgement.new_characters else ""
    grown += f"Taught beside its labels by {taught}.\n" if taught else ""
    return f"""\
# {spec.name}

Fine-tuned from {source.name} (weights `{judgement.source}`) on labelled {"lines" if spec.charset else "pages"}.
{grown}Licence: {spec.licence}, as its source; that of the data it was tuned on is for its owner to state.

Judged on documents that training has not seen, {judgement.figure} before and after:

- of the same data: {judgement.own}. **{judgement.words.capitalize()}.**
- rendered, in fonts not trained on: {judgement.rendered}.

{judgement.left_out} rows could not be used.
"""
