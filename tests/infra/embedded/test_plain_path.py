"""Engines never see a path with spaces."""

import tempfile
from pathlib import Path

import pytest

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.plain_path import plain_path, remove_links


@pytest.fixture(autouse=True)
def _temporary_files_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def test_a_path_with_spaces_gets_another_name_until_down(layout: Layout, tmp_path: Path) -> None:
    """The link leads to the folder, is made once, and goes."""
    link = plain_path(layout, layout.cache)
    (layout.cache / "compiled").write_text("kept")
    assert " " not in str(link)
    assert (link / "compiled").read_text() == "kept"
    assert plain_path(layout, layout.cache) == link
    remove_links(layout)
    assert not link.is_symlink()
    assert (layout.cache / "compiled").exists()
    assert plain_path(layout, tmp_path) == tmp_path


def test_a_foreign_link_in_its_place_is_not_followed(layout: Layout, tmp_path: Path) -> None:
    """The folder of temporary files is everybody's."""
    link = plain_path(layout, layout.cache)
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(EmbeddedError, match="is in the way"):
        plain_path(layout, layout.cache)
