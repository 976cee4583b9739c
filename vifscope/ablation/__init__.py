"""An experiment of arms and seeds on one base model: trained, measured, held against its control."""

from vifscope.ablation.experiment import Experiment, Numbers
from vifscope.ablation.job import ablate
from vifscope.ablation.result import Ablation

__all__ = ["Ablation", "Experiment", "Numbers", "ablate"]
