"""The miniature archive, and the shared folder of real files."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_archive import survey, write_archive

from rsca_torch.survey.survey import Survey


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).parents[2].parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared folder with real files beside the repository")
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "sas")


@pytest.fixture
def mini_survey(archive: Path) -> Survey:
    return survey(archive)
