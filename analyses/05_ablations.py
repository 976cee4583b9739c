# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ablations (Table 3)
#
# The paper's numbers for variants of VIF, and the arms of `vifscope ablate` that were measured on `mini-llava`: each is
# trained like the control, and its differences have 95 % intervals over seeds and images. Arms that are not in the
# second table were not measured; `vifscope ablate` trains them.

# %%
from pathlib import Path

import pandas as pd

from vifscope.claims import ablation_claim, parts_claim

RESULTS = Path("results") / "ablation.csv"  # or the ablation.csv of an experiment of your own

# %%
pd.read_csv(Path("paper") / "table3.csv").pivot(index="benchmark", columns="model", values="value")

# %%
table = pd.read_csv(RESULTS)
columns = ["arm", "measure", "seeds", "n", "mean", "control", "difference", "difference_low", "difference_high"]
table[columns].round(4)

# %% [markdown]
# Each variant against VIF itself, over the seeds that both have (means, and the ends of 95 % intervals):

# %%
against = ["from_reference", "from_reference_low", "from_reference_high"]
table.loc[table["reference"].eq("vif") & table["from_reference"].notna(), ["arm", "measure", *against]].round(4)

# %% [markdown]
# Whether it holds here:

# %%
print(ablation_claim(table).sentence)
print(parts_claim(table).sentence)
