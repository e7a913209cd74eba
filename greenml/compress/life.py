"""The life of one compression, top to bottom: it yields what happened, and who called it stores and shows it."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from greenml import environment, serve
from greenml.compress.footprint import memory_bytes, num_bytes, open_any
from greenml.compress.inference import Contender, answers, measure, served, some_images
from greenml.compress.plan import CALIBRATED, FINE_TUNED, same_student
from greenml.compress.steps import STEPS
from greenml.compress.work import Candidate, Halted, Work
from greenml.errors import DataError, GreenMLError
from greenml.learn import artifact, models, precision, setup
from greenml.learn.batches import evaluation_batches
from greenml.learn.flops import flops_per_sample
from greenml.records import Notice, Run, RunEnd
from greenml.run.books import Books
from greenml.run.pace import follow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from greenml.compress.inference import Answers
    from greenml.compress.plan import Plan
    from greenml.energy import Meter
    from greenml.records import Record
    from greenml.serve import Predictor

EVALUATION_BATCH = 256
SERVED = {"onnx", "openvino"}
"""Exports that `greenml predict` can open: where there is one, it does."""
PRECISIONS = {"int8": "int8", "qat": "int8", "dynamic": "int8", "bf16": "bf16", "fp16": "fp16"}
"""In which numbers a method is to compute; fp32 where it is not among these."""
PEERS = ("fp32", "bf16")
"""What OpenVINO makes of the parent without any compression: what a smaller model is held against, beside the parent as
it is."""


def compress(
    plan: Plan, meter: Meter, *, run_id: str, folder: Path, halted: Callable[[], str | None] = lambda: None
) -> Iterator[Record]:
    """Make a smaller model, test it and measure what it saves; yields a Run, Phases, Epochs, Served, Inference and a
    RunEnd as they become known.

    Leaves the model in `folder`, as `model.pt` or in its runtime's format. Where `halted` gives a reason, the run ends
    in good order: it leaves what it had made by then. Raises UsageError for what cannot be done with this model,
    DataError for data or a parent that is not what it was; after the RunEnd, TrainingError where fine-tuning leaves
    the numbers, StoreError where the disk is full.
    """
    meter.wait_until_ready()
    device = precision.pick_device(plan.base.device)
    meter.attach(device.type, lambda: precision.synchronize(device))
    if plan.base.require_meter:
        meter.require()
    work = yield from _prepare(plan, meter, device, run_id=run_id, folder=folder, halted=halted)
    candidate, plan = work.parent, work.plan
    yield _begin(work)

    correct: Answers | None = None
    val: Answers | None = None
    failure: GreenMLError | None = None
    status, reason = "done", "compressed"
    try:
        for method in plan.methods:
            work.halt()
            candidate = yield from STEPS[method](work, candidate)
            yield from work.books.settle()
        work.halt()
        yield from _leave(work, candidate)
        with ExitStack() as stack:
            with work.meter.window("infer"):
                contenders = _contenders(work, candidate, stack)
            candidate = yield from _as_it_runs(candidate, contenders)
            val, correct = yield from _judge(work, contenders)
            yield from _measure(work, contenders)
        if plan.methods:
            try:
                yield from _export(work, candidate)
            except GreenMLError as error:  # the model is made and measured all the same
                failure = error
    except Halted as halt:
        status, reason = "interrupted", str(halt)
    except GreenMLError as error:
        yield from work.books.close()
        yield _end(work, candidate, "failed", error.stop_reason, None, None)
        raise
    yield from work.books.close()
    yield _end(work, candidate, status, reason, val, correct)
    if failure:
        raise failure


def _prepare(
    plan: Plan,
    meter: Meter,
    device: torch.device,
    *,
    run_id: str,
    folder: Path,
    halted: Callable[[], str | None],
) -> Generator[Record, None, Work]:
    """Read the parent and the data that it was trained on, once nothing speaks against the plan."""
    if plan.student and models.resolve_name(plan.student) == plan.parent.row["model"]:
        raise same_student(plan.student)
    model, said = artifact.load(plan.parent.folder / "model.pt")
    data = yield from setup.read(plan.base, device)
    row = plan.parent.row
    if (data.facts["data_hash"], data.facts["split_hash"]) != (row["data_hash"], row["split_hash"]):
        raise DataError(
            f"{data.facts['dataset']} is not what run {row['run_id']} was trained on: it has changed since",
            hint="bring the old data back, or train on the new data first",
        )
    if set(plan.methods) & set(CALIBRATED) and plan.calibration > len(data.train):
        yield Notice(text=f"calibrating with {len(data.train):,} images, not {plan.calibration:,}: there are no more")
        plan = dataclasses.replace(plan, calibration=len(data.train))
    if set(plan.methods) & set(FINE_TUNED):
        batch, _ = next(evaluation_batches(data.train, precision.PROBE_BATCH))
        choice = precision.choose(plan.base.precision, device, model.to(device), batch)
        if choice.why:
            yield Notice(text=f"fine-tuning in {choice.precision}, not in {plan.base.precision}: {choice.why}")
        plan = dataclasses.replace(plan, base=dataclasses.replace(plan.base, precision=choice.precision))
    return Work(
        plan=plan,
        run_id=run_id,
        folder=folder,
        device=device,
        data=data,
        parent=Candidate(
            model=model.to(device),
            architecture=said["architecture"],
            model_args=artifact.without_sources(said["model_args"]),
            stem=row["stem"],
            num_parameters=models.num_parameters(model),
            flops_per_sample=flops_per_sample(model, data.in_chans, data.image_size),
        ),
        meter=meter,
        books=Books(meter, None),
        halted=halted,
    )


def _begin(work: Work) -> Run:
    plan = work.plan
    commit, dirty = environment.git()
    config = dataclasses.asdict(plan.base) | {"model": work.parent.architecture, "model_args": work.parent.model_args}
    if plan.student:
        config |= {"model": models.resolve_name(plan.student), "model_args": {}}
    return Run(
        run_id=work.run_id,
        kind="compress",
        name=plan.name,
        tags=list(plan.tags),
        parent=plan.parent.run_id,
        method=plan.words,
        model=config["model"],
        **work.data.facts,
        stem=work.parent.stem,
        precision_asked=PRECISIONS.get(plan.methods[-1], "fp32") if plan.methods else "fp32",
        batch_size=plan.base.batch_size,
        seed=plan.base.seed,
        split_seed=plan.base.split_seed,
        scope=plan.base.scope,
        config=config | {"compress": plan.to_plain()},
        device=work.device.type,
        hardware=setup.hardware_of(work.device),
        meter=work.meter.describe(),
        intensity=plan.intensity,
        versions=environment.versions(),
        dependencies_hash=environment.dependencies_hash(),
        git_commit=commit,
        git_dirty=dirty,
        command=environment.command(),
        started_at=work.meter.started_at,
    )


def _description(work: Work, candidate: Candidate) -> dict[str, Any]:
    """What the files of the model say beside its weights."""
    said = artifact.describe(
        architecture=candidate.architecture,
        model_args=candidate.model_args,
        classes=work.data.classes,
        in_chans=work.data.in_chans,
        image_size=work.data.image_size,
        norm=work.data.norm,
    )
    return {**said, "run_id": work.run_id, "precision": candidate.precision}


def _leave(work: Work, candidate: Candidate) -> Generator[Record, None, None]:
    """The model as files of the run."""
    said = _description(work, candidate)
    if candidate.converted is not None:
        with work.meter.window("export"):
            from greenml.compress import quantize

            quantize.save(candidate.converted, work.folder, said, candidate.precision)
    elif work.plan.methods or not set(work.plan.exports) & SERVED:
        with work.meter.window("export"):
            artifact.verified_save(work.folder / "model.pt", candidate.model, said)
    if not work.plan.methods:  # then the export is what is measured; else it comes last
        yield from _export(work, candidate)
    yield from work.books.settle()


def _export(work: Work, candidate: Candidate) -> Generator[Record, None, None]:
    """The model in other formats, each of them run against the original."""
    if not work.plan.exports:
        return
    from greenml.compress import exporting

    said = _description(work, candidate)
    images, _ = next(evaluation_batches(work.data.val, exporting.NUM_CHECKED))
    # Of several, the last one is what `predict` opens.
    for kind in sorted(work.plan.exports, key=lambda kind: kind == "openvino"):
        work.halt()
        with work.meter.window("export"):
            export = exporting.export(candidate.model, kind, work.folder, said, images.cpu().numpy())
        yield Notice(text=export.words)


def _contenders(work: Work, candidate: Candidate, stack: ExitStack) -> list[Contender]:
    """The parent as `greenml predict` serves it, this model, and the parent as its runtime serves it unchanged."""
    device, parent, threads = work.device.type, work.plan.parent, torch.get_num_threads()
    after = open_any(work.folder, device=device, num_threads=threads)
    if after.device != device:  # exported models compute on the CPU: so does what they are held against
        device = after.device
    before = open_any(parent.folder, device=device, num_threads=threads)
    found = [
        Contender(
            name=name,
            model_run=run_id,
            folder=folder,
            predictor=predictor,
            num_bytes=num_bytes(predictor, folder),
            num_parameters=model.num_parameters,
            flops_per_sample=model.flops_per_sample,
        )
        for name, run_id, folder, predictor, model in (
            ("before", parent.run_id, parent.folder, before, work.parent),
            ("after", work.run_id, work.folder, after, candidate),
        )
    ]
    if after.backend == "openvino" and before.backend == "torch" and work.plan.methods:
        found += _peers(work, found[0], after, stack)
    return found


def _as_it_runs(candidate: Candidate, contenders: list[Contender]) -> Generator[Record, None, Candidate]:
    """The candidate in the numbers in which this processor really computes it."""
    found = next(one.predictor.precision for one in contenders if one.name == "after")
    if found != candidate.precision:
        yield Notice(text=f"{candidate.precision} asked, {found} computes: this processor has no {candidate.precision}")
    return dataclasses.replace(candidate, precision=found)


def _peers(work: Work, before: Contender, after: Predictor, stack: ExitStack) -> Iterator[Contender]:
    """What OpenVINO alone makes of the parent, in fp32 and in bf16 where this processor has it."""
    from greenml.compress import quantize

    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greenml-")))
    converted = quantize.to_openvino(work.parent.model, work.image_shape)
    quantize.save(converted, place, _description(work, work.parent), "fp32")
    for asked in PEERS:
        peer = serve.open_exported(place, precision=asked, num_threads=after.num_threads)
        if peer.precision == asked and work.plan.methods != (asked,):  # else that is what was made
            yield dataclasses.replace(
                before,
                name=f"{peer.backend} {peer.precision}",
                folder=place,
                predictor=peer,
                num_bytes=num_bytes(peer, place),
            )


def _judge(work: Work, contenders: list[Contender]) -> Generator[Record, None, tuple[Answers, Answers]]:
    """What the model makes of validation and test, and what the others make of the same test images."""
    after = next(one for one in contenders if one.name == "after")
    with work.meter.window("validate"):
        scoring = answers(after.predictor, work.data.val, EVALUATION_BATCH)
        val, _ = yield from follow(scoring, "validating", len(work.data.val), None, work.books, work.halt)
    found: dict[str, Answers] = {}
    for one in contenders:
        # What others answer is asked for the comparison alone.
        with work.meter.window("test" if one is after else "infer"):
            scoring = answers(one.predictor, work.data.test, EVALUATION_BATCH)
            test, _ = yield from follow(scoring, "testing", len(work.data.test), None, work.books, work.halt)
        assert test is not None
        found[one.name] = test
    with work.meter.window("infer"):
        memory = {
            one.name: memory_bytes(one.folder, one.predictor.precision) if one.predictor.device == "cpu" else None
            for one in contenders
        }
    for one in contenders:
        yield served(one, found[one.name], found["before"], memory[one.name], work.run_id)
    assert val is not None
    return val, found["after"]


def _measure(work: Work, contenders: list[Contender]) -> Generator[Record, None, None]:
    plan = work.plan
    sizes = sorted({1, min(plan.batch_size, len(work.data.test))})
    total = len(contenders) * len(sizes) * plan.repeats
    images = some_images(work.data.test, max(sizes))
    repeats = measure(contenders, images, sizes, plan.repeats, work.meter, work.run_id, halted=work.halt)
    for done, repeat in enumerate(repeats, start=1):
        yield repeat
        yield from work.books.settle()
        yield work.books.progress("measuring", done, total, None)


def _end(
    work: Work, candidate: Candidate, status: str, reason: str, val: Answers | None, test: Answers | None
) -> RunEnd:
    is_whole = status == "done"
    return RunEnd(
        run_id=work.run_id,
        status=status,
        stop_reason=reason,
        ended_at=work.meter.ended_at,
        best_epoch=work.best_epoch,
        val_accuracy=val.correct / val.count if val else None,
        test_accuracy=test.correct / test.count if test else None,
        test_correct=test.correct if test else None,
        test_count=test.count if test else None,
        precision=candidate.precision,
        stem=candidate.stem if is_whole else None,
        num_parameters=candidate.num_parameters if is_whole else None,
        flops_per_sample=candidate.flops_per_sample if is_whole else None,
    )
