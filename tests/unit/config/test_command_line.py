"""Words of a command line as typed values, in any order; the wrong ones in one line."""

import itertools
import re
from pathlib import Path

import pytest

from simclr_jax.config import values
from simclr_jax.config.command_line import parse, read
from simclr_jax.config.fields import every_field, nearest, similar
from simclr_jax.errors import RequestError

ROOT = Path(__file__).parents[3]
RECIPE = f"--config={ROOT}/configs/demo.py"

ACCEPTED = [
    ("3", int, 3),
    ("-3", int, -3),
    ("0x10", int, 16),
    ("3", float, 3.0),
    ("1e-3", float, 1e-3),
    ("True", bool, True),
    ("true", bool, True),
    ("1", bool, True),
    ("False", bool, False),
    ("0", bool, False),
    ("3", str, "3"),
    ("", str, ""),
    ("None", str, "None"),
    ("(0.2,1.0)", tuple, (0.2, 1.0)),
    ("[0.2, 1.0]", tuple, (0.2, 1.0)),
    ("('pretrain','knn')", tuple, ("pretrain", "knn")),
    ("pretrain,knn", tuple, ("pretrain", "knn")),
    ("pretrain", tuple, ("pretrain",)),
    ("()", tuple, ()),
    ("(('knn', 83.2, None),)", tuple, (("knn", 83.2, None),)),
    ("true", bool | str, True),
    ("0", bool | str, False),
    ("spread", bool | str, "spread"),
    ("0.5", None, 0.5),
    ("true", None, True),
    ("queue", None, "queue"),
]


@pytest.mark.parametrize("text, kind, value", ACCEPTED)
def test_a_text_becomes_a_value_of_its_fields_type(text, kind, value):
    found = values.parse(text, kind)
    assert found == value
    assert type(found) is type(value)


REJECTED = [
    ("many", int, "'many' is not an integer"),
    ("1e3", int, "'1e3' is not an integer"),
    ("0.5", int, "'0.5' is not an integer"),
    ("", int, "'' is not an integer"),
    ("fast", float, "'fast' is not a number"),
    ("yes", bool, "'yes' is not True or False"),
    ("(0.2,", tuple, "'(0.2,' is not a tuple"),
    ("__import__('os')", tuple, "\"__import__('os')\" is not a tuple"),
]


