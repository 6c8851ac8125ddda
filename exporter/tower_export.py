"""One tower: traced, proven against the original, and derived in every precision, each verified as it is served."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from siglip_edge.exporter.calibration import SAMPLE, Observation, Progress, observe, without_padding
from siglip_edge.exporter.families.family import Checkpoint, Family
from siglip_edge.exporter.graphs import graph_files as graphs
from siglip_edge.exporter.graphs.float16 import to_half
from siglip_edge.exporter.int4.weight_quantization import POSITIONS, quantize_weights, search_bits
from siglip_edge.exporter.int8 import attention
from siglip_edge.exporter.int8.qdq import linear_nodes
from siglip_edge.exporter.int8.search import Found, min_max, search
from siglip_edge.exporter.search_ledger import Ledger
from siglip_edge.exporter.verification import fidelity
from siglip_edge.exporter.verification.served_rows import run_rows
from siglip_edge.exporter.verification.trial import Trial
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Artifact, Precision, Tower, VocabularySpec
from siglip_edge.runtime.rows import Arrays, Row, stack
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.runtime.text.vocabulary import Vocabulary, graph_inputs, write_vocabulary

Floats = NDArray[np.float32]
TABLE = {
    Precision.FP32: ("fp32", "float32"),
    Precision.FP16: ("fp16", "float16"),
    Precision.INT8: ("int8", "int8"),
    Precision.INT4: ("int8", "int8"),
}
"""Name and type of the vocabulary. INT4 shares INT8's: only touched rows are ever in memory, whatever their size."""
HELD_BACK = 4
"""Every fourth calibration row is held back: fidelity is measured on rows that no range was taken from."""
SEARCHED, MIN_MAX = "searched", "min-max"
"""How INT8 takes its ranges: by the search, or by minimum and maximum as most quantizers do."""
_TRACE_ROWS = 16
_SEARCH_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class TowerExport:
    """One tower on its way. Rows are as serving makes them."""

    family: Family[Any]
    checkpoint: Checkpoint
    tower: Tower
    calibration: Sequence[Row]
    golden: Sequence[Row]
    directory: Path
    ledger: Ledger
    progress: Progress
    ranges: str = SEARCHED
    table: Floats | None = None
    """The token embedding table, (vocabulary, width), which stays outside the graph; known once the tower is traced."""

    @property
    def calibrating(self) -> Sequence[int]:
        """Positions in `calibration` of the rows that ranges are taken from."""
        return [index for index in range(len(self.calibration)) if index % HELD_BACK]

    @property
    def compared(self) -> Sequence[int]:
        """Positions on which variants are compared, few of `calibrating`: rows lose within a third of each other."""
        return self.calibrating[:: -(-len(self.calibrating) // _SEARCH_ROWS)]

    @property
    def held_back(self) -> Sequence[Row]:
        return self.calibration[::HELD_BACK]

    @property
    def exact_vocabulary(self) -> Vocabulary | None:
        return None if self.table is None else Vocabulary(self.table, None)


@dataclass(frozen=True, kw_only=True)
class TowerResult:
    """What one tower contributes to a model directory. Embeddings are FP32's, (n, d) unit rows."""

    artifacts: dict[Precision, Artifact]
    calibration: Floats
    golden: Floats


def export_tower(work: TowerExport, precisions: Collection[Precision]) -> TowerResult:
    """Write the tower's artifacts. Raises FidelityError when any of them disagrees with the checkpoint."""
    model, table = _trace(work)
    work = replace(work, table=table)
    (reference_path, *_) = reference_files = _write(work, model, "reference")
    rows = [*work.golden, *work.calibration]
    pooled = _run(work, reference_files, Precision.FP32, rows, work.exact_vocabulary)
    golden, calibration = pooled[: len(work.golden)], pooled[len(work.golden) :]
    _verify_trace(work, rows[:_TRACE_ROWS], pooled[:_TRACE_ROWS])
    artifacts = {}
    for precision in sorted(precisions, key=list(Precision).index):
        converted, details = _converted(work, model, reference_path, precision, calibration)
        files = _write(work, converted, precision)
        artifacts[precision] = _artifact(work, precision, files, calibration[::HELD_BACK], details)
    graphs.remove(reference_path)
    return TowerResult(artifacts=artifacts, calibration=l2_normalize(calibration), golden=l2_normalize(golden))


def _trace(work: TowerExport) -> tuple[onnx.ModelProto, Floats | None]:
    path, table = work.directory / f"{work.tower}_traced.onnx", None
    for _ in work.progress([path], f"{work.tower}: trace"):
        table = work.family.trace(work.checkpoint, work.tower, path)
    model = graphs.simplify(path)
    graphs.remove(path)
    return model, table


def _verify_trace(work: TowerExport, rows: Sequence[Row], traced: Floats) -> None:
    """The FP32 graph, its folded constants included, against the original implementation on the same rows."""
    wanted = [work.family.reference(work.checkpoint, work.tower, stack([row])) for row in rows]
    fidelity.verify(np.concatenate(wanted), traced, work.tower, Precision.FP32)


def _converted(
    work: TowerExport, model: onnx.ModelProto, path: Path, precision: Precision, reference: Floats
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """`model`, which is also at `path`, in another precision, and how it was made. `reference`: FP32's outputs."""
    if precision is Precision.FP16:
        return to_half(path), {}
    if precision is Precision.INT8:
        return _whole(work, _searched(work, model, reference))
    if precision is Precision.INT4:
        return _whole(work, _in_few_bits(work, model, reference))
    return model, {}


def _searched(work: TowerExport, model: onnx.ModelProto, reference: Floats) -> Found:
    tensors = _linear_inputs(model) | attention.activations(attention.attention_layers(model.graph))
    seen = _observed(work, model, tensors, work.calibrating, SAMPLE)
    trial = _trial(work, model, reference)
    if work.ranges == MIN_MAX:
        return min_max(model, trial, seen, _shown(work))
    return search(model, trial, seen, work.ledger, _shown(work))


def _in_few_bits(work: TowerExport, model: onnx.ModelProto, reference: Floats) -> Found:
    """Weights fit the rows that they are rounded for; the loss is measured on other rows."""
    rows = [index for index in work.calibrating if index not in work.compared]
    seen = _observed(work, model, _linear_inputs(model), rows, POSITIONS)
    trial = replace(_trial(work, model, reference), quantize=quantize_weights)
    return search_bits(model, trial, seen, work.ledger, _shown(work))


def _linear_inputs(model: onnx.ModelProto) -> set[str]:
    return {node.input[0] for node in linear_nodes(model.graph)}


def _observed(
    work: TowerExport, model: onnx.ModelProto, tensors: Collection[str], rows: Sequence[int], sample: int
) -> dict[str, Observation]:
    """Inner tensors over the calibration rows at these positions."""
    shown = work.progress([work.calibration[index] for index in rows], f"{work.tower}: calibrate")
    inputs = _inputs(map(without_padding, shown), work.exact_vocabulary)
    return observe(model, sorted(tensors), inputs, len(rows), work.directory, sample=sample)


def _trial(work: TowerExport, model: onnx.ModelProto, reference: Floats) -> Trial:
    compared = work.compared
    return Trial(
        name=work.tower,
        model=graphs.bare(model, _weights_file(work)),
        directory=work.directory,
        rows=list(_inputs([work.calibration[index] for index in compared], work.exact_vocabulary)),
        reference=l2_normalize(reference[compared]),
    )


def _whole(work: TowerExport, found: Found) -> tuple[onnx.ModelProto, dict[str, Any]]:
    quantized = graphs.whole(found.model, work.directory)
    _weights_file(work).unlink(missing_ok=True)  # a small tower has no large weights
    return quantized, found.details


def _weights_file(work: TowerExport) -> Path:
    return work.directory / f"{work.tower}_weights.bin"


def _shown(work: TowerExport) -> Progress:
    return lambda items, what: work.progress(items, f"{work.tower}: {what}")


def _artifact(
    work: TowerExport, precision: Precision, files: Sequence[Path], reference: Floats, details: dict[str, Any]
) -> Artifact:
    """Compare the written files, as they will be served, with FP32 on the held-back rows."""
    vocabulary = None if work.table is None else _write_table(work, work.table, precision)
    loaded = Vocabulary.load(work.directory, vocabulary) if vocabulary else None
    pooled = _run(work, files, precision, work.held_back, loaded)
    measured = fidelity.verify(reference, pooled, work.tower, precision)
    graph, *external = (record_file(work.directory, file) for file in files)
    return Artifact(
        graph=graph,
        external_data=tuple(external),
        vocabulary=vocabulary,
        fidelity=measured,
        details=details,
    )


def _run(
    work: TowerExport, files: Sequence[Path], precision: Precision, rows: Sequence[Row], vocabulary: Vocabulary | None
) -> Floats:
    """Pooled outputs, (n, d), under the session options that will serve them."""
    shown = work.progress(rows, f"{work.tower}: run {files[0].stem}")
    return run_rows(files[0], precision, _inputs(shown, vocabulary))


def _inputs(rows: Iterable[Row], vocabulary: Vocabulary | None) -> Iterator[Arrays]:
    """The graph's inputs for one row at a time."""
    return (graph_inputs(stack([row]), vocabulary) for row in rows)


def _write(work: TowerExport, model: onnx.ModelProto, what: str) -> list[Path]:
    return graphs.save(model, work.directory / f"{work.tower}_{what}.onnx")


def _write_table(work: TowerExport, table: Floats, precision: Precision) -> VocabularySpec:
    name, dtype = TABLE[precision]
    path = work.directory / f"vocabulary_{name}.bin"
    if not path.exists():
        with path.open("wb") as file:
            write_vocabulary(file, table, dtype)
    rows, width = table.shape
    return VocabularySpec(file=record_file(work.directory, path), dtype=dtype, rows=rows, width=width)
