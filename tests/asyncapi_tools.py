"""Validate AsyncAPI documents: by AsyncAPI's own parser and JSON Schema, and their examples.

The parser and the schema are npm packages of a fixed version. They are installed once into a
temporary folder, without their scripts. Without npm, or without its registry, tests are skipped.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it has no types
    Draft7Validator,
    Draft202012Validator,
)

PACKAGES = ("@asyncapi/parser@3.6.6", "@asyncapi/specs@6.11.1")
#: Draft-07's own checker knows no UUID.
FORMATS = Draft202012Validator.FORMAT_CHECKER
_FOLDER = Path(tempfile.gettempdir()) / f"asyncapi-tools-{os.getuid()}-3.6.6-6.11.1"
#: Answers each line, a document, with a line. It ends with its input, so with this process.
_PARSE = """
const { Parser } = require('@asyncapi/parser');
const lines = require('readline').createInterface({ input: process.stdin });
lines.on('line', (line) => new Parser().parse(line).then(({ document, diagnostics }) => {
  const found = diagnostics.map((one) => [one.severity, one.code, one.path.join('.'), one.message]);
  console.log(JSON.stringify({ isValid: Boolean(document), found }));
}));
"""


def examples(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each example with the id of its message."""
    for name, message in document["components"]["messages"].items():
        for example in message.get("examples", ()):
            yield name, example


def invalid_examples(document: Mapping[str, Any]) -> list[str]:
    """Return why examples do not fit the schemas of their headers and payload."""
    found = []
    for name, example in examples(document):
        message = document["components"]["messages"][name]
        for part in ("headers", "payload"):
            if part in example:
                found += [
                    f"{name}, {part}: {error.json_path} {error.message}"
                    for error in schema_errors(document, message[part], example[part])
                ]
    return found


def schema_errors(document: Mapping[str, Any], schema: Any, value: Any) -> list[Any]:
    """Return why a value does not fit a schema of the document."""
    whole = {"components": document["components"], "allOf": [schema]}
    validator = Draft7Validator(whole, format_checker=FORMATS)
    return list(validator.iter_errors(value))


def faults_by_json_schema(document: Mapping[str, Any]) -> list[str]:
    """Return the faults that AsyncAPI's JSON Schema of the document's version finds."""
    found = _validator(document["asyncapi"]).iter_errors(document)
    return [f"{error.json_path} {error.message[:300]}" for error in found]


@cache
def _validator(version: str) -> Any:
    file = tools() / f"node_modules/@asyncapi/specs/schemas/{version}.json"
    return Draft7Validator(json.loads(file.read_text("utf-8")))


def faults_by_parser(document: Mapping[str, Any]) -> list[str]:
    """Return the errors and warnings of `@asyncapi/parser`."""
    parser = _parser()
    assert parser.stdin
    assert parser.stdout
    parser.stdin.write(json.dumps(document) + "\n")
    parser.stdin.flush()
    result = json.loads(parser.stdout.readline())
    found = [" ".join(map(str, one)) for one in result["found"] if one[0] < 2]
    return found if result["isValid"] else [*found, "The document is invalid."]


@cache
def _parser() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        ["node", "-e", _PARSE], stdin=pipe, stdout=pipe, text=True, cwd=tools()
    )
    atexit.register(process.communicate)  # closes its input, and waits for its end
    return process


def tools() -> Path:
    """Return the folder with the packages; install them if they are missing."""
    if reason := _missing():
        pytest.skip(reason)
    return _FOLDER


@cache  # also of a failure: npm repeats failed requests for more than a minute
def _missing() -> str:
    """Return why the packages cannot be used; "" if they can. Install them if they are missing."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed, so AsyncAPI's own validators cannot run."
    return "" if _FOLDER.exists() else _install()


def _install() -> str:
    made = tempfile.mkdtemp(prefix="asyncapi-tools-", dir=_FOLDER.parent)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", made]
    ran = subprocess.run([*install, *PACKAGES], capture_output=True, text=True)
    if ran.returncode:
        shutil.rmtree(made)
        return f"npm could not install {' and '.join(PACKAGES)}, so they cannot run."
    try:
        os.rename(made, _FOLDER)
    except OSError:  # another process was faster
        shutil.rmtree(made)
    return ""
