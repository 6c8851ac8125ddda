"""`siglip-edge doctor`: checks a model on this machine, times it and advises changes."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import click

from siglip_edge.cli.model_options import listed_model, plan_with, present, settings_with
from siglip_edge.cli.paths import GivenPath
from siglip_edge.cli.timed_rows import PAGE, PASSAGE, QUERY, rows_of_length, timed_lengths
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.checks.kernels import examine_kernels, excluded
from siglip_edge.runtime.errors import SelfTestFailed, SiglipEdgeError
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan
from siglip_edge.runtime.execution.session import available_providers, version
from siglip_edge.runtime.machine.cpu import INT8_DOT_PRODUCTS, CpuBudget, read_cpu_budget, resident_bytes
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.config.settings import Settings

_RUNS = 9
"""Timed runs per tower; an odd number has a median."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """The findings on this machine. Times are in milliseconds, memory in megabytes."""

    right: bool
    verdict: str
    machine: str
    model: str
    kernels: str
    """Agreement of onnxruntime's integer products with NumPy's on this CPU."""
    plan: str | None = None
    refused: list[str] = dataclasses.field(default_factory=list)
    """The plans that come before `plan` but failed, each with its reason."""
    load_ms: float | None = None
    resident_mb: float | None = None
    row_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    """Tower, with the length of its row where lengths differ -> median time of one row, without decoding and
    tokenization."""
    advice: list[str] = dataclasses.field(default_factory=list)


@click.command("doctor")
@click.argument("model", type=GivenPath())
@click.option("--device", help="Device to check: auto, cpu, cuda, cuda:N, openvino, openvino:GPU [DEVICE].")
@click.option("--precision", help="Precision to check: auto, int8, int4, fp16 or fp32 [PRECISION].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(model: str, device: str | None, precision: str | None, as_json: bool) -> None:
    """Check MODEL, a model directory or its name in MODELS_DIR, on this machine.

    The exit status is 1 when MODEL must not be served here. The environment variables of `serve` apply, so that the
    server will behave as this command reports.
    """
    settings = settings_with(MODEL=model, DEVICE=device, PRECISION=precision)
    (directory,) = present([listed_model(settings, model)]).values()
    findings = examine(directory, settings)
    click.echo(json.dumps(dataclasses.asdict(findings), indent=2) if as_json else render(findings))
    sys.exit(0 if findings.right else 1)


def examine(directory: Path, settings: Settings) -> Findings:
    """Open the model as the server does, with its self-test, and time each tower."""
    cpu = read_cpu_budget()
    machine = f"{cpu.describe()}, {cpu.memory / 2**30:.1f} GiB, {' '.join(cpu.isa)}; {', '.join(available_providers())}"
    kernels = _kernels()
    before, started = resident_bytes(), time.perf_counter()
    try:
        model = plan_with(settings, directory).open()
    except SiglipEdgeError as error:
        verdict = f"WRONG: {error}" if isinstance(error, SelfTestFailed) else f"cannot be served here: {error}"
        return Findings(right=False, verdict=verdict, machine=machine, kernels=kernels, model=str(directory))
    load_ms = 1000 * (time.perf_counter() - started)
    return Findings(
        right=True,
        verdict=verdict_on(directory, model),
        machine=machine,
        kernels=kernels,
        model=_described(model.manifest),
        plan=f"{model.plan.place}: {model.plan.reason}",
        refused=list(model.plan.refused),
        load_ms=round(load_ms, 1),
        row_ms=row_ms(model),
        resident_mb=round((resident_bytes() - before) / 1e6, 1),
        advice=advise(cpu, model.manifest, model.plan),
    )


def verdict_on(directory: Path, model: EmbeddingModel) -> str:
    """One sentence about the agreement of an opened model with FP32."""
    rows = selftest.load_golden(directory, model.manifest)
    if not rows:
        return "untested: this model directory holds no golden rows"
    cosines = selftest.check(model, rows)
    worst = ", ".join(f"{tower} {cosine:.5f}" for tower, cosine in cosines.items())
    return f"right: worst cosine to FP32 over {len(rows)} golden rows: {worst}"


def advise(cpu: CpuBudget, manifest: Manifest, plan: ExecutionPlan) -> list[str]:
    """Changes that would make this model faster, smaller or safer here, one sentence each."""
    have = manifest.precisions()
    artifacts = [manifest.artifact(tower, plan.precision) for tower in manifest.tower_names]
    size = sum(record.size for artifact in artifacts for record in artifact.files)
    on_cpu = plan.provider == CPU
    cases = {
        "export again: without golden rows no test notices wrong embeddings": manifest.golden is None,
        "export int8 too: on a CPU it takes a quarter of the memory and less than half the time": on_cpu
        and Precision.INT8 not in have,
        "set PRECISION=auto: it takes int8, which is the fastest on a CPU, where int8 passes its test": on_cpu
        and plan.precision not in {Precision.INT8, Precision.INT4}
        and Precision.INT8 in have
        and not any(refused.startswith(Precision.INT8) for refused in plan.refused),
        "export fp16 too: on CUDA it is faster than int8": plan.provider.startswith("CUDA")
        and Precision.FP16 not in have,
        f"a quota of {cpu.quota or 0:g} CPUs throttles in bursts; grant whole CPUs": bool(cpu.quota and cpu.quota % 1),
        f"the artifacts take {size / 1e6:.0f} of {cpu.memory / 1e6:.0f} MB; grant more memory": size > cpu.memory / 2,
        "this CPU has no 8-bit dot product (VNNI, AMX, i8mm): expect INT8 to gain 1.7x rather than 2.5x": on_cpu
        and plan.precision is Precision.INT8
        and not INT8_DOT_PRODUCTS.intersection(cpu.isa),
    }
    return [sentence for sentence, holds in cases.items() if holds]


def render(findings: Findings) -> str:
    rows = ", ".join(f"{tower} {ms} ms" for tower, ms in findings.row_ms.items())
    lines = {
        "model": findings.model,
        "machine": findings.machine,
        "kernels": findings.kernels,
        "plan": findings.plan,
        "refused": "\n          ".join(findings.refused),
        "speed": f"loaded and tested in {findings.load_ms} ms; one row: {rows}" if rows else None,
        "memory": f"{findings.resident_mb} MB resident for this model" if rows else None,
        "change": "\n          ".join(findings.advice) or "nothing" if rows else None,
        "verdict": findings.verdict,
    }
    return "\n".join(f"{name:9} {line}" for name, line in lines.items() if line)


def _kernels() -> str:
    """One sentence about onnxruntime's release, and one about its integer products."""
    release = excluded(version(), platform.machine())
    found = examine_kernels()
    wrong = "; ".join(f"{precision} WRONG: {product}" for precision, product in found.items() if product)
    products = wrong or f"{' and '.join(found)} products equal to NumPy's in every bit"
    return "; ".join(filter(None, [products, release]))


def _described(manifest: Manifest) -> str:
    precisions = ", ".join(manifest.precisions())
    return f"{manifest.name}: {manifest.dimensions} dimensions, {precisions}, space {manifest.space_id}"


def row_ms(model: EmbeddingModel) -> dict[str, float]:
    """Median milliseconds of one row of each tower; of texts of several lengths where the model has them."""
    return {
        f"{tower} of {tokens} tokens" if tokens else str(tower): round(_row_ms(model, tower, tokens), 2)
        for tower in model.towers
        for tokens in timed_lengths(model.manifest, tower, QUERY, PASSAGE, PAGE)
    }


def _row_ms(model: EmbeddingModel, tower: Tower, tokens: int | None) -> float:
    row = rows_of_length(model, tower, 1, tokens)
    model.run(tower, row)  # not timed: the first run of a length allocates memory
    taken = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        model.run(tower, row)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)
