"""The messages of `siglip-edge serve` when it starts, cannot start, reloads and stops; with real processes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from siglip_edge.server.gunicorn.configuration import MEMORY_FILES
from siglip_edge.server.gunicorn.metrics_directory import MetricsDirectory
from tests.server.conftest import ROOT, wait_until

COMMAND = [sys.executable, "-P", "-m", "siglip_edge"]
LISTENING = re.compile(r"Listening on (http://\S+:(\d+)) \(docs at /docs\)")


def environment(**given: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PREPARE": "false", "PORT": "0", **given}


def refused(*arguments: str, **given: str) -> tuple[int, str]:
    """-> exit status and output of a start that fails."""
    return refused_in(ROOT, *arguments, **given)


def refused_in(folder: Path, *arguments: str, **given: str) -> tuple[int, str]:
    """As `refused`, in this working directory."""
    done = subprocess.run(
        [*COMMAND, "serve", *arguments], env=environment(**given), cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


class Process:
    """`siglip-edge serve` in a folder of its own; tests read its log."""

    def __init__(self, folder: Path, **given: str) -> None:
        self.folder = folder
        self.log = folder / "log.txt"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "serve"], env=environment(**given), cwd=folder, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self, pattern: str | re.Pattern[str]) -> list[re.Match[str]]:
        return list(re.finditer(pattern, self.log.read_text()))

    def wait_for(self, pattern: str | re.Pattern[str], times: int = 1) -> re.Match[str]:
        def is_there() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return len(self.said(pattern)) >= times

        wait_until(is_there)
        return self.said(pattern)[-1]

    def metrics_directory(self) -> Path:
        """The directory that the process holds open."""
        links = [fd.readlink() for fd in Path(f"/proc/{self.process.pid}/fd").iterdir()]
        (path,) = [link for link in links if link.name.startswith("siglip-edge-")]
        return path

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path: Path, tiny_dir: Path) -> Iterator[Callable[..., Process]]:
    """`serve(NAME="value", …)` -> a server that listens."""
    started: list[Process] = []

    def start(**given: str) -> Process:
        folder = tmp_path / str(len(started))
        folder.mkdir(exist_ok=True)
        started.append(Process(folder, **{"MODEL": str(tiny_dir), **given}))
        started[-1].wait_for("Listening on")
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", r"\[::1\]"), ("[::1]", r"\[::1\]"), ("::", r"\[::\]")]
)
def test_the_address_in_the_log_is_one_that_answers(serve, host, shown):
    """`Listening on …` shows the port that was bound, an IPv6 address in brackets, and `healthcheck` finds the server."""
    server = serve(HOST=host)
    url, port = server.wait_for(LISTENING).groups()
    assert re.fullmatch(rf"http://{shown}:[1-9]\d*", url)
    with urllib.request.urlopen(f"{url.replace('[::]', '[::1]')}/health/live", timeout=60) as answer:
        assert answer.status == 200
    check = [*COMMAND, "healthcheck"]
    wait_until(lambda: subprocess.run(check, env=environment(HOST=host, PORT=port), check=False).returncode == 0)


def test_options_of_gunicorns_own_still_count(serve, tmp_path):
    """GUNICORN_CMD_ARGS is read after our settings: here, a socket in the file system."""
    path = tmp_path / "socket"
    server = serve(GUNICORN_CMD_ARGS=f"--bind unix:{path}")
    server.wait_for(rf"Listening on unix:{path} ")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in connection.recv(1000)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_is_one_line_and_status_0(serve, tmp_path, number):
    """After SIGTERM or Ctrl-C the log ends with `Stopped`, and nothing is left in memory or temporary files."""
    (temporary := tmp_path / "temporary").mkdir()
    server = serve(WORKERS="2", TMPDIR=str(temporary))
    directory = server.metrics_directory()
    assert directory.is_dir()
    assert server.stop(number) == 0
    assert server.log.read_text().endswith(" Stopped\n")
    assert len(server.said(LISTENING)) == 1
    assert not directory.exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["fork", "tower loaded"])
def test_a_stop_while_workers_load_is_a_stop(tmp_path, tiny_dir, moment, number):
    """A signal that meets workers before they are ready, or as they are forked, is no failure to start."""
    server = Process(tmp_path, MODEL=str(tiny_dir), WORKERS="2")
    if moment == "fork":
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        wait_until(lambda: bool(children.read_text()))
    else:
        server.wait_for(moment)
    assert server.stop(number) == 0
    assert server.log.read_text().endswith(" Stopped\n")
    assert not server.said("Exception|Traceback|SIGKILL|SIGABRT")


@pytest.mark.parametrize("name", ["absent", "file"])
def test_an_image_root_that_is_no_directory_stops_the_start(tiny_dir, tmp_path, name):
    """A volume that is not mounted must not look like a folder without pictures."""
    (tmp_path / "file").touch()
    status, output = refused(MODEL=str(tiny_dir), IMAGE_ROOT=str(tmp_path / name))
    assert (status, output.count("\n")) == (1, 1)
    assert f"IMAGE_ROOT={tmp_path / name} is no directory" in output


def test_a_busy_port_is_one_sentence(tiny_dir):
    """The sentence names the port, and no line of gunicorn's comes with it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        before = _unlocked()
        status, output = refused(MODEL=str(tiny_dir), PORT=str(port))
    assert status == 1
    assert (
        output == f"Error: port {port} of 127.0.0.1 is in use by another program; choose another one: --port NUMBER\n"
    )
    assert _unlocked() <= before


