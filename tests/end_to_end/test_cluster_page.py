"""docs/cluster.md: its commands run, on a tiny recipe and in place of a cluster."""

import os
import re
import socket
import subprocess
import sys

import pytest
import yaml
from tiny import ENVIRONMENT, ROOT
from tiny_runs import results

PAGE = (ROOT / "docs" / "cluster.md").read_text()
# In place of Slurm's: starts two tasks on this machine, with what Slurm tells each.
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=0 ] || exit 9
shift
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"
code=$?
wait $!
other=$?
exit $((code > other ? code : other))
"""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def page(npz, tmp_path, monkeypatch):
    """Text of the page -> the same for this machine; and the workdir that it names."""
    workdir = tmp_path / "run"
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("SLURM_JOB_ID", str(free_port()))  # jax makes a port of it
    port = free_port()

    def here(text):
        for theirs, ours in {
            ".venv/bin/python": sys.executable,
            "configs/imagenet.py": "tests/tiny_recipe.py",
            "--config.data.data_dir=/data/tfds": f"--config.data.path={npz} "
            "--config.devices=0 --config.stages=pretrain --config.max_steps=3",
            "/runs/imagenet": "runs/imagenet",
            "runs/imagenet": str(workdir),
            "10.0.0.1:9911": f"127.0.0.1:{port}",
            "simclr-0.simclr:9911": f"127.0.0.1:{port}",
        }.items():
            text = text.replace(theirs, ours)
        return text

    return here, workdir


def start(*command, **env):
    return subprocess.Popen(
        command,
        env=os.environ | env,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def assert_two_processes(started, workdir):
    ended = [(*run.communicate(), run.returncode) for run in started]
    assert not any(code for *_, code in ended), ended
    assert results(workdir)["processes"] == 2
    assert results(workdir)["pretrain"]["step"] == 3


@pytest.mark.thorough
def test_the_commands_for_plain_machines(page):
    here, workdir = page
    _, *commands = blocks("bash")
    started = [start("bash", "-c", here(command)) for command in commands]
    assert_two_processes(started, workdir)


@pytest.mark.thorough
def test_the_slurm_script(page, tmp_path):
    here, workdir = page
    script = blocks("bash")[0]
    assert "gpus-per-task" not in script
    for name, text in {"srun": SRUN, "scontrol": "#!/bin/bash\nexit 9\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert_two_processes([start("bash", "-c", here(script), PATH=path)], workdir)


@pytest.mark.parametrize("code, requeued", [(75, True), (134, True), (2, False)])
def test_the_slurm_script_starts_again_what_was_stopped(tmp_path, code, requeued):
    commands = {
        "srun": f"exit {code}",
        "scontrol": f'echo "$@" > {tmp_path}/asked',
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    run = start("bash", "-c", blocks("bash")[0], PATH=path, SLURM_JOB_ID="7")
    run.communicate()
    assert run.returncode == code
    asked = tmp_path / "asked"
    assert asked.exists() == requeued
    assert not requeued or asked.read_text() == "requeue 7\n"


@pytest.mark.thorough
def test_the_kubernetes_job(page):
    here, workdir = page
    (text,) = blocks("yaml")
    service, job = yaml.safe_load_all(text)
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    # The first pod's host name is JOB-0.SUBDOMAIN, and the Service is the subdomain.
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": name}
    command = pod["containers"][0]["command"]
    assert f"--coordinator={name}-0.{pod['subdomain']}:9911" in command
    assert f"--processes={spec['completions']}" in command
    assert spec["parallelism"] == spec["completions"]
    words = here(" ".join(command))
    started = [
        start("bash", "-c", words.replace("$(JOB_COMPLETION_INDEX)", str(index)))
        for index in range(2)
    ]
    assert_two_processes(started, workdir)
