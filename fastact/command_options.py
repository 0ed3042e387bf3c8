"""Options that several commands have, so that they are given alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["KnownWords", "SeveralWords", "add_dtype", "words"]


def words(text: str) -> tuple[str, ...]:
    """The words in "a,b", each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


class SeveralWords(argparse.Action):
    """``--option A,B`` as well as ``--option A --option B``; what is given takes the place of the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        given = values if isinstance(values, str) else ",".join(values or ())
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, words(",".join([*(() if before is self.default else before), given])))


class KnownWords(SeveralWords):
    """The same of words of `const`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        for word in words(values if isinstance(values, str) else ",".join(values or ())) or ("",):
            if word not in self.const:
                raise argparse.ArgumentError(self, f"invalid choice: {word!r} (choose from {', '.join(self.const)})")
        super().__call__(parser, namespace, values, option_string)


def add_dtype(
    parser: argparse.ArgumentParser,
    known: Sequence[str],
    default: Sequence[str] | None,
    action: type[SeveralWords] = KnownWords,
) -> None:
    """``--dtype``, which may also be called ``--dtypes``, and is one of the `known` if the `action` sees to that."""
    usual = "all there are" if default is None else ", ".join(default)
    told = {"--dtype": f"of {', '.join(known)} (default: {usual})", "--dtypes": argparse.SUPPRESS}
    given = None if default is None else tuple(default)
    for option, text in told.items():
        parser.add_argument(
            option, action=action, dest="dtype", const=tuple(known), default=given, metavar="A,B", help=text
        )
