"""The PyTorch side of throughput.py, run by another interpreter."""

import json
import subprocess
from pathlib import Path
from typing import Any


class Peer:
    """The PyTorch side, in a process of its own that works only when asked.

    It inherits the environment of this process, huge pages included.
    """

    def __init__(self, python: str):
        script = str(Path(__file__).with_name("peer_simclr.py"))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [python, script], stdin=pipe, stdout=pipe, text=True
        )
        self.versions: dict[str, str] = {}

    def run(self, case: dict[str, Any], data: str, mode: str, steps: int) -> float:
        assert self._process.stdin
        assert self._process.stdout
        request = {"case": case, "mode": mode, "steps": steps, "data": data}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.versions = answer["versions"]
        return answer["seconds"]
