"""A layer as an ONNX file, which onnxruntime and others run without torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from rsca_torch.export.elimination import OPSET, TRANSLATIONS
from rsca_torch.export.program import Layer, as_json, inputs_of, program_of, told_of, write_summed

__all__ = ["TOLD", "write"]

TOLD = "rsca_torch"  # among the file's metadata_props


def write(
    layer: Layer, path: str | Path, inputs: Sequence[str] | None = None, dtype: torch.dtype = torch.float64
) -> None:
    """Write PATH and PATH.sha256; arguments and errors as those of `torch_file.write`.

    Example:
        >>> import tempfile
        >>> import onnx
        >>> from rsca_torch import RSCA
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(RSCA._blank(), f"{folder}/model.onnx", inputs=["flux"])
        ...     model = onnx.load(f"{folder}/model.onnx")
        >>> [value.name for value in (*model.graph.input, *model.graph.output)]
        ['flux', 'features']
    """
    names = inputs_of(layer, inputs)
    with _quiet():
        program = torch.onnx.export(
            program_of(layer, names, dtype),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            output_names=["features"],
            custom_translation_table=TRANSLATIONS,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # of which line of whose file it came
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    program.model.metadata_props[TOLD] = as_json(told_of(layer, names, dtype))
    program.model.doc_string = "RSCA: spectra to features whose distance says how likely two stars were born together"
    write_summed(Path(path), program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that are not there and of its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    others = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [each.level for each in others]
    for each in others:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, before in zip((logger, *others), (level, *levels), strict=True):
            each.setLevel(before)
