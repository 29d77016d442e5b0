"""Sweeps: statistics against SciPy, what is refused, and a killed one that goes on."""

import csv
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from tiny import PATIENCE, ROOT, launch, write_npz

import launch as launcher
from configs import common
from simclr_jax.errors import FailedError, RequestError
from simclr_jax.report import figures
from simclr_jax.stages import run as stages
from simclr_jax.sweep import chart as sweep_chart
from simclr_jax.sweep import page as sweep_page
from simclr_jax.sweep import plan as sweep_plan
from simclr_jax.sweep import results as sweep_results
from simclr_jax.sweep import run as sweep
from simclr_jax.sweep import table as sweep_table

RECIPE = f"--config={ROOT}/tests/sweep_recipe.py"

# The statistics


def by_row(matrix):
    """[rows, seeds] as the table takes it; NaN is a run that is missing."""
    return {
        f"row{r}": {s: float(x) for s, x in enumerate(line) if not np.isnan(x)}
        for r, line in enumerate(np.asarray(matrix, float))
    }


def test_two_rows_are_the_paired_t_test():
    a, b = [50.0, 53.0, 47.0, 51.0], [51.5, 55.0, 47.5, 53.5]
    table = sweep_table.make(by_row([a, b]), "row0", {})
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert table.lines[1].interval == pytest.approx(tuple(expected), rel=1e-9)
    assert table.lines[1].difference == pytest.approx(1.625)
    assert table.lines[0].difference is table.lines[0].interval is None


def test_the_sd_is_pooled_over_rows():
    """Three rows, three seeds, by hand: the residuals of row and seed means."""
    table = sweep_table.make(
        by_row([[10, 12, 14], [11, 14, 14], [9, 9, 12]]), "row0", {}
    )
    # Row means 12, 13, 10; seed means 10, 35/3, 40/3; mean of all 35/3. Residuals
    # x - row - seed + all: (-1/3, 0, 1/3), (-1/3, 1, -2/3), (2/3, -1, 1/3); their
    # squares sum to 30/9, over (3 - 1) x (3 - 1) degrees of freedom.
    assert table.freedom == 4
    assert table.sd == pytest.approx(math.sqrt(30 / 9 / 4))
    for line, gap in zip(table.lines[1:], (1.0, -2.0), strict=True):
        half = stats.t.ppf(0.975, 4) * math.sqrt(30 / 36) * math.sqrt(2 / 3)
        assert line.difference == pytest.approx(gap)
        assert line.interval == pytest.approx((gap - half, gap + half))
    assert [line.mean for line in table.lines] == pytest.approx([12, 13, 10])
    assert table.lines[0].sd == pytest.approx(2.0)  # not the pooled one


def test_missing_runs_cost_their_degrees_of_freedom_only():
    matrix = np.array([[10, 12, 14], [11, 14, np.nan], [9, 9, 12], [np.nan] * 3])
    table = sweep_table.make(by_row(matrix), "row0", {})
    # Least squares again, the other way round: minimise over rows and seeds in turn.
    known, fit = ~np.isnan(matrix[:3]), np.zeros([3, 3])
    for _ in range(2000):
        for axis in (0, 1):
            rest = np.where(known, matrix[:3] - fit, 0)
            fit = fit + rest.sum(axis, keepdims=True) / known.sum(axis, keepdims=True)
    residual = (matrix[:3] - fit)[known]
    assert table.freedom == 8 - 3 - 2
    assert table.sd == pytest.approx(math.sqrt((residual**2).sum() / 3), rel=1e-9)
    assert table.lines[1].difference == pytest.approx(1.5)  # of seeds 0 and 1
    half = stats.t.ppf(0.975, 3) * table.sd  # sqrt(2 / 2)
    assert table.lines[1].half_width == pytest.approx(half)
    assert table.lines[3][2:6] == (None, None, None, None)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.array([[0.0], [1.0], [-2.0], [0.5]])
    hits = 0
    for _ in range(1000):
        seeds = rng.normal(0, 5, (1, 3))
        table = sweep_table.make(
            by_row(truth + seeds + rng.normal(0, 0.7, (4, 3))), "row0", {}
        )
        low, high = table.lines[1].interval
        hits += low < 1.0 < high
    assert 0.93 < hits / 1000 < 0.97


@pytest.mark.parametrize("matrix", [[[1.0, 2.0]], [[1.0], [2.0]], [[np.nan], [np.nan]]])
def test_too_few_runs_give_no_interval(matrix):
    table = sweep_table.make(by_row(matrix), "row0", {})
    assert table.sd is None
    assert all(line.interval is None for line in table.lines)
    assert "No interval" in sweep_table.note(table)
    sweep_table.markdown(table, [])


