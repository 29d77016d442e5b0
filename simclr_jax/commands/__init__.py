"""Commands on a run or an encoder's file: `python launch.py embed RUN IMAGES`.

They need no recipe. A command is a file here with the function `parser()`, which says
what it takes, and `run(flags)`, which does it.
"""

import importlib
import sys

# Name -> what it does, as `launch.py --help` shows it.
COMMANDS = {
    "embed": "write the features of images",
    "predict": "name the classes of images, by a network trained on labels",
    "export": "write the encoder for PyTorch, ONNX Runtime or jax",
}


def asked(argv: list[str]) -> bool:
    """Whether a command line is for a command; `argv[0]` is the script."""
    return len(argv) > 1 and argv[1] in COMMANDS


def run(argv: list[str]) -> int:
    """Runs the command that `argv[1]` names; returns the exit code.

    Raises:
      RequestError: the request is wrong; the message is one line.
      OSError: a file can't be written.
      StoppedError: a signal came.
    """
    command = importlib.import_module(f"simclr_jax.commands.{argv[1]}")
    parser = command.parser()
    words = argv[2:]
    if {"-h", "--help"} & set(words):
        print(parser.format_help(), end="", file=sys.stdout)
        return 0
    command.run(parser.parse_args(words))
    return 0
