"""What the README shows is what the commands print."""

from __future__ import annotations

import re
from pathlib import Path

import readme


def test_every_output_block_is_what_its_command_prints():
    text = readme.README.read_text(encoding="utf-8")

    assert readme.filled(text) == text, "run `make docs`"


def test_the_readme_names_no_flag_that_is_not_there():
    text = readme.README.read_text(encoding="utf-8")
    source = "".join(file.read_text() for file in (readme.ROOT / "greenml" / "cli").glob("*.py"))

    for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
        assert flag in source or flag in ("--help", "--nthreads", "--exclusive"), flag


def test_the_lock_holds_names_versions_and_hashes_only():
    text = (Path(__file__).parent.parent / "requirements.lock").read_text()

    assert "://" not in text
    assert "--index" not in text
    requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in line for line in requirements)
    assert text.count("--hash=sha256:") >= len(requirements)
