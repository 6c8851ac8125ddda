"""Wrong arguments of every subcommand: one sentence at once, exit status 2 for a usage error and 1 for a failure."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from siglip_edge.cli.main import main
from tests.tiny_model import write_model

ROOT = Path(__file__).parents[2]

NOT_UTF8 = os.fsdecode(b"d\xff")
"""A file name of bytes that are not UTF-8, as Python holds it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working directory with a model, an empty folder, a file, and a folder that has a name of other bytes."""
    home: Path = tmp_path_factory.mktemp("stranger")
    write_model(home / "tiny")
    write_model(home / "models" / "by-name")
    for name in ("empty", NOT_UTF8, "a b"):
        (home / name).mkdir()
    (home / "file").write_text("x")
    return home


@pytest.fixture
def run(folder, monkeypatch) -> Callable[..., tuple[int, str]]:
    """`run("doctor", "nowhere")` -> exit status and everything that is printed. A traceback fails the test."""
    monkeypatch.chdir(folder)

    def invoke(*arguments: str, **environ: str) -> tuple[int, str]:
        environ = {"CACHE_DIR": "cache", "MODELS_DIR": "models", **environ}
        result = CliRunner().invoke(main, arguments, env=environ)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


MODEL_COMMANDS = [
    ("doctor",),
    ("prepare",),
    ("tune",),
    ("upgrade",),
    ("bench",),
    ("evaluate", "--data", "pictures"),
]


@pytest.mark.parametrize("command", MODEL_COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("model", ["", "nowhere", "empty", "file", "-", "a b", "a\nb", NOT_UTF8, "x" * 5000])
def test_a_model_that_is_none_is_one_sentence(run, folder, command, model):
    """Whatever is given in place of a model directory."""
    (folder / "pictures" / "class").mkdir(parents=True, exist_ok=True)
    (folder / "pictures" / "class" / "a.png").write_bytes(b"never read")
    name, *options = command
    status, output = run(name, *options, "--", model)
    assert status in {1, 2}
    assert "Traceback" not in output
    assert "Error: " in output or "cannot be served here: " in output
    assert status == 2 or model, "an empty argument is a usage error"


@pytest.mark.parametrize("command", ["doctor", "prepare"])
def test_a_model_is_found_by_its_name_as_the_server_finds_it(run, command):
    """In MODELS_DIR; and the argument counts before MODELS of the environment."""
    status, output = run(command, "by-name", MODELS="other=nowhere")
    assert status == 0, output
    assert "tiny" in output or "by-name" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("evaluate", "tiny", "--data", "nowhere"), "does not exist"),
        (("evaluate", "tiny", "--data", ""), "it is empty"),
        (("evaluate", "tiny", "--data", "empty", "--plot", "a.txt"), "must end in .svg or .png"),
        (("evaluate", "tiny", "--data", "empty", "--plot", "nowhere/a.svg"), "there is no folder nowhere"),
        (("evaluate", "tiny", "--data", "empty", "--plot", "empty"), "is a directory"),
        (("evaluate", "tiny", "--data", "empty", "--plot", ""), "it is empty"),
        (("evaluate", "tiny", "--data", "empty", "--template", "no braces"), "which stands for the class name"),
        (("evaluate", "tiny", "--data", "empty", "--precision", "int8,five"), "'five' is not known"),
        (("bench", "tiny", "--json", "nowhere/a.json"), "there is no folder nowhere"),
        (("bench", "tiny", "--plot", "a.pdf"), "must end in .svg or .png"),
        (("bench", "tiny", "--photos", "file"), "is a file"),
        (("bench", "tiny", "--pytorch", "nowhere"), "does not exist"),
        (("tune", "tiny", "--budget", "nan"), "not a number of seconds"),
        (("tune", "tiny", "--budget", "inf"), "is not in the range"),
        (("export", "", "-o", "out"), "it is empty"),
        (("export", "tiny", "-o", ""), "it is empty"),
        (("export", "tiny", "-o", "file"), "is a file"),
        (("export", "tiny", "-o", "out", "--calibration-images", "file"), "is a file"),
        (("export", "tiny", "-o", "out", "--calibration-texts", "nowhere"), "does not exist"),
        (("export", "tiny", "-o", "out", "--calibration-texts", "empty"), "is a directory"),
        (("export", "tiny", "-o", "out", "--precision", "int8,,fp16"), "is not known"),
        (("export", "tiny", "-o", "out", "--zero-shot-template", "label"), "which stands for the label"),
        (("healthcheck", "x"), "unexpected extra argument"),
        (("serve", "--nope"), "No such option"),
        (("serve", ""), "it is empty"),
        (("nope",), "No such command"),
    ],
)
def test_a_wrong_option_is_a_usage_error_at_once(run, arguments, sentence):
    """Exit status 2 and a sentence that names the option, before anything is loaded or written."""
    status, output = run(*arguments)
    assert status == 2
    assert sentence in output


def test_a_model_on_the_command_line_counts_before_models_of_the_environment(run, folder, monkeypatch):
    """Also for `serve`, and where `.env` has MODELS."""
    (folder / ".env").write_text("MODELS=c=nowhere\n")
    monkeypatch.setenv("MODELS", "b=nowhere")
    for command in ("serve", "prepare"):
        status, output = run(command, "empty")
        assert status == 1
        assert "empty" in output
    (folder / ".env").unlink()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 503 x\r\n\r\n"])
def test_a_health_check_of_a_port_that_another_program_has_is_a_failure(run, answer):
    """It ends with status 1 and without a traceback, whatever answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        answered = thread.submit(_answer, listener, answer)
        assert run("healthcheck", HOST="127.0.0.1", PORT=str(listener.getsockname()[1])) == (1, "")
        answered.result(60)


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "a b", "nowhere.invalid"])
def test_a_health_check_of_a_name_that_is_none_is_a_failure(run, host):
    assert run("healthcheck", HOST=host) == (1, "")


def _answer(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(answer)


def test_a_folder_that_takes_no_file_is_named_at_once(run, folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not (Path(path) == Path("empty") and mode & os.W_OK))
    status, output = run("evaluate", "tiny", "--data", "empty", "--plot", "empty/a.svg")
    assert status == 2
    assert "no file can be written in empty" in output


def test_a_file_error_that_nobody_expected_is_one_sentence(run, folder, monkeypatch):
    """The sentence has the file and the reason of the operating system."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("siglip_edge.cli.doctor.examine", full)
    assert run("doctor", "tiny") == (1, "Error: somewhere: No space left on device\n")


def test_a_name_that_the_terminal_cannot_show_is_escaped(folder):
    """Bytes of a file name that are no UTF-8, where the standard streams refuse them."""
    done = subprocess.run(
        [sys.executable, "-m", "siglip_edge", "doctor", NOT_UTF8],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: d\\udcff is no model directory")
    assert done.stdout == ""
