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
# "open" where it does not tell or where nothing was measured. Tables 3 and 4 need trainings: `results/` has those that
# were made. What VIF costs, which the paper names among its limitations, is in `09_limits`.

# %%
import os
from pathlib import Path

import pandas as pd

import vifscope
from vifscope.claims import ablation_claim, claims, claims_frame, mapping_claim, parts_claim

BASELINE, OTHER = "mini-llava", "mini-llava-vif"  # or two models of your own
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples

# %%
base = vifscope.analyze(BASELINE, n=N, figures=False)  # kept in runs/, and taken from there the next time
other = vifscope.analyze(OTHER, n=N, figures=False)

# %%
trained = pd.read_csv(Path("results") / "ablation.csv")
found = claims([base.store, other.store])
found += [ablation_claim(trained), parts_claim(trained), mapping_claim(trained)]
pd.set_option("display.max_colwidth", None)
claims_frame(found).round(3)

# %%
for claim in found:
    print(claim.sentence)
