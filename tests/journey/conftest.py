import os
import subprocess
import sys

import pytest


@pytest.fixture
def cli(tmp_path):
    """Run the command line as a user does: another process, in an empty directory."""

    def run(*arguments, cwd=tmp_path, timeout=120, **settings):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        environment |= settings.pop("env", {})
        return subprocess.run(
            [sys.executable, "-m", "regard", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            text=True,
            encoding="utf-8",
            capture_output=True,
            timeout=timeout,
            check=False,
            **settings,
        )

    return run
