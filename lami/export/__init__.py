"""The networks of a model as files for other programs: ONNX graphs and `torch.export` packages."""

from lami.export.folder import ExportedPart, ExportReport, export
from lami.export.parts import Part, split

__all__ = ["ExportReport", "ExportedPart", "Part", "export", "split"]
