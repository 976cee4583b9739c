"""How many questions a model answers rightly, by kind and by size of the target, without reading its attention."""

from vifscope.evaluation.job import evaluate
from vifscope.evaluation.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
