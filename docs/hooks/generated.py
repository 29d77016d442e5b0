"""The pages that mkdocs makes from the code: all fields, and the API.

A field's meaning is its comment in simclr_jax/config/defaults.py, as in `--help`; what
it accepts is what its rule says of a wrong value.
"""

import ast
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import simclr_jax
from simclr_jax.config.fields import every_field, every_type
from simclr_jax.config.help import comments
from simclr_jax.config.rules import PATHS, RULES

ROOT = Path(__file__).parents[2]
# What users import beside the package itself: modules, and the names to show of one
# without `__all__`.
MODULES: dict[str, tuple[str, ...]] = {
    "losses": (),
    "augment": (),
    "encoders": ("ResNet",),
    "heads": ("Projector", "Predictor", "Classifier"),
    "networks": (
        *("Network", "ClassifierNetwork", "init_module", "variables", "apply_module"),
        *("moving_average", "update_target"),
    ),
    "microbatches": ("encode_views", "encode_each", "in_groups"),
    "methods": (),
    "training": (),
    "training.optimizers": ("make", "make_schedule", "decay_mask", "trust_mask"),
    "evaluation": (),
    "checkpoint": (),
    "export.safetensors": ("save", "read", "read_about"),
    "export.torch": ("save", "state_dict"),
    "export.onnx": ("save",),
    "export.stablehlo": ("save",),
}
# A value of each type that every rule for that type refuses.
WRONG: dict[Any, Any] = {int: -1, float: -1.0, tuple: ("",)}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the two pages."""
    for name, lines in {"fields.md": fields(), "api.md": api()}.items():
        text = "\n".join(lines) + "\n"
        files.append(File.generated(config, name, content=text))
    return files


def fields() -> Iterator[str]:
    """Every field with its default, its meaning and what it accepts, by section."""
    meanings, defaults = comments(), every_field()
    yield "---\nsearch:\n  boost: 2\n---\n\n# All fields\n"
    yield (
        "A recipe changes some of these fields, the command line more: "
        "`--config.optimizer.lr=0.0003`. `python launch.py --config=RECIPE --help` "
        "lists them with the recipe's values. *unset*: the code's own default, which "
        "the meaning names."
    )
    last = None
    # The fields without a section first, then section by section.
    for path in sorted(defaults, key=lambda path: (path.rpartition(".")[0], path)):
        section = path.rpartition(".")[0]
        if section != last:
            yield f"\n## {section or 'Of the run'}\n"
            if section in meanings:
                yield f"{_plain(meanings[section])}\n"
            yield "| field | default | meaning |\n| --- | --- | --- |"
            last = section
        value = defaults[path]
        default = "*unset*" if value is None else f"`{value!r}`"
        text = _plain(meanings.get(path, ""))
        if rule := accepted(path):
            text += f"<br>*Accepts* {_plain(rule)}."
        yield f"| `{path}`{{ #{path} }} | {default} | {text} |"


def accepted(path: str) -> str:
    """What the rule of a field says that it accepts; "" where the type says it all."""
    if path not in RULES or path in PATHS or every_type()[path] is bool:
        return ""
    told = RULES[path](WRONG.get(every_type()[path], "-"))
    assert told, path
    return told


def _plain(text: str) -> str:
    """Text for a cell of a table."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("*", "\\*")


def api() -> Iterator[str]:
    """What each public module has, for mkdocstrings."""
    yield "# API\n"
    yield "[In your own JAX code](library.md) shows how the parts go together.\n"
    yield "\n## simclr_jax\n"
    yield (
        "The losses can be imported from here, too: `from simclr_jax import nt_xent`. "
        "`import simclr_jax` loads nothing at first, not even jax.\n"
    )
    homes = {name: getattr(simclr_jax, name).__module__ for name in simclr_jax.__all__}
    for name, home in homes.items():
        if not home.startswith("simclr_jax.losses"):
            yield f"::: {home}.{name}"
    for module, names in MODULES.items():
        yield f"\n## simclr_jax.{module}\n"
        yield f"{about(module)}\n"
        for name in names or exported(module):
            yield f"::: simclr_jax.{module}.{name}"


def source(module: str) -> ast.Module:
    """The source of a module of the package."""
    path = ROOT / "simclr_jax" / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text())


def about(module: str) -> str:
    """The first paragraph of a module's docstring."""
    return (ast.get_docstring(source(module)) or "").partition("\n\n")[0]


def exported(module: str) -> list[str]:
    """The functions and classes of a module's `__all__`."""
    for node in source(module).body:
        match node:
            case ast.Assign(targets=[ast.Name("__all__")], value=value):
                return [x for x in ast.literal_eval(value) if not x.isupper()]
    raise ValueError(f"{module} has no __all__")