def _unlocked() -> set[Path]:
    """Metrics directories that no process uses."""
    found = set()
    for path in Path(MEMORY_FILES or "/tmp").glob("siglip-edge-metrics-*"):
        lock = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found.add(path)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
    return found


def test_settings_without_effect_are_in_the_log_of_the_start(serve, tmp_path):
    """A name that is no setting, and a second name of a setting: one WARNING each, also from `.env`, once per start."""
    (tmp_path / "0").mkdir()
    (tmp_path / "0/.env").write_bytes("\ufeffBATCHSIZE=1\r\nBATCH_WAIT_TIME_MS=1\r\n".encode())
    server = serve(BATCH_SISE="1", BATCH_SIZE="4", BATCH_WINDOW_MAX_SIZE="8", WORKERS="2", LOG_FORMAT="json")
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    second_name = "BATCH_SIZE='4' counts, and BATCH_WINDOW_MAX_SIZE='8' does not: both are names of one setting; "
    assert sorted(warnings) == [
        ".env: BATCHSIZE is no setting and has no effect; did you mean BATCH_SIZE?",
        "BATCH_SISE is no setting and has no effect; did you mean BATCH_SIZE?",
        f"{second_name}remove BATCH_WINDOW_MAX_SIZE",
    ]
    with urllib.request.urlopen(f"{server.wait_for(LISTENING)[1]}/health", timeout=60) as answer:
        assert json.load(answer)["batch_wait_time_ms"] == 1.0


def test_a_file_that_cannot_be_read_as_text_is_one_sentence(tmp_path, tiny_dir):
    """Of keys, and `.env`."""
    keys = tmp_path / "keys"
    keys.write_bytes("schlüssel".encode("latin-1"))
    given = {"MODEL": str(tiny_dir), "API_KEYS_FILE": str(keys)}
    assert refused(**given) == (1, f"Error: API_KEYS_FILE={keys} is not UTF-8 text; save it as UTF-8\n")
    keys.rename(tmp_path / ".env")
    assert refused_in(tmp_path) == (1, "Error: the file .env is not UTF-8 text; save it as UTF-8\n")
    keys.mkdir()
    assert refused(**given) == (1, f"Error: API_KEYS_FILE={keys} cannot be read: Is a directory\n")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"HOST": "192.0.2.1"}, "HOST=192.0.2.1 is not an address of this machine; 0.0.0.0 listens on all of them"),
        ({"PORT": "eighty"}, "PORT='eighty' cannot be read; allowed: a whole number from 0 to 65535"),
        (
            {"MODEL": "/models/none"},
            (
                "there is no model at /models/none; make one: siglip-edge export CHECKPOINT -o /models --name none "
                "--calibration-images DIR, or fetch one that is ready: siglip-edge pull OWNER/NAME -o /models --name none"
            ),
        ),
        (
            {"MODEL": "google/none"},
            (
                "there is no model at quantized_models/none or google/none; "
                "make one: siglip-edge export google/none -o quantized_models --calibration-images DIR, "
                "or fetch one that is ready: siglip-edge pull google/none -o quantized_models"
            ),
        ),
        (
            {"MODEL": "siglip2-base-patch32-256"},
            (
                "there is no model at quantized_models/siglip2-base-patch32-256 or siglip2-base-patch32-256; make one: "
                "siglip-edge export google/siglip2-base-patch32-256 -o quantized_models --calibration-images DIR"
            ),
        ),
        (
            {"MODEL": "BAAI/bge-m3"},
            (
                "there is no model at quantized_models/bge-m3 or BAAI/bge-m3; "
                "make one: siglip-edge export BAAI/bge-m3 -o quantized_models"
            ),
        ),
        (
            {"MODEL": "jinaai/jina-clip-v2"},
            (
                "there is no model at quantized_models/jina-clip-v2 or jinaai/jina-clip-v2; jinaai/jina-clip-v2 cannot be "
                "exported: it is code of its own in the repository, which is not run; `siglip-edge models` lists others"
            ),
        ),
        ({"API_KEYS_FILE": "/none"}, "API_KEYS_FILE=/none cannot be read: No such file or directory"),
    ],
)
def test_a_start_that_cannot_succeed_is_one_sentence(tiny_dir, given, sentence):
    """The sentence names the wrong setting and the remedy."""
    assert refused(**{"MODEL": str(tiny_dir), **given}) == (1, f"Error: {sentence}\n")


