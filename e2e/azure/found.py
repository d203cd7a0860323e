"""What the tests found, and the table that docs/guide/azure-compatibility.md shows of it.

A row says what became of one operation of one client as one credential. The page's text is written by hand; what stands between its
two marks is written by `Found.tables`, when the tests run with KLUIS_ACCEPT=1, and compared otherwise.
"""

from __future__ import annotations

import json
import pathlib
import typing

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "guide" / "azure-compatibility.md"
BEGIN, END = "<!-- found by e2e/azure: begin -->\n", "<!-- found by e2e/azure: end -->\n"
WORDS = {"works": "yes", "refused": "refused", "fails": "no"}


class Found:
    def __init__(self) -> None:
        # heading -> column -> operation -> outcome, in the order of their coming
        self.rows: dict[str, dict[str, dict[str, str]]] = {}

    def add(self, heading: str, column: str, lines: typing.Iterable[dict]) -> None:
        """Rows of one table (a client in a place) and one of its columns (a credential). Only what was expected comes here."""
        operations = self.rows.setdefault(heading, {}).setdefault(column, {})
        for line in lines:
            operations[line["operation"]] = line["outcome"]

    def has(self, heading: str, column: str) -> bool:
        return column in self.rows.get(heading, {})

    def tables(self, headings: typing.Mapping[str, typing.Sequence[str]]) -> str:
        """In the order of `headings`, which gives each table its columns."""
        text = [f"Tried with {', '.join(versions())}.\n\n"]
        for heading, columns in headings.items():
            found = self.rows[heading]
            operations = list(dict.fromkeys(operation for column in columns for operation in found[column]))
            text.append(f"### {heading}\n\n| operation | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n")
            for operation in operations:
                cells = [WORDS.get(found[column].get(operation, ""), "") for column in columns]
                text.append(f"| {operation} | {' | '.join(cells)} |\n")
            text.append("\n")
        return "".join(text).rstrip("\n") + "\n"


def versions() -> list[str]:
    """The packages that the tests are about, with the versions that are installed for them."""
    files = sorted(HERE.glob("requirements-*.txt"))
    listed = [line.split("==") for file in files for line in file.read_text().splitlines() if "==" in line]
    ours = {"azure-keyvault-secrets", "azure-identity", "azureml-core"}
    found = [f"`{name}` {version}" for name, version in listed if name in ours]
    return found + [f"`{name}` {version}" for name, version in json.loads((HERE / "package.json").read_text())["dependencies"].items()]


def checked_in() -> str:
    """What the page shows now."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def write(tables: str) -> None:
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(BEGIN) + len(BEGIN)] + tables + text[text.index(END) :])
