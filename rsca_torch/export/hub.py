"""RSCA with the Hugging Face Hub's own methods; needs the package huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download

from rsca_torch.export.hub_folder import write
from rsca_torch.layers.rsca import RSCA
from rsca_torch.ppca.frozen_folder import CONFIG, MODEL, SUMS, model_in

__all__ = ["HubRSCA"]


class HubRSCA(
    RSCA,
    ModelHubMixin,
    library_name="rsca_torch",
    tags=["astronomy", "stellar-spectra", "metric-learning"],
):
    """An `RSCA` with `from_pretrained`, `save_pretrained` and `push_to_hub`.

    A local folder is read without network; of a repository of the Hub its three files are fetched. Checksums are looked
    at as `RSCA.load` does.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     HubRSCA.blank().save_pretrained(f"{folder}/model")
        ...     HubRSCA.from_pretrained(f"{folder}/model").weight.shape
        torch.Size([1, 1])
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> HubRSCA:
        """The model of a local folder, or of a repository of the Hub.

        Args:
            pretrained_model_name_or_path: of the folder, or OWNER/NAME.
            options: as the mixin has them: revision, cache_dir, token and the like.

        Raises:
            InputError: as `RSCA.load`.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            model_in(pretrained_model_name_or_path)  # before the mixin reads what may be damaged
        found: HubRSCA = super().from_pretrained(pretrained_model_name_or_path, **options)
        return found

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **others: Any,  # noqa: ARG003  (of other versions of the mixin)
    ) -> HubRSCA:
        """What `from_pretrained` calls."""
        folder = model_id
        if not Path(folder).is_dir():
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[MODEL, CONFIG, SUMS],
            )
        loaded = cls.load(folder)
        assert isinstance(loaded, cls)
        return loaded

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` calls."""
        write(self, save_directory)
