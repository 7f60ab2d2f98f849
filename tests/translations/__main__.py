"""`make messages`: update and compile each app's Japanese catalogue, and print what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path

from babel.messages.pofile import read_po

from tests.translations.catalogues import (
    LANGUAGE,
    App,
    Memory,
    apps,
    compiled,
    memory_of,
    strings_of,
    text_of,
    texts_of,
)


def update(app: App, memory: Memory) -> list[str]:
    """Write the two files of an app, and return its messages without a translation."""
    catalogue = app.updated(memory)
    app.po.parent.mkdir(parents=True, exist_ok=True)
    app.po.write_text(text_of(catalogue))
    app.mo.write_bytes(compiled(app.read()))
    return [str(one.id) for one in texts_of(catalogue) if not all(strings_of(one))]


def memory_from(paths: list[Path]) -> Memory:
    """Return the translations of other catalogues; of several of one message, the first."""
    found = {}
    for path in reversed(paths):
        with path.open("rb") as file:
            found.update(memory_of(read_po(file, locale=LANGUAGE)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make messages", description=__doc__)
    parser.add_argument(
        "--memory", type=Path, action="append", default=[], help="a .po file with translations"
    )
    options = parser.parse_args()
    own = [app.po for app in apps() if app.po.exists()]
    memory = memory_from([*own, *options.memory])
    for app in apps():
        missing = update(app, memory)
        print(f"{app.name}: {len(texts_of(app.read()))} messages, {len(missing)} without Japanese")
        for text in missing:
            print(f"    {text}")


if __name__ == "__main__":
    main()
