"""`siglip-edge pull` against a server that speaks the hub's protocol, and against a plain web server."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.open_model import open_model
from tests.cli.pulling.hub_server import COMMIT
from tests.server.conftest import wait_until
from tests.tiny_model import add_precision

CHUNK = 10 << 20
"""Bytes that huggingface_hub writes at once: where the rest begins after a break."""


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "models/tiny"


@pytest.fixture(params=["hub", "url"])
def source(request, hub) -> str:
    """Both kinds of source, with the same files."""
    return hub.repository if request.param == "hub" else f"{hub.url}/plain/"


def listed(directory: Path) -> set[str]:
    return {"manifest.json", *(record.path for record in Manifest.load(directory).files())}


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def names_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.exists() else []


def named(source: str) -> list[str]:
    """The options that give both kinds of source one target."""
    return [source, "--name", "tiny"]


def add_large_file(hub, size: int = 3 * CHUNK) -> str:
    """Give the served model a file of several chunks."""
    content = bytes(range(256)) * (size // 256)
    hub.files["vision_int8.onnx"] = content
    manifest = json.loads(hub.files["manifest.json"])
    digest = record_of(content)
    manifest["towers"]["vision"]["artifacts"]["int8"]["graph"] |= digest
    hub.files["manifest.json"] = json.dumps(manifest).encode()
    return "vision_int8.onnx"


def record_of(content: bytes) -> dict[str, object]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_pulled_model_is_the_published_one_and_serves(pull, source, target, model):
    """Every listed file with its bytes, nothing else, and the model opens with its self-test."""
    done = pull(*named(source))
    assert done.exit_code == 0, done.stderr
    assert contents(target) == {name: data for name, data in contents(model).items() if name in listed(model)}
    assert names_beside(target) == ["tiny"]
    assert "serve it: siglip-edge serve tiny" in done.stdout
    assert open_model(target, Wishes(device="cpu")).manifest.space_id == "tiny-space"


def test_files_that_the_manifest_does_not_list_are_not_fetched(pull, hub, target):
    """A README or a checkpoint beside them stays where it is."""
    hub.files |= {"README.md": b"hello", "model.safetensors": b"weights"}
    assert pull(hub.repository).exit_code == 0
    assert not {"README.md", "model.safetensors"} & set(contents(target))
    assert not any("README" in path for _, path, _ in hub.requests)


def test_every_file_is_of_the_commit_of_the_manifest(pull, hub, target):
    """A push during the pull does not mix two versions."""
    assert pull(hub.repository).exit_code == 0
    resolved = [path for _, path, _ in hub.requests if "/resolve/" in path]
    assert resolved
    assert all(f"/resolve/{COMMIT}/" in path for path in resolved)


def test_one_precision_has_a_manifest_of_that_precision(pull, hub, target, model, tmp_path):
    """Files of the other are not fetched, and the result is a whole model."""
    both = add_precision(_copied(model, tmp_path / "both"), Precision.FP16)
    hub.files = contents(both)
    done = pull(hub.repository, "--precision", "fp16")
    assert done.exit_code == 0, done.stderr
    assert Manifest.load(target).precisions() == (Precision.FP16,)
    assert set(contents(target)) == listed(target)
    assert not any("int8.onnx" in path for _, path, _ in hub.requests)
    assert open_model(target, Wishes(device="cpu")).manifest.space_id == "tiny-space"


def test_a_precision_that_is_not_there_is_named(pull, hub, target):
    done = pull(hub.repository, "--precision", "int4,int8")
    assert (done.exit_code, done.stderr) == (1, "Error: somebody/tiny: no int4; it has int8\n")
    assert not target.exists()


def test_wrong_bytes_are_named_and_nothing_is_there(pull, hub, source, target):
    """Bytes of the right number and another content; the next pull of a repaired source works."""
    right = hub.files["text_int8.onnx"]
    hub.files["text_int8.onnx"] = right[::-1]
    done = pull(*named(source))
    assert done.exit_code == 1
    assert "text_int8.onnx: its sha256 differs from manifest.json" in done.stderr
    assert not target.exists()
    hub.files["text_int8.onnx"] = right
    assert pull(*named(source)).exit_code == 0


def test_a_file_of_another_size_is_refused(pull, hub, source, target):
    """Also one that would fill the disk."""
    hub.files["text_int8.onnx"] += b"more"
    done = pull(*named(source))
    assert done.exit_code == 1
    assert "text_int8.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    assert not target.exists()


@pytest.mark.parametrize("path", ["../outside.onnx", "/tmp/outside.onnx", "a/../../outside.onnx", "", "a\x00b"])
def test_a_path_that_leads_outside_is_refused(pull, hub, source, target, path):
    """Before any file but the manifest is fetched."""
    manifest = json.loads(hub.files["manifest.json"])
    manifest["towers"]["text"]["artifacts"]["int8"]["graph"]["path"] = path
    hub.files["manifest.json"] = json.dumps(manifest).encode()
    done = pull(*named(source))
    assert done.exit_code == 1
    assert "points outside the model directory" in done.stderr
    assert not [path for _, path, _ in hub.requests if "text_int8" in path or "outside" in path]
    assert not target.exists()


def test_a_broken_connection_is_resumed(pull, hub, source, target):
    """The next request asks for the rest, and the bytes are right."""
    name = add_large_file(hub)
    hub.broken_after[name] = [CHUNK + 1000]
    done = pull(*named(source))
    assert done.exit_code == 0, done.stderr
    assert f"bytes={CHUNK}-" in hub.ranges(name)
    assert (target / name).read_bytes() == hub.files[name]


def test_a_server_without_ranges_starts_again(pull, hub, source, target):
    """The second answer is the whole file, and is not appended to the first part."""
    name = add_large_file(hub)
    hub.broken_after[name], hub.ignores_ranges = [CHUNK + 1000], True
    done = pull(*named(source))
    assert done.exit_code == 0, done.stderr
    assert (target / name).read_bytes() == hub.files[name]


def test_a_killed_pull_is_continued_by_the_next(pull, hub, source, target, environment, command):  # noqa: PLR0917
    """Files that were whole are not fetched again, and the large one continues where it was."""
    name = add_large_file(hub)
    halfway, released = threading.Event(), threading.Event()

    def pause(sent: str) -> None:
        if sent == name:
            halfway.set()
            released.wait(60)

    hub.pause = pause
    killed = subprocess.Popen([*command, *named(source)], env=environment, cwd=Path(__file__).parents[3])
    assert halfway.wait(60)
    _wait_for_bytes(target.with_name(".tiny.pull"), CHUNK)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    released.set()
    assert not target.exists()
    hub.pause, first = lambda _: None, len(hub.requests)
    done = pull(*named(source))
    assert done.exit_code == 0, done.stderr
    again = hub.requests[first:]
    assert [given for method, path, given in again if method == "GET" and name in path][-1] == f"bytes={CHUNK}-"
    assert (target / name).read_bytes() == hub.files[name]
    assert names_beside(target) == ["tiny"]


def test_an_existing_directory_stays_without_overwrite(pull, hub, target):
    """With it, the new directory replaces the old one."""
    assert pull(hub.repository).exit_code == 0
    (target / "notes.txt").write_text("mine")
    done = pull(hub.repository)
    assert done.exit_code == 1
    assert "exists already; pass --overwrite, or another --name" in done.stderr
    assert (target / "notes.txt").exists()
    assert pull(hub.repository, "--overwrite").exit_code == 0
    assert not (target / "notes.txt").exists()


def test_a_folder_that_is_no_model_directory_is_never_replaced(pull, hub, target):
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("years of work")
    done = pull(hub.repository, "--overwrite")
    assert (done.exit_code, (target / "thesis.txt").exists()) == (1, True)
    assert "no model directory, so --overwrite does not replace it" in done.stderr


def test_a_checkpoint_gets_the_command_that_exports_it(pull, hub):
    """The repository has weights and no manifest."""
    hub.files = {"config.json": b"{}", "model.safetensors": b""}
    done = pull(hub.repository)
    assert done.stderr == (
        "Error: somebody/tiny: a checkpoint and no model directory; "
        "make one: siglip-edge export somebody/tiny -o FOLDER --calibration-images DIR\n"
    )


def test_a_repository_that_is_not_there_or_private_says_so(pull, hub, target):
    """The hub answers 401 to both; a token of the right account opens the private one."""
    done = pull("somebody/other")
    assert done.exit_code == 1
    assert "not found, or private; check the id, and set HF_TOKEN for a private one" in done.stderr
    hub.token = "hf_secret"
    assert pull(hub.repository).exit_code == 1
    assert pull(hub.repository, HF_TOKEN="hf_secret").exit_code == 0
    assert target.exists()


def test_a_gated_repository_says_where_to_accept_its_terms(pull, hub):
    hub.gated = True
    done = pull(hub.repository)
    assert done.stderr == (
        f"Error: somebody/tiny: gated; accept its terms at {hub.url}/somebody/tiny, then set HF_TOKEN to your token\n"
    )


def test_a_revision_is_chosen_and_a_wrong_one_named(pull, hub, target):
    """Also in the address that a browser shows."""
    done = pull(hub.repository, "--revision", "v9")
    assert (done.exit_code, done.stderr) == (1, "Error: somebody/tiny: no revision 'v9'\n")
    assert pull(f"{hub.url}/somebody/tiny/tree/{COMMIT}").exit_code == 0
    assert target.exists()


def test_a_file_that_is_listed_and_missing_is_named(pull, hub, source, target):
    del hub.files["text_int8.onnx"]
    done = pull(*named(source))
    assert done.exit_code == 1
    assert "text_int8.onnx" in done.stderr
    assert not target.exists()


def test_offline_the_hubs_cache_is_the_source(pull_alone, hub, environment, target, model):
    """HF_HUB_OFFLINE: what the library's cache holds is copied and verified, and nothing is asked for."""
    fill = [
        "-c",
        f"import huggingface_hub as h\nfor name in {list(hub.files)}: h.hf_hub_download({hub.repository!r}, name)",
    ]
    subprocess.run([sys.executable, *fill], env=_online(environment), check=True, capture_output=True)
    first = len(hub.requests)
    done = pull_alone(hub.repository, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert len(hub.requests) == first
    assert set(contents(target)) == listed(model)


def test_offline_without_the_file_is_one_sentence(pull_alone, hub, target):
    done = pull_alone(hub.repository, HF_HUB_OFFLINE="1")
    assert done.stderr == ("Error: somebody/tiny: manifest.json is not in the hub's cache, and HF_HUB_OFFLINE is set\n")
    assert not target.exists()


def test_a_server_that_is_not_there_is_one_sentence(pull_alone, hub, target):
    """A hub, and a web server."""
    for arguments, given in (
        ([hub.repository], {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        (["http://127.0.0.1:9/tiny"], {}),
    ):
        done = pull_alone(*arguments, **given)
        assert done.returncode == 1
        assert re.fullmatch(r"Error: \S+ ?\S+ cannot be fetched \(connection refused\)\n", done.stderr)
        assert not target.exists()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("tiny", "tiny: neither a hub's repository, OWNER/NAME, nor a URL, https://…"),
        ("https://example.org/tiny.tar.gz", "an archive; give the URL of a directory with manifest.json in it"),
        ("https://me:secret@example.org/tiny", "user names and passwords in a URL are not sent; remove them"),
        ("ftp://example.org/tiny", "neither a hub's repository"),
    ],
)
def test_a_source_that_cannot_be_one_is_refused(pull, source, sentence):
    """Without a request, and without the password in the message."""
    done = pull(source)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert "secret" not in done.stderr


def test_a_full_disk_is_told_before_the_files(pull, hub, target):
    """The manifest says how much is needed."""
    manifest = json.loads(hub.files["manifest.json"])
    manifest["towers"]["vision"]["artifacts"]["int8"]["graph"]["size"] = 1 << 60
    hub.files["manifest.json"] = json.dumps(manifest).encode()
    done = pull(hub.repository)
    assert done.exit_code == 1
    assert "MB more" in done.stderr
    assert not any("vision_" in path for _, path, _ in hub.requests)


def test_a_manifest_that_this_version_cannot_read_is_refused(pull, hub, source, target):
    """The sentence names the source, not a temporary folder."""
    hub.files["manifest.json"] = b'{"format_version": 99}'
    done = pull(*named(source))
    assert done.exit_code == 1
    assert "manifest.json: format 99" in done.stderr
    assert ".pull" not in done.stderr


def _copied(directory: Path, to: Path) -> Path:
    return Path(shutil.copytree(directory, to))


def _online(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _wait_for_bytes(folder: Path, count: int) -> None:
    wait_until(lambda: any(path.is_file() and path.stat().st_size >= count for path in folder.rglob("*")))


def test_two_records_of_one_model_are_checked_as_they_are_written(model):
    """The fixture's manifest is true: otherwise every test above would pass by a refusal."""
    manifest = Manifest.load(model)
    assert all(record_file(model, model / record.path) == record for record in manifest.files())
