# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Benchmarks (Tables 1 and 2)
#
# The paper's numbers for LLaVA-v1.5 without and with VIF, and what the two models here gain on specks. None of the
# paper's benchmarks is measured here.

# %%
import os
from pathlib import Path

import pandas as pd

import vifscope
from vifscope.claims import vif_claims

BASELINE, OTHER = "mini-llava", "mini-llava-vif"  # or two models of your own
N = int(os.environ.get("VIFSCOPE_N", "100"))  # samples

# %%
paper = pd.concat([pd.read_csv(Path("paper") / f"table{number}.csv") for number in (1, 2)]).drop_duplicates()
paper = paper[paper["model"].isin(["LLaVA-v1.5", "VIF"])].pivot(index="benchmark", columns="model", values="value")
paper.assign(change=paper["VIF"] - paper["LLaVA-v1.5"])

# %%
base = vifscope.analyze(BASELINE, n=N, figures=False)  # kept in runs/, and taken from there the next time
other = vifscope.analyze(OTHER, n=N, figures=False)

# %%
comparison = vifscope.compare([base, other])
comparison.accuracy

# %%
comparison.figure("accuracy")

# %% [markdown]
# Whether it holds here:

# %%
for claim in vif_claims(comparison)[1:]:
    print(claim.sentence)
