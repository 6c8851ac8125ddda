"""The wheels of the images, downloaded from the package index (3 GB): `make test-images`, not the ordinary tests.

Skipped, in words, where the index cannot be reached.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_string
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from packaging.requirements import Requirement
from packaging.version import Version

from tests.images.dockerfiles import ROOT

OF_THE_DRIVER = {"libcuda.so.1"}
OF_THE_SYSTEM = ("libc.", "libm.", "libdl.", "librt.", "libpthread.", "libstdc++.", "libgcc_s.", "ld-linux")
PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
WITHOUT_WHEELS = ["openapi-ui-bundles"]
"""Published as sources of pure Python only."""
ARM64 = [
    "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
    "--abi", "cp311", "--abi", "abi3", "--abi", "none",
    "--platform", "manylinux_2_28_aarch64", "--platform", "manylinux_2_17_aarch64", "--platform", "any",
]  # fmt: skip


def pip(*arguments: str | Path) -> str:
    """Output of pip, which must succeed; a skip without an index."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Temporary failure in name resolution" in done.stderr or "NewConnectionError" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cuda(tmp_path_factory) -> list[Path]:
    """Every wheel of the extra `cuda` in the tested versions."""
    folder = tmp_path_factory.mktemp("cuda")
    pip(
        "download",
        "--quiet",
        "--only-binary=:all:",
        "-c",
        "constraints.txt",
        "-d",
        folder,
        "onnxruntime-gpu[cuda,cudnn]",
    )
    return list(folder.glob("*.whl"))


def wheel_of(name: str, wheels: list[Path]) -> zipfile.ZipFile:
    (path,) = (wheel for wheel in wheels if wheel.name.startswith(f"{name.replace('-', '_')}-"))
    return zipfile.ZipFile(path)


def needed(library: bytes) -> Iterator[str]:
    """The libraries that an ELF file names."""
    dynamic = ELFFile(BytesIO(library)).get_section_by_name(".dynamic")
    assert isinstance(dynamic, DynamicSection)
    return (str(vars(tag)["needed"]) for tag in dynamic.iter_tags("DT_NEEDED"))


def test_cuda_has_every_library_that_the_provider_needs(cuda):
    """From the pip packages that the wheel names, but for the driver's and the system's."""
    with wheel_of("onnxruntime-gpu", cuda) as wheel:
        wanted = set(needed(wheel.read(PROVIDER)))
    assert wanted & OF_THE_DRIVER == OF_THE_DRIVER
    wanted -= {name for name in wanted if name.startswith(OF_THE_SYSTEM)} | OF_THE_DRIVER
    packages = [path for path in cuda if path.name.startswith("nvidia_")]
    files = {Path(name).name for path in packages for name in zipfile.ZipFile(path).namelist()}
    assert wanted
    assert wanted <= files
    assert any(name.startswith("libcudnn.so.9") for name in files)


def test_cuda_is_of_the_version_that_the_wheel_was_built_for(cuda):
    """The tested versions satisfy the wheel's own requirements."""
    with wheel_of("onnxruntime-gpu", cuda) as wheel:
        (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(wheel.read(path).decode())
    wanted = [Requirement(line) for line in metadata.get_all("Requires-Dist", []) if "nvidia-" in line]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line.startswith("nvidia-"))
    assert wanted
    for requirement in wanted:
        assert requirement.specifier.contains(Version(pinned[requirement.name])), requirement


def test_every_package_of_the_cpu_image_has_an_arm64_wheel(tmp_path):
    """In the tested versions, for Debian's glibc; nothing is compiled in the image."""
    here, there = tmp_path / "here", tmp_path / "arm64"
    pip("wheel", "--quiet", "--no-deps", "-c", "constraints.txt", "-w", here, ".", *WITHOUT_WHEELS)
    (own,) = here.glob("siglip_edge-*.whl")
    assert all(path.name.endswith("-none-any.whl") for path in here.iterdir())
    pip("download", "--quiet", *ARM64, "--find-links", here, "-c", "constraints.txt", "-d", there, f"{own}[cpu]")
    names = {path.name for path in there.iterdir()}
    assert [name for name in names if name.startswith("onnxruntime-") and "aarch64" in name]
    assert not [name for name in names if "x86_64" in name]