def test_a_manifest_that_cannot_be_read_is_one_sentence(tmp_path):
    """The error is found before any process starts."""
    (tmp_path / "manifest.json").write_text("{")
    status, output = refused(MODEL=str(tmp_path))
    assert status == 1
    assert re.fullmatch(r"Error: .+manifest\.json: .+; run the export again\n", output)


def test_a_broken_model_is_told_by_ours_alone(tmp_path, tiny_dir):
    """The worker's sentence is the last line: gunicorn adds none about an exit code or the end of the parent."""
    broken = shutil.copytree(tiny_dir, tmp_path / "broken")
    (broken / "text_int8.onnx").write_bytes(b"\0" * (tiny_dir / "text_int8.onnx").stat().st_size)
    status, output = refused(MODEL=str(broken), LOG_FORMAT="json", LOG_LEVEL="error")
    lines = [json.loads(line) for line in output.splitlines()]
    assert status == 4
    assert {line["logger"] for line in lines} == {"siglip_edge"}
    assert lines[-1]["level"] == "critical"
    assert "sha256 differs" in lines[-1]["message"]


def test_lines_of_gunicorn_are_in_our_format_and_without_bytes_of_callers(serve):
    """With LOG_FORMAT=json and LOG_LEVEL=debug every line is JSON, and no request can write into the log."""
    server = serve(LOG_FORMAT="json", LOG_LEVEL="debug")
    port = int(server.wait_for(LISTENING)[2])
    for request in (
        b"GET /SECRET HTTP/1.1\r\nSECRET SECRET\r\n\r\n",
        b"SECRET\r\n\r\n",
        b"GET /SECRET HTTP/9.SECRET\r\nHost: x\r\n\r\n",
        b"POST /SECRET HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: SECRET\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(request)
            assert re.match(rb"HTTP/1.1 (400|501) ", connection.recv(1000))
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"gunicorn.error", "siglip_edge"} <= {line["logger"] for line in lines}
    assert sum(line["message"].startswith("A request was refused because it is not valid HTTP") for line in lines) == 4
    assert "SECRET" not in server.log.read_text()


