"""A wrong sweep is one line that names the fault, before anything is written."""

import re

import pytest
from tiny import ROOT, write_npz

import launch as launcher

RECIPE = f"--config={ROOT}/tests/sweep_recipe.py"


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


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
    (["--index=0"], ("--index", "needs --sweep")),
    (["--table"], ("--table", "needs --sweep")),
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


HEAT = {"kind": "heat", "cells": {"a": 3}}
ELSEWHERE = {"kind": "heat", "cells": {"x": ("a", "b")}}
LINES = {"kind": "lines", "x": "batchsize", "lines": "epochs"}
MISTAKES = {
    "return None": "None, not a dict",
    "return {'rows': ['a', 'b']}": "rows = .*, not a dict",
    "return {'rows': {'a': None}}": "row 'a' is None, not a dict",
    "return {'rows': {1: {}}}": "row 1 can't name a folder",
    "return {'rows': {'a': {'batch_size': None}}}": "config.batch_size: None is no",
    "return {'rows': {'a': {2: 3}}}": "row 'a' is {2: 3}, not a dict",
    "return 1 / 0": "ZeroDivisionError: division by zero",
    "raise ValueError('one\\ntwo')": r"sweep\(\) of .*mine\.py: ValueError: one two$",
    "return {'rows': {'a': {}}, 'chart': {'kind': ['heat']}}": "chart .* none of these",
    "import numpy\n    return numpy.eye(2)": r"array.*, not a dict",
    "return {'rows': {'a': {'e\\nf': 1}}}": "config.e f: no such field",
    "return {'rows': {'a': {}}, 'score': 3}": "score = 3, not text",
    "return {'rows': {'a': {}}, 'published': 3}": "published = 3, not a dict",
    "return {'rows': {'a': {}}, 'published': {'a': 'x'}}": "'a' is 'x', not a number",
    "return {'rows': {'a': {}}, 'chart': 3}": "chart = 3, not a dict",
    f"return {{'rows': {{'a': {{}}}}, 'chart': {HEAT}}}": "cells is .*two names",
    f"return {{'rows': {{'a': {{}}, 'b': {{}}}}, 'chart': {ELSEWHERE}}}": (
        "the chart refers to unknown row 'x'; rows: a, b$"
    ),
    f"return {{'rows': {{'a': {{}}}}, 'chart': {LINES}}}": (
        r"unknown field config\.batchsize; did you mean batch_size\?$"
    ),
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
