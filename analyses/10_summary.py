# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The paper's claims, the paper's numbers and ours
#
# A verdict is "yes" where the 95 % interval lies wholly on the claim's side, "no" where it lies wholly on the other,
# "open" where it does not tell.

# %%
import os

import vifscope
from vifscope.claims import claims, claims_frame

BASELINE, OTHER = "mini-llava", "mini-llava-vif"  # or two models of your own
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples

# %%
base = vifscope.analyze(BASELINE, n=N, figures=False)  # kept in runs/, and taken from there the next time
other = vifscope.analyze(OTHER, n=N, figures=False)

# %%
found = claims([base.store, other.store])
claims_frame(found)

# %%
for claim in found:
    print(claim.sentence)