def test_the_table_as_text():
    published = {"row0": 68.59, "row1": 71.59}
    table = sweep_table.make(by_row([[10, 12, 14], [11, 14, 14]]), "row0", published)
    head, rule, first, second = sweep_table.markdown(table, ["note"]).splitlines()[:4]
    cells = [[x.strip() for x in line.strip("|").split("|")] for line in (head, second)]
    shown = dict(zip(*cells, strict=True))
    assert shown["top-1, %"] == "13.00 +- 1.73"
    assert shown["n"] == "3"
    assert shown["minus row0"] == "+1.00"
    assert shown["published, %"] == "71.59"
    assert shown["published difference"] == "+3.00"
    assert all(re.fullmatch(r" -+:? ", x) for x in rule.strip("|").split("|"))
    assert "68.59" in first
    rows = list(csv.DictReader(io.StringIO(sweep_table.as_csv(table))))
    assert [float(rows[1][f"seed_{s}"]) for s in range(3)] == [11, 14, 14]
    low, high = float(rows[1]["low"]), float(rows[1]["high"])
    assert (low, high) == pytest.approx(table.lines[1].interval)
    assert rows[0]["difference"] == ""


# Charts


def configs_of(rows):
    made = {}
    for row, fields in rows.items():
        made[row] = common.get_config()
        made[row].update_from_flattened_dict(fields)
    return made


def test_charts_put_each_row_in_its_place():
    rows = {
        f"{batch}-{epochs}": {"batch_size": batch, "epochs": epochs}
        for epochs, batch in itertools.product((5, 10), (128, 64))
    }
    scores = {
        row: {0: float(i)} for i, row in enumerate(("128-5", "64-5", "128-10", "64-10"))
    }
    table = sweep_table.make(scores, "128-5", {"64-10": 70.25})
    lines = {"kind": "lines", "x": "batch_size", "lines": "epochs"}
    assert sweep_chart.series(lines, table, configs_of(rows)) == {
        "epochs 5": [(64, 1.0, 0.0), (128, 0.0, 0.0)],
        "epochs 10": [(64, 3.0, 0.0), (128, 2.0, 0.0)],
    }
    grid = {"kind": "grid", "down": ("epochs",), "across": ("batch_size",)}
    assert sweep_chart.markdown(grid, table, configs_of(rows)).split("\n")[1:-1] == [
        "| top-1, % | batch_size 128 | batch_size 64 |",
        "| --- | --- | --- |",
        "| epochs 5 | 0.0 | 1.0 |",
        "| epochs 10 | 2.0 | 3.0 (published 70.2) |",
    ]


def test_a_picture_is_also_a_file_of_its_own():
    """Black on white and with a size: alone it has no page to take them from."""
    table = sweep_table.make(by_row([[50, 52], [51, 55]]), "row0", {})
    drawn = sweep_page.pictures(toy(), table, {})
    assert list(drawn) == ["differences"]
    root = ElementTree.fromstring(figures.standalone(drawn["differences"]))
    box = root.get("viewBox").split()
    assert [root.get("width"), root.get("height")] == box[2:]
    assert root.get("style") == "background: white; color: black"
    text = " ".join("".join(x.itertext()) for x in root.iter() if "text" in x.tag)
    assert "minus row0" in text
    assert "row1" in text


def test_the_heat_map_is_symmetric_and_shows_its_numbers():
    table = sweep_table.make({"a": {0: 11.1}, "a+b": {0: 22.2}, "b": {}}, "a", {})
    cells = {"a": ("a", "a"), "a+b": ("a", "b"), "b": ("b", "b")}
    names, means = sweep_chart.cells({"kind": "heat", "cells": cells}, table)
    assert names == ["a", "b"]
    assert means["a", "b"] == means["b", "a"] == 22.2
    picture = figures.heat_map("map", names, means)
    shown = re.findall(r">\s*(\d\d\.\d)\s*<", picture)
    assert sorted(shown) == ["11.1", "22.2", "22.2"]


# What is asked for


def toy(**changes):
    given = {"rows": {"one": {}, "two": {"optimizer.lr": 0.5}}} | changes
    return sweep_plan._checked(given, "here")


def test_points_are_all_rows_with_the_first_seed_then_with_the_next(tmp_path):
    config = common.get_config()
    points = sweep_plan.points(toy(), config, [4, 0], tmp_path)
    assert [(p.row, p.seed) for p in points] == [
        ("one", 4),
        ("two", 4),
        ("one", 0),
        ("two", 0),
    ]
    assert points[1].path == tmp_path / "two/seed_4"
    assert [p.config.optimizer.lr for p in points] == [1e-3, 0.5, 1e-3, 0.5]
    assert [p.config.seed for p in points] == [4, 4, 0, 0]
    assert config.optimizer.lr == 1e-3  # the recipe's own is left alone