def test_the_log_has_the_words_that_earlier_servers_operators_look_for(serve):
    """Simple Inference Server's events, and a line for siglip2-api's `docker logs | grep` of Batch, Worker or GPU."""
    server = serve(LOG_FORMAT="json", MODEL_DEVICE="cpu", BATCH_WINDOW_MS="4")
    url = server.wait_for(LISTENING)[1]
    server.wait_for("warmup_ok")
    body = urllib.request.Request(
        f"{url}/v1/embeddings", data=b'{"input": "x"}', headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(body, timeout=60):
        pass
    server.wait_for("embedding_request")
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    by_event = {line["event"]: line for line in lines if "event" in line}
    assert {"runtime_config", "warmup_ok", "embedding_request"} <= set(by_event)
    config = by_event["runtime_config"]
    assert (config["model_device"], config["batch_window_ms"]) == ("cpu", 4.0)
    assert re.search("Batch|Worker|GPU", config["message"])
    assert by_event["embedding_request"]["route"] == "/v1/embeddings"


def test_a_level_of_warning_leaves_a_healthy_server_silent(tmp_path, tiny_dir):
    """LOG_LEVEL holds for the lines of start and stop too."""
    server = Process(tmp_path, MODEL=str(tiny_dir), LOG_LEVEL="warning", PORT=str(_free_port()))
    check = [*COMMAND, "healthcheck"]
    wait_until(lambda: subprocess.run(check, env=_environ_of(server), check=False).returncode == 0)
    assert server.stop() == 0
    assert server.log.read_text() == ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _environ_of(server: Process) -> dict[str, str]:
    pairs = Path(f"/proc/{server.process.pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_a_reload_takes_new_settings(serve):
    """SIGHUP reads `.env` again: new workers serve with it, on the same port, with the same metrics directory."""
    server = serve()
    url, directory = server.wait_for(LISTENING)[1], server.metrics_directory()
    (server.folder / ".env").write_text("CORS_ALLOW_ORIGINS=https://example.org\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("SIGHUP: new workers serve")
    request = urllib.request.Request(f"{url}/health/live", headers={"Origin": "https://example.org"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert server.metrics_directory() == directory
    assert server.stop() == 0
    assert not directory.exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("THREADS=many", "THREADS='many' cannot be read"),
        ("ALIASES=a=nowhere", "ALIASES=a=nowhere: no model 'nowhere' is served"),
        ("MODEL_CONFIG=none.yaml", "MODEL_CONFIG=none.yaml cannot be read: No such file or directory"),
        ("REQUEST_TIMEOUT=9\nHOST=127.0.0.2", "HOST and PORT can change only at a start"),
    ],
)
def test_a_reload_of_wrong_settings_changes_nothing(serve, tmp_path, tiny_dir, setting, sentence):
    """SIGHUP with settings that cannot be served is one line of the log; the same workers go on."""
    (tmp_path / "0").mkdir()
    (tmp_path / "0/.env").write_text(f"MODEL={tiny_dir}")  # MODEL of the environment would win over MODELS of the file
    server = serve(MODEL="")
    url = server.wait_for(LISTENING)[1]
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    before = children.read_text()
    (server.folder / ".env").write_text(f"MODEL={tiny_dir}\n{setting}")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(f"SIGHUP changed nothing: {re.escape(sentence)}")
    assert children.read_text() == before
    with urllib.request.urlopen(f"{url}/health/live", timeout=60) as answer:
        assert answer.status == 200


def test_a_replaced_worker_keeps_the_settings_of_the_start(serve, tmp_path):
    """A `.env` or a file of keys that somebody breaks while the server runs does not end it when a worker dies."""
    (tmp_path / "keys").write_text("first")
    server = serve(API_KEYS_FILE=str(tmp_path / "keys"))
    url = server.wait_for(LISTENING)[1]
    (server.folder / ".env").write_text("THREADS=many")
    (tmp_path / "keys").write_text("")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    (worker,) = children.read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    wait_until(lambda: bool(children.read_text().split()) and children.read_text().split() != [worker])
    with urllib.request.urlopen(f"{url}/health/live", timeout=60) as answer:
        assert answer.status == 200
    assert server.stop() == 0


def test_the_next_start_removes_what_a_killed_server_left(serve):
    """The metrics directory of a parent that was killed stays while its workers live, and no longer."""
    first = serve()
    left = first.metrics_directory()
    first.stop(signal.SIGKILL)
    assert left.exists()
    wait_until(lambda: left in _unlocked())
    serve()
    assert not left.exists()


def test_a_metrics_directory_in_use_is_never_removed(tmp_path):
    """Another server's start removes stale directories only."""
    (tmp_path / "siglip-edge-metrics-stale").mkdir()
    (tmp_path / "somebody-elses").mkdir()
    first = MetricsDirectory.create(str(tmp_path))
    second = MetricsDirectory.create(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"somebody-elses", first.path.name, second.path.name}
    first.remove()
    second.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]
