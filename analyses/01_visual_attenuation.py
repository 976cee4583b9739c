# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Visual attention over depth (Figure 1 right, Figure 2)
#
# The paper's claim: the share of attention that text places on visual tokens is high in shallow layers and falls
# steeply in deep ones; the weights of single visual tokens lose their long tail. Figure 1 left is a drawing and is not
# reproduced.

# %%
import os

import vifscope
from vifscope.claims import attenuation_claim, tail_claim

MODEL = "mini-llava"  # or a hub id or folder of your own
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples

# %%
run = vifscope.analyze(MODEL, n=N, figures=False)  # kept in runs/, and taken from there the next time

# %%
run.figure("attenuation")

# %%
run.figure("violins")

# %%
summary = run.summary()
summary[(summary["group"] == "all") & (summary["metric"] == "visual_ratio")]

# %% [markdown]
# Whether it holds here:

# %%
print(attenuation_claim(run.store).sentence)
print(tail_claim(run.store).sentence)
