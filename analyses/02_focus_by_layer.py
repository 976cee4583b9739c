# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where each layer looks (Figure 3)
#
# The paper's claim: middle layers focus on what the question is about; the maps of deep layers are diffuse.

# %%
import os

import vifscope
from vifscope.claims import focus_claim

MODEL = "mini-llava"  # or a hub id or folder of your own
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples

# %%
run = vifscope.analyze(MODEL, n=N, figures=False)  # kept in runs/, and taken from there the next time

# %%
run.figure("maps")

# %%
run.figure("focus")

# %% [markdown]
# Whether it holds here:

# %%
print(focus_claim(run.store).sentence)
