"""The command line: ``fastact bench``, ``fastact accuracy``, ``fastact demo``, ``fastact warmup``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

_COMMANDS = {
    "bench": "measure every function side by side with the libraries that are installed",
    "accuracy": "measure the error of functions in ULP of the true value",
    "demo": "train a small network on real data with a choice of activation",
    "warmup": "compile every function and keep the code on disk",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status."""
    from . import __version__
    from .activation import Unfinished

    parser = argparse.ArgumentParser(prog="fastact", description=__doc__)
    parser.add_argument("--version", action="version", version=f"fastact {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    argv = list(sys.argv[1:] if arguments is None else arguments)
    named = next((a for a in argv if not a.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        child = commands.add_parser(name, help=summary, description=summary)
        if name == named:  # the others' modules are not needed
            module = import_module(f".{name}.command" if name != "warmup" else ".warmup", __package__)
            module.add_arguments(child)
            child.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except Unfinished as error:
        print(f"fastact {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
