"""Rendered documents are labelled, reproducible, and come in every format users send."""

from pathlib import Path

from ocr_ops.core.workspace import Workspace
from ocr_ops.data.documents import FORMATS, load_documents, rendered_pages
from ocr_ops.runtime.documents import page_images


def test_pages_of_one_seed_are_the_same_pages(tmp_path: Path) -> None:
    """Two workspaces, one digest; another seed, another one."""
    first = rendered_pages(Workspace(tmp_path / "a"), 2, seed=5)
    second = rendered_pages(Workspace(tmp_path / "b"), 2, seed=5)
    assert first.digest == second.digest
    assert rendered_pages(Workspace(tmp_path / "a"), 2, seed=6).digest != first.digest
    assert all(page.regions and page.text for page in first.pages)


def test_kept_pages_are_drawn_again_when_one_is_lost(tmp_path: Path) -> None:
    """A cache that is not whole is no dataset."""
    workspace = Workspace(tmp_path)
    pages = rendered_pages(workspace, 2, seed=5)
    (pages.folder / pages.pages[1].image).unlink()
    assert rendered_pages(workspace, 2, seed=5).digest == pages.digest


def test_load_documents_cover_the_formats(tmp_path: Path) -> None:
    """Each opens as what it says it is, with the page's size."""
    workspace = Workspace(tmp_path)
    pages = rendered_pages(workspace, 5, seed=5)
    folder = load_documents(workspace, pages)
    files = sorted(folder.iterdir())
    assert {file.suffix[1:] for file in files} == {extension for _, extension in FORMATS}
    for file in files:
        (image,) = page_images(file.read_bytes(), file.name)
        assert image.shape[2] == 3
    assert load_documents(workspace, pages) == folder
