# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the answer changes (Figure 5)
#
# The paper's claim: where the question alone is ambiguous, the spotlights of the prior, which sees the question, cover
# several candidates; those of the posterior, which sees the answer too, lie on what the answer is about. Ambiguous are
# here the third of the samples whose maps from the question alone are the broadest. (Figure 4 is a scheme.)

# %%
import os

import vifscope
from vifscope.claims import answer_claim
from vifscope.figures.lights import branch_frame

MODEL = "mini-llava-vif"  # or a model of your own with VIF
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples

# %%
run = vifscope.analyze(MODEL, n=N, figures=False)  # kept in runs/, and taken from there the next time

# %%
run.figure("spotlights")

# %% [markdown]
# Entropy of the maps in nats, and their box lift (1 is a uniform map), by layer pair. That maps chosen for being broad
# are narrower with the answer is in part regression to the mean; they were not chosen by their box lift.

# %%
frame = branch_frame(run.store)
frame.groupby(["ambiguous", "mid", "deep", "branch"])[["entropy", "box_lift"]].mean()

# %%
frame[frame["ambiguous"]].groupby(["kind", "branch"])[["entropy", "box_lift"]].mean()

# %% [markdown]
# Whether it holds here:

# %%
print(answer_claim(run.store).sentence)
