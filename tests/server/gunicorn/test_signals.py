"""SIGHUP and SIGUSR2 replace processes without refusing a connection, as docs/deploy.md says."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import psutil

from tests.server.conftest import wait_until


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_children(pid, number):
    return len(children(pid)) == number


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def status(server, key):
    request = urllib.request.Request(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_sighup_starts_new_workers_that_read_the_keys_again(start, tiny_dir, tmp_path):
    """After SIGHUP another worker answers, under the keys that the file holds now; the port is never closed."""
    keys = tmp_path / "keys"
    keys.write_text("old\n")
    server = start(MODEL=str(tiny_dir), API_KEYS_FILE=str(keys))
    before = children(server.process.pid)
    assert (status(server, "old"), status(server, "new")) == (200, 401)
    keys.write_text("new\n")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: status(server, "new") == 200 and not set(before) & set(children(server.process.pid)))
    assert status(server, "old") == 401


def test_sigttin_adds_a_worker_and_sigttou_ends_one(start, tiny_dir):
    """At least one worker stays, and requests are answered all the time."""
    server = start(MODEL=str(tiny_dir))
    for number, workers in [(signal.SIGTTIN, 2), (signal.SIGTTOU, 1), (signal.SIGTTOU, 1)]:
        server.process.send_signal(number)
        wait_until(partial(has_children, server.process.pid, workers))
        assert status(server, "") == 200
    assert server.stop() == 0


def test_sigusr1_changes_nothing(start, tiny_dir):
    """It is for log files, and this server writes to standard error."""
    server = start(MODEL=str(tiny_dir))
    before = children(server.process.pid)
    server.process.send_signal(signal.SIGUSR1)
    assert status(server, "") == 200
    assert children(server.process.pid) == before
    assert server.stop() == 0


def test_sigusr2_starts_a_second_server_on_the_same_port(start, tiny_dir):
    """After SIGUSR2 and then SIGTERM to the old process a new process answers; the port is never closed."""
    server = start(MODEL=str(tiny_dir))
    before, old_worker = metrics_directories(server.process.pid), children(server.process.pid)
    server.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: any(map(children, children(server.process.pid))))
    (new,) = set(children(server.process.pid)) - set(old_worker)
    try:
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert status(server, "") == 200
        left = metrics_directories(new)
    finally:
        os.kill(new, signal.SIGTERM)
        wait_until(lambda: has_ended(new))
    assert before
    assert left
    assert not [path for path in before | left if path.exists()]


def metrics_directories(pid):
    """Directories in memory files that the process holds open."""
    links = [fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return {link for link in links if link.name.startswith("siglip-edge-")}
