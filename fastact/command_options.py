"""Options that several commands have, so that they are given alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["SeveralWords", "add_dtype", "words"]


def words(text: str) -> tuple[str, ...]:
    """The words in "a,b", each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


class SeveralWords(argparse.Action):
    """``--option A,B`` as well as ``--option A --option B``; what is given takes the place of the default.

    With a `const`, the words are to be of that.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        given = words(values if isinstance(values, str) else ",".join(values or ()))
        for word in (given or ("",)) if self.const is not None else ():
            if word not in self.const:
                raise argparse.ArgumentError(self, f"invalid choice: {word!r} (choose from {', '.join(self.const)})")
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, tuple(dict.fromkeys([*(() if before is self.default else before), *given])))


def add_dtype(
    parser: argparse.ArgumentParser, known: Sequence[str], default: Sequence[str] | None, check: bool = True
) -> None:
    """``--dtype``, which may also be called ``--dtypes``; with `check`, it is of the `known`."""
    usual = "all there are" if default is None else ", ".join(default)
    told = {"--dtype": f"of {', '.join(known)} (default: {usual})", "--dtypes": argparse.SUPPRESS}
    given = None if default is None else tuple(default)
    const = tuple(known) if check else None
    for option, text in told.items():
        parser.add_argument(
            option, action=SeveralWords, dest="dtype", const=const, default=given, metavar="A,B", help=text
        )
