"""Sphinx's settings for the site of `django-transactional-outbox`: see docs/decisions/0060.

`make docs` builds it from the Markdown pages of `docs/`, which code hosts show as they are.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import django
from django.conf import settings

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_ROOT)]

import contents  # noqa: E402  # its folder has to be on the path

_PACKAGE: dict[str, Any] = tomllib.loads((_ROOT / "outbox/pyproject.toml").read_text())["project"]

# Docstrings are read from the imported modules, some of which declare models.
_DJANGO = ("admin", "auth", "contenttypes", "messages", "sessions")
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["outbox", *(f"django.contrib.{name}" for name in _DJANGO)],
)
django.setup()

project = _PACKAGE["name"]
release = _PACKAGE["version"]
author = project_copyright = _PACKAGE["authors"][0]["name"]
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_extension"]
root_doc = contents.INDEX
include_patterns = contents.files()

myst_heading_anchors = 4  # the anchors of code hosts, for links to headings
myst_enable_extensions = ["html_image"]  # an image with a width, which plain Markdown lacks
default_role = "code"  # docstrings have names in single backticks
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True  # one description of an attribute
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
# The summaries of results are fetched, and a browser refuses that for file://.
html_show_search_summary = False

#: The address of the repository's files, such as "https://host/name/blob/main/". Empty: a link to
#: a file that the site does not contain shows its path.
repository_url = os.environ.get("REPOSITORY_URL", "")
