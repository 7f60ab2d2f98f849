"""The catalogues: which app has one, how it is read, updated, written and compiled."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from tests.translations.extraction import Found, app_folders, files_of, messages_of

ROOT = Path(__file__).resolve().parents[2]
LANGUAGE = "ja"
#: Folders that are no apps, and the app whose catalogue has their messages.
SHARED = {"shop": ("shared",)}
#: Installed packages without Japanese whose pages the admin has. The shop's catalogue has them too.
THIRD_PARTY = {"shop": ("axes", "django_celery_beat")}
THIRD_PARTY_FILES = ("admin.py", "apps.py", "models.py")
NO_APPS = {"tests", "benchmarks", "docs", "deploy"}
#: Other headers of Babel have a date, a name or a release, and would make each update a change.
HEADERS = {"Language", "Plural-Forms", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}

Memory = Mapping[tuple[str | None, str], tuple[str, ...]]


class JapaneseCatalog(Catalog):
    """A catalogue whose files depend on nothing but its messages."""

    def __init__(self, *, app: str = "") -> None:
        comment = f"# Japanese texts of {app}." if app else ""
        super().__init__(locale=LANGUAGE, header_comment=comment, fuzzy=False)

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        """The headers that each update leaves as they are."""
        return [(name, value) for name, value in super().mime_headers if name in HEADERS]


@dataclass(frozen=True, kw_only=True)
class App:
    """An app with messages.

    Attributes:
        folder: its folder.
    """

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.relative_to(ROOT).as_posix()

    @property
    def po(self) -> Path:
        return self.folder / "locale" / LANGUAGE / "LC_MESSAGES" / "django.po"

    @property
    def mo(self) -> Path:
        return self.po.with_suffix(".mo")

    def messages(self) -> list[Found]:
        """Return all messages of the app, and of the shared folders and packages that it serves."""
        found = [one for path in files_of(self.folder) for one in found_in(path, self.folder)]
        for package in THIRD_PARTY.get(self.name, ()):
            files = [folder_of(package) / name for name in THIRD_PARTY_FILES]
            found += [one for path in files for one in found_in(path, path.parents[1])]
        for shared in SHARED.get(self.name, ()):
            found += [one for path in files_of(ROOT / shared) for one in found_in(path, ROOT)]
        return found

    def read(self) -> Catalog:
        """Return the stored catalogue; an empty one if there is none yet."""
        if not self.po.exists():
            return JapaneseCatalog()
        with self.po.open("rb") as file:
            return read_po(file, locale=LANGUAGE)

    def updated(self, memory: Memory) -> Catalog:
        """Return a catalogue of the messages in the code, with the translations that are known.

        No translation is guessed from a similar message, so none is fuzzy.
        """
        known = {**memory, **memory_of(self.read())}
        fresh = JapaneseCatalog(app=self.name)
        for one in sorted(self.messages(), key=lambda one: (one.file, str(one.text))):
            fresh.add(one.text, locations=[(one.file, 0)], context=one.context)
        for message in texts_of(fresh):
            if strings := known.get(key_of(message)):
                message.string = strings if message.pluralizable else strings[0]
        return fresh


@cache
def found_in(path: Path, base: Path) -> tuple[Found, ...]:
    """Return the messages of one file. Its name in the catalogue is relative to `base`."""
    return tuple(messages_of(path, path.relative_to(base).as_posix()))


@cache
def apps() -> tuple[App, ...]:
    """Return the apps with messages: folders with an `AppConfig`, outside of tests and tools."""
    tops = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    tops = [path for path in tops if path.name not in NO_APPS]
    found = [App(folder=folder) for top in sorted(tops) for folder in app_folders(top)]
    return tuple(one for one in found if one.po.exists() or one.messages())


def folder_of(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise LookupError(f"{package} is not installed. Run `make install`.")
    return Path(spec.origin).parent


def texts_of(catalogue: Catalog) -> list[Message]:
    """Return the messages of a catalogue without its header."""
    return [message for message in catalogue if message.id]


def key_of(message: Message) -> tuple[str | None, str]:
    """Return the context and the singular of a message, which identify it."""
    return message.context, forms_of(message)[0]


def forms_of(message: Message) -> tuple[str, ...]:
    """Return the English forms of a message: one, or singular and plural."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def strings_of(message: Message) -> tuple[str, ...]:
    """Return the translations of a message: one, or one for each plural form."""
    string = message.string or ""
    return tuple(string) if isinstance(string, list | tuple) else (string,)


def memory_of(catalogue: Catalog) -> dict[tuple[str | None, str], tuple[str, ...]]:
    """Return the finished translations of a catalogue."""
    return {
        key_of(one): strings_of(one)
        for one in texts_of(catalogue)
        if all(strings_of(one)) and not one.fuzzy
    }


def text_of(catalogue: Catalog) -> str:
    """Return the text of the .po file."""
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=0, ignore_obsolete=True, include_lineno=False)
    return buffer.getvalue().decode()


def compiled(catalogue: Catalog) -> bytes:
    """Return the content of the .mo file."""
    bare = JapaneseCatalog()
    for message in texts_of(catalogue):
        bare[message.id] = message
    buffer = io.BytesIO()
    write_mo(buffer, bare)
    return buffer.getvalue()
