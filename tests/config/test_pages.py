"""The set-ups of the documentation, each taken as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.config.loading import load
from bridge.config.presets import preset_names

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "directories").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_a_set_up_that_is_in_order(page: Path, tmp_path: Path, authority_file: Path) -> None:
    """What is copied from a page, with its files in place, is a configuration without faults, for the page's preset."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    secret = tmp_path / "reader"
    secret.write_text("secret")
    secret.chmod(0o600)
    assert "reader.password}  # 0640 root:mailstore-bridge\n" in text  # who may read it
    text = text.replace("/etc/mailstore-bridge/reader.password", str(secret))
    text = re.sub(r"/etc/\S+?\.(?:pem|crt)", str(authority_file), text)
    endpoint = f"endpoints: [{{path: /mailstore, callers: [{{username: mailstore, password_file: {secret}}}]}}]\n"
    file = tmp_path / "config.yaml"
    file.write_text(endpoint + text)
    (directory,) = load(str(file), {}).configuration.directories
    assert directory.preset == page.stem


def test_each_preset_has_its_page_and_its_line_in_the_readme() -> None:
    """Nothing is offered that isn't explained."""
    wanted = set(preset_names()) - {"custom"}
    assert {page.stem for page in PAGES} == wanted
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"docs/directories/{name}.md" in readme for name in wanted)
