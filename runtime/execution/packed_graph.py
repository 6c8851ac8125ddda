"""Packed graphs: optimized graphs whose weights are packed for this CPU's kernels and mapped from disk.

Without packing, every worker holds its own copy of the weights. Mapped weights belong to the page cache: all workers
share them, and loading does not read them. Packing needs twice a tower's memory for a moment, so a child process does
it (this module run as a program). A file lock makes the other workers wait. A packed graph is a directory of the cache:

    <key>/graph.onnx, graph.onnx.bin    the packed graph and its weights
    <key>/record.json                   the facts it depends on, and the files' sizes and checksums; written last

When packing changes the vectors, the directory holds only a record with the reason. docs/decisions/packed-graphs.md
has the measurements.
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
"""Seconds (30 days). Packing a graph removes the packed graphs that no process has loaded for this time."""

_CHANGED_VECTORS = 3
"""Exit status of the child process when packing changes the vectors. This result is recorded, because another attempt
would end the same way; after any other failure the next start tries again."""


class PackingFailed(SiglipEdgeError):
    """The graph cannot be packed. The original graph gives the same vectors and takes more memory."""


class Record(msgspec.Struct, frozen=True):
    """`record.json`."""

    facts: dict[str, str]
    files: tuple[FileRecord, ...]
    refused: str = ""
    """Why packing was refused; empty when the packed graph may be used."""


class Order(msgspec.Struct, frozen=True):
    """The job of the child process, which reads it from its standard input."""

    graph: str
    target: str
    plan: ExecutionPlan


def packed_graph(
    directory: Path, artifact: Artifact, plan: ExecutionPlan, cache: Path, checksums: ChecksumCache
) -> Path:
    """Path of the packed graph of `artifact` in `cache`; packs it now when the cache has no trusted entry for it.

    Raises PackingFailed, or ArtifactCorrupt when a file of the model directory differs from the manifest.
    """
    facts = _facts(artifact, plan)
    entry = cache / hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:32]
    record = _trusted(entry, facts, checksums)
    if record is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / "lock"):  # one at a time, because each takes twice a tower's memory
                record = _trusted(entry, facts, checksums)  # another worker may have packed it meanwhile
                if record is None:
                    for file in (artifact.graph, *artifact.external_data):
                        checksums.verify(directory, file)
                    logger.info("packing %s/%s for this machine, once", directory.name, artifact.graph.path)
                    record = _make(entry, facts, (directory / artifact.graph.path).resolve(), plan)
                    _remove_unused(cache)
        except OSError as error:
            raise PackingFailed(f"{cache}: {error.strerror or error}") from error
    if record.refused:
        raise PackingFailed(record.refused)
    return entry / _GRAPH


def machine_facts() -> dict[str, str]:
    """The onnxruntime build and the instruction sets, which decide the kernels that run."""
    return {"onnxruntime": build(), "machine": f"{platform.machine()} {' '.join(read_cpu_budget().isa)}"}


def _facts(artifact: Artifact, plan: ExecutionPlan) -> dict[str, str]:
    """Everything that a packed graph depends on. The number of threads changes neither graph nor packing."""
    return {
        **machine_facts(),
        "graph": " ".join(record.sha256 for record in (artifact.graph, *artifact.external_data)),
        "provider": f"{plan.provider} {dict(plan.provider_options)}",
        "packing": f"{PACKING}{' signed products' if plan.signed_products else ''}",
    }


def _trusted(entry: Path, facts: dict[str, str], checksums: ChecksumCache) -> Record | None:
    """The record of `entry` when its files are whole, its facts match, and this user or root owns it; else None.

    A graph that another user wrote must not run in this process.
    """
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
    """Pack into a temporary directory beside `entry`, then rename it to `entry`, so that no reader sees half of it."""
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
    """Pack in a child process. -> why its result is refused, or "". Raises PackingFailed after any other failure."""
    command = [sys.executable, "-m", "siglip_edge.runtime.execution.packed_graph"]
    done = subprocess.run(  # noqa: S603 - this program again, no shell
        command, input=msgspec.json.encode(order), cwd=_PACKAGES, capture_output=True, check=False
    )
    if done.returncode == 0:
        return ""
    *_, last = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode == _CHANGED_VECTORS:
        return last
    raise PackingFailed(last)


def _remove_unused(cache: Path) -> None:
    for record in cache.glob(f"*/{_RECORD}"):
        if time.time() - record.parent.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(record.parent, ignore_errors=True)


def main() -> None:
    """Write the packed graph and compare it with the original: every bit of the pooled output must be equal."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    graph, target = Path(order.graph), Path(order.target)
    try:
        write_packed(graph, order.plan, target)
        original, packed = GraphSession(graph, order.plan), GraphSession(target, order.plan, packed_options(order.plan))
    except SiglipEdgeError as error:
        sys.exit(" ".join(str(error).split()))
    row = original.noise()
    if not np.array_equal(original.run(row), packed.run(row)):
        sys.stderr.write(f"{graph.name}: the packed graph gives other vectors\n")
        sys.exit(_CHANGED_VECTORS)
    for path in target.parent.iterdir():  # the files must be on disk before the record names them
        with path.open("rb") as file:
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
