"""specks: procedural scenes of many small objects with fine-grained questions, answers and target boxes."""

from vif_core.data.specks.source import SPLITS, Specks

__all__ = ["SPLITS", "Specks"]