@pytest.mark.parametrize("text", ["{", "[]", '{"probe": {"step": 8}}'])
def test_a_points_damaged_results_are_named(tmp_path, text):
    point, _ = sweep_plan.points(toy(), common.get_config(), [0], tmp_path)
    assert sweep_results.results(point) is None
    point.path.mkdir(parents=True)
    (point.path / "results.json").write_text(text)
    named = rf"^--workdir: .*{point.path}/results\.json"
    with pytest.raises(RequestError, match=named):
        sweep_results.results(point)


def test_a_points_result_without_its_max_steps_is_not_finished(tmp_path):
    point, _ = sweep_plan.points(toy(), common.get_config(), [0], tmp_path)
    point.path.mkdir(parents=True)
    record = {"config": point.config.to_dict(), "pretrain": {"loss": 1}}
    (point.path / "results.json").write_text(json.dumps(record))
    assert sweep_results.results(point) is None


BROKEN = [
    ({"row": {}}, "'row'"),
    ({"rows": {}}, "no rows"),
    ({"rows": {"../up": {}}}, "can't name a folder"),
    ({"baseline": "three"}, "'three'"),
    ({"published": {"three": 1.0}}, "'three'"),
    ({"score": "prob.pretrained"}, "prob.pretrained"),
]


@pytest.mark.parametrize("changes, word", BROKEN)
def test_a_sweep_that_is_not_of_the_form_is_refused(changes, word):
    with pytest.raises(RequestError, match=re.escape(word)):
        toy(**changes)


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"optimizer.lrr": 1.0},
            ("row 'bad'", "config.optimizer.lrr", "optimizer.lr?"),
        ),
        ({"seed": 3}, ("row 'bad'", "config.seed", "--seeds")),
        ({"batch_size": "many"}, ("row 'bad'", "config.batch_size", "many")),
        ({"batch_size": 65}, ("row 'bad'", "config.batch_size", "65", "64")),
        ({"encoder.depth": 19}, ("row 'bad'", "config.encoder.depth", "18, 34")),
        ({"stages": ("knn",)}, ("row 'bad'", "config.stages", "'probe' is missing")),
        ({"optimizer": 3}, ("row 'bad'", "config.optimizer", "no such field")),
    ],
)
def test_a_wrong_row_is_refused_before_any_row_runs(
    npz, tmp_path, capsys, fields, words
):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from sweep_recipe import get_config\n\n\n"
        f"def sweep():\n    return {{'rows': {{'good': {{}}, 'bad': {fields!r}}}}}\n"
    )
    flags = [f"--config={recipe}", f"--config.data.path={npz}", "--sweep"]
    expect_refusal(tmp_path / "run", capsys, flags, *words)


FLAGS = [
    (["--sweep", "--index=6"], ("--index", "6 points", "0 to 5", "2 rows")),
    (["--sweep", "--index=-1"], ("--index", "6 points")),
    (["--sweep", "--seeds=0,x"], ("--seeds", "0,1,2")),
    (["--sweep", "--seeds=1,1"], ("--seeds", "twice")),
    (["--sweep", "--table", "--index=0"], ("--table", "--index")),
    (["--index=0"], ("--index", "goes with --sweep")),
    (["--table"], ("--table", "goes with --sweep")),
    (["--sweep", "--config.seed=3"], ("config.seed", "--seeds")),
    (["--sweep", "--config.optimizer.lr=1.0"], ("config.optimizer.lr", "'diverges'")),
]


@pytest.mark.parametrize("flags, words", FLAGS)
def test_a_wrong_request_is_refused(npz, tmp_path, capsys, flags, words):
    flags = [RECIPE, f"--config.data.path={npz}", *flags]
    expect_refusal(tmp_path / "run", capsys, flags, *words)


def test_a_recipe_without_rows_is_refused(tmp_path, capsys):
    flags = [f"--config={ROOT}/configs/demo.py", "--sweep"]
    expect_refusal(tmp_path / "run", capsys, flags, "demo.py", "no sweep()")


def expect_refusal(workdir, capsys, flags, *words):
    code = launcher.main(["launch.py", *flags, f"--workdir={workdir}"])
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error, error
    assert not workdir.exists()


# Runs


