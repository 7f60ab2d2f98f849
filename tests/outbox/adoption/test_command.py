"""The command: diff, exit codes, warnings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from outbox.adoption import rewriting
from tests.outbox.command import refused

from .project import Project

SENDS = "def send():\n    transaction.on_commit(send_label.delay)\n"


class TestWithoutWrite:
    def test_prints_a_diff_that_git_applies(self, project: Project):
        project.services(SENDS)
        before = project.texts()

        printed = project.adopt()

        assert project.texts() == before
        assert printed.endswith("1 call would change in 2 files. Add --write to write them.\n")
        diff = printed.partition("\n\n1 call")[0]
        patch = project.folder / "adopt.patch"
        patch.write_text(f"{diff}\n")
        subprocess.run(["git", "apply", str(patch)], cwd=project.folder, check=True)
        assert project.adopt("--check") == "Nothing to change.\n"

    def test_fails_with_check(self, project: Project):
        project.services(SENDS)

        with pytest.raises(SystemExit) as ended:
            project.adopt("--check")

        assert ended.value.code == 1

    def test_fails_with_check_if_a_call_is_listed(self, project: Project):
        project.services("def send():\n    transaction.on_commit(lambda: notify.delay(now()))\n")

        with pytest.raises(SystemExit) as ended:
            project.adopt("--write", "--check")

        assert ended.value.code == 1


class TestAPath:
    def test_may_be_a_file(self, project: Project):
        project.services(SENDS)

        printed = project.adopt("parcels/services.py")

        assert "-    transaction.on_commit(send_label.delay)" in printed

    @pytest.mark.parametrize("path", ["missing", "parcels/notes.txt"])
    def test_must_be_a_folder_or_a_python_file(self, project: Project, path: str):
        project.given({"parcels/notes.txt": ""})

        assert f"{path} is neither a folder nor a Python file" in refused("adopt", path)


class TestAFileWithOtherChanges:
    def test_is_named_before_it_is_written(self, project: Project):
        project.services("\n")
        git = ["git", "-c", "user.name=ann", "-c", "user.email=ann@example.com"]
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
            subprocess.run([*git, *words], cwd=project.folder, check=True)
        project.services(SENDS)

        printed = project.adopt("--write")

        assert "Warning: parcels/services.py had changes that are not committed." in printed
        assert "parcels/services.py is written." in printed


class TestANewTextThatIsNoPython:
    def test_is_not_written(self, project: Project, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail without the compilation of the new text."""
        project.services(SENDS)
        before = project.texts()
        broken = SimpleNamespace(bytes=b"def (:")
        monkeypatch.setattr(rewriting, "with_import", lambda *_: broken)

        assert "would be no valid Python" in refused("adopt", "parcels", "--write")

        assert project.texts() == before


class TestWithoutLibcst:
    def test_names_the_extra(self, project: Project, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("outbox.management.cli.adopt.find_spec", lambda _name: None)

        assert refused("adopt", "parcels") == ('The subcommand adopt needs libcst (extra "adopt").')

    def test_the_other_subcommands_do_not_import_it(self):
        code = "import sys; import outbox.management.cli.adopt; print('libcst' in sys.modules)"
        root = Path(__file__).parents[3]
        env = {"DJANGO_SETTINGS_MODULE": "tests.outbox.project.settings", "SHOP_LOCAL_DIR": "/tmp"}

        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup(); {code}"],
            cwd=root,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout == "False\n"
