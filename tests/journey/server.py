"""Forks processes of the command line: orders are JSON lines on standard input.

``start`` a process, ``poll`` it, ``wait`` for it; each is answered by a JSON line.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import torch.distributed
import torch.utils.tensorboard  # noqa: F401

import regard.check
import regard.tasks.translation  # noqa: F401
from regard.cli import entry, progress
from regard.training import StepDone, checkpoints


def slow_down(step_pause: float, save_pause: float) -> None:
    """Make instants long enough to be hit."""
    usual_listener, usual_sync = progress.listener, checkpoints.sync_file

    class Slow:
        def __init__(self) -> None:
            self.shown = usual_listener()
            self.close = self.shown.close

        def __call__(self, event: Any) -> None:
            self.shown(event)
            if isinstance(event, StepDone):
                time.sleep(step_pause)

    def sync_slowly(path: Any) -> None:
        usual_sync(path)
        time.sleep(save_pause)

    progress.listener = Slow  # type: ignore[assignment]
    checkpoints.sync_file = sync_slowly


def obey_rights() -> None:
    """Give up root's power to write where it may not (Linux's capabilities 1 and 2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110
    assert libc.capset(header, sets) == 0


def child(order: dict[str, Any]) -> int:
    log = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    # By way of another process: a limit on the size of files is not to be the log's.
    writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
    assert writer.stdin
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(writer.stdin.fileno(), 1)
    os.dup2(writer.stdin.fileno(), 2)
    os.chdir(order["cwd"])
    os.environ.update(order.get("env", {}))
    if "step_pause" in order or "save_pause" in order:
        slow_down(order.get("step_pause", 0.0), order.get("save_pause", 0.0))
    if "file_limit" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"],) * 2)
    if order.get("obey_rights") and os.geteuid() == 0:
        obey_rights()
    status = entry.run(order["start"])
    sys.stdout.flush()
    sys.stderr.flush()
    os.close(1)
    os.close(2)
    writer.stdin.close()
    writer.wait()
    return status


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            if (pid := os.fork()) == 0:
                os._exit(child(order))
            print(pid, flush=True)
        else:
            pid, flags = (order["poll"], os.WNOHANG) if "poll" in order else (order["wait"], 0)
            done, status = os.waitpid(pid, flags)
            print(json.dumps(os.waitstatus_to_exitcode(status) if done else None), flush=True)


if __name__ == "__main__":
    serve()
