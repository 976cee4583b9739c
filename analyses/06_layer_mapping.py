# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which layers are paired (Table 4)
#
# The paper's numbers for layer mappings, the pairs that each mapping gives in the decoder of `mini-llava`, and those of
# them that were measured. Mappings that are not in the last table were not measured;
# `vifscope ablate --arms default,early,late,five-pairs,control` trains them.

# %%
from pathlib import Path

import pandas as pd

from vif_core.vif.config import layer_pairs
from vifscope.claims import mapping_claim

RESULTS = Path("results") / "ablation.csv"  # or the ablation.csv of an experiment of your own
NUM_LAYERS = 16  # of the decoder
MAPPINGS = ["default", "early", "late", "five-pairs"]

# %%
pd.read_csv(Path("paper") / "table4.csv").pivot(index="benchmark", columns="model", values="value")

# %%
pd.DataFrame({mapping: [str(layer_pairs(mapping, NUM_LAYERS))] for mapping in MAPPINGS}, index=["pairs"]).T

# %%
table = pd.read_csv(RESULTS)
columns = ["arm", "measure", "seeds", "n", "mean", "control", "difference", "difference_low", "difference_high"]
table.loc[table["arm"].isin(["vif", *MAPPINGS]), columns].round(4)

# %% [markdown]
# Each mapping against the default one, over the seeds that both have (means, and the ends of 95 % intervals):

# %%
against = ["from_reference", "from_reference_low", "from_reference_high"]
table.loc[table["reference"].eq("default") & table["from_reference"].notna(), ["arm", "measure", *against]].round(4)

# %% [markdown]
# Whether it holds here:

# %%
print(mapping_claim(table).sentence)