HEAT = {"kind": "heat", "cells": {"a": 3}}
MISTAKES = {
    "return None": "None, which is no dict",
    "return {'rows': ['a', 'b']}": "rows = .*, which is no dict",
    "return {'rows': {'a': None}}": "row 'a' is None, not a dict",
    "return {'rows': {1: {}}}": "row 1 can't name a folder",
    "return {'rows': {'a': {'batch_size': None}}}": "config.batch_size: None is no",
    "return {'rows': {'a': {2: 3}}}": "row 'a' is {2: 3}, not a dict",
    "return 1 / 0": "ZeroDivisionError: division by zero",
    "raise ValueError('one\\ntwo')": r"sweep\(\) of .*mine\.py: ValueError: one two$",
    "return {'rows': {'a': {}}, 'chart': {'kind': ['heat']}}": "chart .* is none of",
    "import numpy\n    return numpy.eye(2)": r"array.*, which is no dict",
    "return {'rows': {'a': {'e\\nf': 1}}}": "config.e f: no such field",
    "return {'rows': {'a': {}}, 'score': 3}": "score = 3, which is no text",
    "return {'rows': {'a': {}}, 'published': 3}": "published = 3, which is no dict",
    "return {'rows': {'a': {}}, 'published': {'a': 'x'}}": "of 'a' is 'x', no number",
    "return {'rows': {'a': {}}, 'chart': 3}": "chart = 3, which is no dict",
    f"return {{'rows': {{'a': {{}}}}, 'chart': {HEAT}}}": "cells is .*two names",
}


