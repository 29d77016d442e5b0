"""What comes before a training: other commands, and how this Python starts again."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import launch
from simclr_jax import commands
from simclr_jax.errors import RequestError

ROOT = Path(__file__).parents[3]


def test_a_command_beside_training(monkeypatch, capsys):
    """Its words reach it as they are, and its errors end as those of a training."""
    toy = ModuleType("toy")

    def run(words):
        if not words:
            raise RequestError("toy: which?")
        print(words)

    toy.run, toy.parser = run, lambda: SimpleNamespace(parse_args=list)
    monkeypatch.setitem(sys.modules, "simclr_jax.commands.toy", toy)
    monkeypatch.setitem(commands.COMMANDS, "toy", "play")
    assert launch.main(["launch.py", "toy", "run", "--x"]) == 0
    assert capsys.readouterr().out == "['run', '--x']\n"
    assert launch.main(["launch.py", "toy"]) == 2
    assert capsys.readouterr().err == "error: toy: which?\n"


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are Linux's")
@pytest.mark.parametrize("module", [True, False])
def test_python_starts_again_as_it_was_started(tmp_path, module):
    """As `python -m` or as the script of an entry point, with the same words."""
    kernel = tmp_path / "enabled"
    kernel.write_text("always [madvise] never\n")
    script = tmp_path / "toy"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import os\n"
        "from simclr_jax import startup\n"
        f"startup._HUGE_PAGES_SETTING = {str(kernel)!r}\n"
        "startup.has_cuda = lambda: False\n"
        "startup.use_huge_pages()\n"
        "print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:])\n"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__main__.py").write_text(script.read_text())
    words = ["-m", "package"] if module else [script]
    plain = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, *words, "a b", "--c=1"],
        cwd=tmp_path,
        env=plain,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "glibc.malloc.hugetlb=1 ['a b', '--c=1']\n", done.stderr
