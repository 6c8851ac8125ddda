"""A graph in the form that onnxruntime maps from disk: optimized, its weights packed for this CPU's kernels.

Unprepared, every worker holds a copy of the weights; mapped, they are the page cache's, shared, and loading does not
read them. Packing takes twice a tower's memory for a moment, so a child process does it (this module as a
program), once: workers wait for each other. A prepared graph is a directory of the cache:

    <key>/graph.onnx, graph.onnx.bin    what onnxruntime wrote
    <key>/record.json                   what it is valid for, and the files' sizes and checksums; written last

Where packing changes the vectors, the directory holds a record that says so, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from filelock import FileLock

import siglip_edge
from siglip_edge.runtime.artifacts.checksums import ChecksumCache, FileRecord, record_file
from siglip_edge.runtime.artifacts.manifest import Artifact
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.execution.session import PACKING, GraphSession, build, packed_options, write_packed
from siglip_edge.runtime.machine.cpu import read_cpu_budget

logger = logging.getLogger("siglip_edge")

_GRAPH = "graph.onnx"
_RECORD = "record.json"
_PACKAGES = Path(siglip_edge.__file__).parents[1]
_UNUSED_S = 30 * 24 * 3600
"""Prepared graphs that nothing has loaded for so long are removed when another one is made."""

_CHANGED_VECTORS = 3
"""The child's exit status for what will be so every time; any other failure is worth another attempt."""


class PreparationFailed(SiglipEdgeError):
    """No prepared graph can be had; the unprepared one serves as well, with more memory."""


class Record(msgspec.Struct, frozen=True):
    """`record.json`."""

    facts: dict[str, str]
    files: tuple[FileRecord, ...]
    refused: str = ""
    """Why there is none."""


class Order(msgspec.Struct, frozen=True):
    """What the child process reads from its standard input."""

    graph: str
    target: str
    plan: ExecutionPlan


def prepare(directory: Path, artifact: Artifact, plan: ExecutionPlan, cache: Path, checksums: ChecksumCache) -> Path:
    """The prepared graph of `artifact`, made now if `cache` holds neither one to be trusted nor that it was refused.

    Raises PreparationFailed, or ArtifactCorrupt when the model directory's own files are not the recorded ones.
    """
    facts = _facts(artifact, plan)
    entry = cache / hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:32]
    record = _trusted(entry, facts, checksums)
    if record is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / "lock"):  # one at a time: each takes twice a tower's memory
                record = _trusted(entry, facts, checksums)  # where another worker has made it meanwhile
                if record is None:
                    for file in (artifact.graph, *artifact.external_data):
                        checksums.verify(directory, file)
                    logger.info("preparing %s for this machine, once", artifact.graph.path)
                    record = _make(entry, facts, (directory / artifact.graph.path).resolve(), plan)
                    _remove_unused(cache)
        except OSError as error:
            raise PreparationFailed(f"{cache}: {error.strerror or error}") from error
    if record.refused:
        raise PreparationFailed(record.refused)
    return entry / _GRAPH


def machine_facts() -> dict[str, str]:
    """What decides which kernels run."""
    return {"onnxruntime": build(), "machine": f"{platform.machine()} {' '.join(read_cpu_budget().isa)}"}


def _facts(artifact: Artifact, plan: ExecutionPlan) -> dict[str, str]:
    """All that a prepared graph depends on. Not the number of threads: it changes neither graph nor packing."""
    return {
        **machine_facts(),
        "graph": " ".join(record.sha256 for record in (artifact.graph, *artifact.external_data)),
        "provider": f"{plan.provider} {dict(plan.provider_options)}",
        "packing": str(PACKING),
    }


def _trusted(entry: Path, facts: dict[str, str], checksums: ChecksumCache) -> Record | None:
    """Whole, undamaged, made for exactly this, and by this user or root: nobody else may choose what runs here."""
    try:
        record = msgspec.json.decode((entry / _RECORD).read_bytes(), type=Record)
        if record.facts != facts or entry.stat().st_uid not in {0, os.geteuid()}:
            return None
        for file in record.files:
            checksums.verify(entry, file)
    except (OSError, msgspec.MsgspecError, SiglipEdgeError):
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)
    return record


def _make(entry: Path, facts: dict[str, str], graph: Path, plan: ExecutionPlan) -> Record:
    """Everything in a directory beside `entry` that takes its place when it is whole."""
    beside = Path(tempfile.mkdtemp(prefix=".", dir=entry.parent.resolve()))
    try:
        if refused := _run_child(Order(str(graph), str(beside / _GRAPH), plan)):
            for path in beside.iterdir():
                path.unlink()
        files = (record_file(beside, path) for path in sorted(beside.iterdir()))
        record = Record(facts, tuple(files), refused)
        (beside / _RECORD).write_bytes(msgspec.json.encode(record))
        shutil.rmtree(entry, ignore_errors=True)
        beside.rename(entry)
        return record
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _run_child(order: Order) -> str:
    """-> why its result is refused, if it is. Raises PreparationFailed when there is none."""
    command = [sys.executable, "-m", "siglip_edge.runtime.execution.packed_graph"]
    done = subprocess.run(  # noqa: S603 - this program again, no shell
        command, input=msgspec.json.encode(order), cwd=_PACKAGES, capture_output=True, check=False
    )
    if done.returncode == 0:
        return ""
    *_, last = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode == _CHANGED_VECTORS:
        return last
    raise PreparationFailed(last)


def _remove_unused(cache: Path) -> None:
    for record in cache.glob(f"*/{_RECORD}"):
        if time.time() - record.parent.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(record.parent, ignore_errors=True)


def main() -> None:
    """Write the packed graph and compare it with the original: not one bit of a pooled output may differ."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    graph, target = Path(order.graph), Path(order.target)
    try:
        write_packed(graph, order.plan, target)
        original, packed = GraphSession(graph, order.plan), GraphSession(target, order.plan, packed_options(order.plan))
    except SiglipEdgeError as error:
        sys.exit(" ".join(str(error).split()))
    row = original.noise()
    if not np.array_equal(original.run(row), packed.run(row)):
        sys.stderr.write(f"{graph.name}: packed, it gives other vectors\n")
        sys.exit(_CHANGED_VECTORS)
    for path in target.parent.iterdir():  # on disk before a record says so
        with path.open("rb") as file:
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