@pytest.mark.parametrize("body, message", MISTAKES.items())
def test_a_mistake_in_ones_own_sweep_is_one_line(npz, tmp_path, capsys, body, message):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        f"import sys\nsys.path.append({str(ROOT / 'tests')!r})\n"
        f"from tiny_recipe import get_config\n\n\ndef sweep():\n    {body}\n"
    )
    flags = [f"--config={recipe}", f"--config.data.path={npz}"]
    flags += [f"--workdir={tmp_path / 'run'}", "--sweep"]
    assert launcher.main(["launch.py", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(rf"^error: --sweep: .*{message}", error), error
    assert not (tmp_path / "run").exists()


def test_every_seed_is_one_that_a_run_takes():
    """2**32 would draw what 0 does: two runs that are one."""
    assert sweep_plan.seeds_of("0,4294967295") == [0, 2**32 - 1]
    with pytest.raises(RequestError, match=r"^--seeds: 4294967296 is not an integer"):
        sweep_plan.seeds_of("0,4294967296")


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


@pytest.fixture(scope="module")
def swept(npz, tmp_path_factory):
    """A sweep of two rows: killed, stopped by a signal, then run to its end."""
    workdir = tmp_path_factory.mktemp("sweeps") / "toy"
    flags = [RECIPE, f"--config.data.path={npz}", f"--workdir={workdir}", "--sweep"]
    flags += ["--seeds=0"]
    env = {"PYTHONPATH": f"{ROOT}/tests"}  # the recipe starts from tiny_recipe.py
    errors = []
    for step, number in ((3, signal.SIGKILL), (12, signal.SIGTERM)):
        process = launch(*flags, wait=False, **env)
        wait_for(process, workdir / "of-z/seed_0", step)
        os.kill(process.pid, number)
        _, error = process.communicate(timeout=PATIENCE)
        errors.append((process.returncode, error))
    done = launch(*flags, **env)
    return workdir, flags, errors, done


def test_a_point_outlives_the_sweep_that_read_its_output(tmp_path):
    """Killed, a sweep closes the pipe: the next line must not end the point."""
    script = (
        "import pathlib, sys\n"
        "from simclr_jax import sweep\n"
        "sweep.outlive_readers()\n"
        "sys.stdin.read()\n"
        "for stream in (sys.stdout, sys.stderr):\n"
        "    for _ in range(3):\n"
        "        print('x' * 100_000, file=stream, flush=True)\n"
        "pathlib.Path(sys.argv[1]).write_text('saved')\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "state"],
        cwd=ROOT,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    for end in (process.stdout, process.stderr, process.stdin):
        end.close()
    assert process.wait(timeout=PATIENCE) == 0
    assert (tmp_path / "state").read_text() == "saved"


def wait_for(process, path, step):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        metrics = path / "metrics.jsonl"
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never reached step {step}")


def first_step(error):
    """The first step of pretraining that was reported."""
    return int(re.search(r"^pretrain  step (\d+)/60", error, re.M).group(1))


def test_a_killed_sweep_continues(swept):
    workdir, _, [(killed, first), (stopped, second)], done = swept
    assert killed == -signal.SIGKILL
    assert first_step(first) == 1
    assert stopped == 75
    assert second.splitlines()[-1] == "stopped: stopped; the same command continues"
    assert first_step(second) > 3  # where the orphaned point saved its state
    assert first_step(done.stderr) > 12
    steps = [
        json.loads(x)["step"]
        for x in (workdir / "of-z/seed_0/metrics.jsonl").read_text().splitlines()
        if '"stage": "pretrain"' in x
    ]
    assert steps == list(range(1, 61))


def test_a_row_that_fails_is_named_and_the_others_run(swept):
    workdir, _, _, done = swept
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert re.match(r"error: 1 of 2 failed: diverges seed 0 \(exit 3: .*not fin", error)
    assert re.search(
        r"^sweep: 2/2: diverges seed 0; .* a point, ETA \d", done.stderr, re.M
    )
    results = json.loads((workdir / "of-z/seed_0/results.json").read_text())
    layers = results["probe"]["layers"]
    assert results["probe"]["features"] == "z"
    assert results["probe"]["pretrained"]["top1"] == layers["z"]
    text = (workdir / "table.md").read_text()
    assert text in done.stdout
    assert re.search(rf"^\| of-z +\| +{100 * layers['z']:.2f} \| +1 \|", text, re.M)
    assert re.search(r"^\| diverges +\| +no run \|", text, re.M)
    assert "Not finished: 1 of 2 runs (diverges seed 0)." in text
    assert "Published, not ours: nobody." in text
    page = (workdir / "report.html").read_text()
    assert f"{100 * layers['z']:.2f}" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not (workdir / "differences.svg").exists()  # of one row from itself


def test_what_is_finished_is_not_run_again(swept, monkeypatch, capsys):
    workdir, flags, _, _ = swept
    started = []

    def pretend(command):
        started.append(command[-1])
        return 9, "as if killed"

    monkeypatch.setattr(sweep, "_launch", pretend)
    assert launcher.main(["launch.py", *flags]) == 1
    assert started == ["--index=1"]  # the failed one alone
    assert "diverges seed 0 (exit 9: as if killed)" in capsys.readouterr().err
    assert (workdir / "of-z/seed_0/results.json").exists()


@pytest.fixture
def kept(swept, tmp_path):
    """A sweep as a repository keeps it: results, neither data nor checkpoints."""
    point = tmp_path / "kept/of-z/seed_0"
    point.mkdir(parents=True)
    for name in ("config.json", "results.json"):
        shutil.copy(swept[0] / "of-z/seed_0" / name, point)
    return tmp_path / "kept"


def test_the_table_needs_results_only(swept, kept, capsys):
    workdir, _, _, _ = swept
    flags = [RECIPE, f"--workdir={kept}", "--sweep", "--table"]
    assert launcher.main(["launch.py", *flags, "--seeds=0"]) == 0
    assert (
        capsys.readouterr().out.rstrip() == (workdir / "table.md").read_text().rstrip()
    )
    assert launcher.main(["launch.py", *flags]) == 0  # seeds 0, 1 and 2
    assert "Not finished: 5 of 6" in capsys.readouterr().out
    # Results of another recipe are not counted as this one's.
    changed = [*flags, "--config.batch_size=8"]
    assert launcher.main(["launch.py", *changed]) == 2
    assert "config.batch_size" in capsys.readouterr().err


def test_one_point_by_its_index(swept, kept, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(stages, "run", lambda _, path: started.append(path))
    flags = [*swept[1], f"--workdir={kept}"]
    assert launcher.main(["launch.py", *flags, "--index=0"]) == 0
    assert "point 0 of 0 to 1: of-z seed 0 is finished" in capsys.readouterr().err
    assert not started  # results.json says enough: its checkpoints are gone
    assert launcher.main(["launch.py", *flags, "--index=1"]) == 0
    assert "point 1 of 0 to 1: diverges seed 0\n" in capsys.readouterr().err
    assert started == [str(kept / "diverges/seed_0")]


def test_failures_are_told_together(tmp_path, monkeypatch):
    """Every point is tried, whatever the one before it did."""
    points = sweep_plan.points(toy(), common.get_config(), [0, 1], tmp_path)
    codes = iter([(0, ""), (1, "disk full"), (-9, ""), (0, "")])
    monkeypatch.setattr(sweep, "_launch", lambda command: next(codes))
    with pytest.raises(
        FailedError, match=r"2 of 4 failed: two seed 0 \(exit 1: disk f"
    ):
        sweep.run(toy(), points, tmp_path, ["launch.py", "--sweep"])
    assert next(codes, None) is None