@pytest.mark.parametrize("text, kind, message", REJECTED)
def test_a_text_that_does_not_fit_is_named(text, kind, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        values.parse(text, kind)


def config(*flags):
    return parse(["launch.py", RECIPE, "--workdir=x", *flags]).config


@pytest.mark.parametrize(
    "words, value",
    [
        (["--config.method.shuffle=spread"], "spread"),
        (["--config.method.shuffle", "spread"], "spread"),
        (["--config.method.shuffle=1"], True),
        (["--config.method.shuffle=None"], None),
        # As any switch, and as before it took a word.
        (["--config.method.shuffle"], True),
        (["--config.method.shuffle", "--config.seed=1"], True),
        (["--noconfig.method.shuffle"], False),
        ([], None),
    ],
)
def test_a_switch_that_also_takes_a_word(words, value):
    assert repr(config(*words).method.shuffle) == repr(value)


def test_fields_are_set_with_their_types():
    found = config(
        "--config.optimizer.lr=3",  # an integer for a float
        "--config.batch_size",
        "32",
        "-config.seed=4",
        "--config.remat",
        "--noconfig.probe.online",
        "--config.augment.second.blur=0.5",  # unset in the recipe
        "--config.method.temperature=None",
        "--config.stages=('knn',)",
    )
    assert (found.optimizer.lr, type(found.optimizer.lr)) == (3.0, float)
    assert (found.batch_size, found.seed) == (32, 4)
    assert (found.remat, found.probe.online) == (True, False)
    assert found.augment.second.blur == 0.5
    assert found.method.temperature is None
    assert found.stages == ("knn",)
    assert found.is_locked


def test_the_order_of_flags_does_not_matter():
    """Another method drops the options that the recipe set for its own."""
    words = [RECIPE, "--workdir=x", "--config.seed=1", "--config.method.name=moco"]
    words.append("--config.method.momentum=0.5")
    found = {
        parse(["launch.py", *order]).config.to_json()
        for order in itertools.permutations(words)
    }
    assert len(found) == 1
    (text,) = found
    assert '"temperature": null' in text  # the recipe's own, of simclr
    assert '"momentum": 0.5' in text


def test_the_last_of_two_counts():
    assert config("--config.seed=1", "--config.seed=2").seed == 2


def test_of_two_tuples_too_the_last_counts_and_a_line_says_so():
    words = [
        *("--config.stages=pretrain", "--config.augment.crop_scale=0.2,1.0"),
        *("--config.stages=pretrain,knn", "--config.augment.crop_scale=0.2,1.0"),
        *("--config.seed=1", "--config.seed=2"),
    ]
    found = parse(["launch.py", RECIPE, "--workdir=x", *words])
    assert found.config.stages == ("pretrain", "knn")
    assert found.config.augment.crop_scale == (0.2, 1.0)
    assert found.notes == ("stages is given twice; the last counts: pretrain,knn",)


def test_own_flags():
    flags = read(["launch.py", "--sweep", "--nosweep", "--index", "3", "-h", "--table"])
    assert (flags.sweep, flags.index, flags.help, flags.table) == (False, 3, True, True)


MESSAGES = [
    ("--config.batch_size=many", "config.batch_size: 'many' is not an integer; exam"),
    ("--config.method.momentum=x", "config.method.momentum: 'x' is not a number$"),
    ("--config.optimizer=adam", "config.optimizer: a section, not a field such as opt"),
    ("--config.optimizer.learning_rate=1", "no such field; did you mean optimizer.lr?"),
    ("--config.probe.lr=1", "did you mean probe.optimizer.lr?"),
    ("--config.method.temprature=1", "no such field; .* method.temperature?"),
    ("--lr=3", "--lr=3: not a flag; write --config.optimizer.lr=3$"),
    ("lr=3", "^lr=3: not a flag; write --config.optimizer.lr=3$"),
    ("config.seed=3", "^config.seed=3: not a flag; write --config.seed=3$"),
    ("--optimizer.lr=3", "write --config.optimizer.lr=3$"),
    ("--learning_rate=3", "write --config.optimizer.lr=3$"),
    ("--seed=3", "write --config.seed=3$"),
    ("--wrkdir=3", "not a flag; did you mean --workdir?"),
    ("configs/demo.py", "^configs/demo.py: not a flag; write --config=configs/demo.py"),
    ("--nosuch", "^--nosuch: not a flag; --help shows the flags$"),
    (
        "--config.seed",
        "^--config.seed: its value is missing; write --config.seed=VALUE",
    ),
    ("--index=one", "^--index: 'one' is not an integer$"),
]


@pytest.mark.parametrize("word, message", MESSAGES)
def test_what_is_wrong_is_said_in_one_line(word, message):
    with pytest.raises(RequestError, match=message.replace("?", r"\?")) as error:
        parse(["launch.py", RECIPE, "--workdir=x", word])
    assert "\n" not in str(error.value)


def test_the_nearest_field_is_in_the_nearest_section():
    fields = every_field()
    assert nearest("finetune.optimizer.learning_rate", fields) == (
        "finetune.optimizer.lr"
    )
    assert nearest("optimiser.lr", fields) == "optimizer.lr"
    assert similar("nothing.like.it", fields) == ""


def test_a_recipes_mistake_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    for code, message in (
        ("def get_config():\n    return 1 / 0", f"{path} line 2: ZeroDivisionError: "),
        ("def get_config():\n    return 1", "returns 1, which is not a ConfigDict"),
        ("x = 1", "has no function get_config"),
    ):
        path.write_text(code)
        with pytest.raises(RequestError, match=f"^--config: .*{re.escape(message)}"):
            parse(["launch.py", f"--config={path}", "--workdir=x"])
    with pytest.raises(RequestError, match="no variants; leave ':small' out"):
        parse(["launch.py", f"{RECIPE}:small", "--workdir=x"])


def test_options_of_a_method_in_a_file(tmp_path):
    """The recipe's own have its type; others are literals; of a built-in, none."""
    path = tmp_path / "mine.py"
    path.write_text("def mine(encoder, *, weight=1.0, mode=''): ...")
    method = f"--config.method.name={path}"
    found = config("--config.method.weight=3.5", method, "--config.method.mode=soft")
    assert (found.method.weight, found.method.mode) == (3.5, "soft")
    with pytest.raises(RequestError, match=r"^config\.method\.weight: no such field"):
        config("--config.method.weight=3.5")
