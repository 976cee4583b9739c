# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Limits (the paper's Limitations)
#
# VIF adds parameters and time, and cannot show what a patch does not resolve: objects smaller than a patch should gain
# less than larger ones.

# %%
import os
import statistics
import time

import vifscope
from vif_core.data.open import open_source
from vifscope.claims import limit_claim

BASELINE, OTHER = "mini-llava", "mini-llava-vif"  # or two models of your own
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples
REPEATS = 5

# %% [markdown]
# Parameters:

# %%
vlm = vifscope.load(OTHER)
decoder, added = (sum(weight.numel() for weight in part.parameters()) for part in (vlm.model, vlm.vif.generator))
print(f"VIF adds {added / 1e6:.2f} million parameters to {decoder / 1e6:.2f} million ({100 * added / decoder:.1f} %).")

# %% [markdown]
# Time to answer a question, without and with VIF in turn:

# %%
samples = [open_source("specks")[number] for number in range(8)]
vlm.generate(samples, 8)  # the first pass is slower
seconds = {"without": [], "with": []}
for _ in range(REPEATS):
    start = time.perf_counter()
    with vlm.vif.disable_vif():
        vlm.generate(samples, 8)
    seconds["without"].append(time.perf_counter() - start)
    start = time.perf_counter()
    vlm.generate(samples, 8)
    seconds["with"].append(time.perf_counter() - start)
before, after = (statistics.median(each) / len(samples) for each in seconds.values())
print(f"{1000 * before:.0f} ms a question without VIF, {1000 * after:.0f} ms with it ({after / before:.2f} times).")

# %% [markdown]
# Gain in accuracy by the size of what is asked about, with 95 % intervals over images:

# %%
base = vifscope.analyze(BASELINE, n=N, figures=False)  # kept in runs/, and taken from there the next time
other = vifscope.analyze(OTHER, n=N, figures=False)
comparison = vifscope.compare([base, other])
comparison.gains

# %% [markdown]
# Whether it holds here:

# %%
print(limit_claim(comparison).sentence)
