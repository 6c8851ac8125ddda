"""The report beside a model directory: figures for programs, one page for people."""

import json
import re

import numpy as np
import pytest

from siglip_edge.exporter.report.measurements import ArtifactReport, Report
from siglip_edge.exporter.report.page import render
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, RotationSpec, Tower


def test_the_report_repeats_what_the_manifest_promises(exported):
    """Losses of the held-back rows average to the manifest's fidelity, for every artifact."""
    manifest, report = Manifest.load(exported), json.loads((exported / "report.json").read_text())
    assert len(report["artifacts"]) == len(manifest.tower_names) * len(manifest.precisions())
    for entry in report["artifacts"]:
        artifact = manifest.artifact(Tower(entry["tower"]), Precision(entry["precision"]))
        assert 1 - np.mean(entry["losses"]) == pytest.approx(artifact.fidelity.mean_cosine, abs=1e-6)
        assert len(entry["losses"]) == artifact.fidelity.rows
        assert entry["retrieval_agreement"] == artifact.fidelity.retrieval_agreement
        assert entry["row_ms"]["CPUExecutionProvider"] > 0 < entry["megabytes"]
    assert report["zero_shot_agreement"]["fp32"] == 1.0


def test_the_page_stands_alone(exported):
    """Plots are inside, nothing is fetched, every layer of both towers is listed, in INT8 and in INT4."""
    page = (exported / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.search(r"(src|href)=[\"'](?!#)", page.replace("xlink:href", "href"))
    assert page.count("/layers.0/mlp/down/MatMul</td>") == 4
    assert page.count("<th>multiplications</th>") == 2


def test_names_cannot_break_out_of_the_page():
    report = Report(
        name="<script>",
        source="a & b",
        created="now",
        machine="here",
        toolchain={},
        zero_shot_agreement={Precision.FP16: 1.0},
        shortened={32: 0.9},
        artifacts=[
            ArtifactReport(
                tower=Tower.TEXT,
                precision=Precision.FP16,
                megabytes=1.0,
                row_ms={"CPUExecutionProvider": 1.0},
                losses=[0.0],
                retrieval_agreement=1.0,
                details={},
            )
        ],
    )
    page = render(report)
    assert "<script>" not in page
    assert "a &amp; b" in page


def test_the_report_tells_what_shorter_vectors_keep(exported):
    """The same shares as the manifest's, at a half, a quarter and an eighth."""
    told = json.loads((exported / "report.json").read_text())["shortened"]
    rotation = Manifest.load(exported).shortening
    assert isinstance(rotation, RotationSpec)
    assert told == {str(length): share for length, share in rotation.kept.items()}
    assert "Shorter vectors" in (exported / "report.html").read_text(encoding="utf-8")


def test_a_text_encoders_page_speaks_of_texts_alone():
    """No column about images, the lengths of the timed rows, and no empty plot beside an odd number of plots."""
    layer = {"name": "layer", "multiplications": 10, "loss": 1e-4}
    artifact = ArtifactReport(
        tower=Tower.TEXT,
        precision=Precision.INT8,
        megabytes=1.0,
        row_ms={"CPUExecutionProvider": 1.0},
        losses=[0.0, 0.1],
        retrieval_agreement=1.0,
        details={"layers": [layer], "loss": {"all": 0.1}, "reason": "chosen"},
    )
    page = render(
        Report(
            name="encoder",
            source="a checkpoint",
            created="now",
            machine="here",
            toolchain={},
            zero_shot_agreement={},
            timed_costs={Tower.TEXT: (16, 64)},
            shortened={},
            artifacts=[artifact],
        )
    )
    assert "images choose" not in page
    assert "single rows: 16 to 64 tokens." in page
    assert page.count('id="matplotlib.axis_') == 2 * 3
