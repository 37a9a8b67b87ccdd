"""The paper's Table 1, from samples: what each method makes of log Z and its derivatives, beside the truth.

    report = reproduce.run("ising", "quick", out="results")        # hessfast reproduce ising --preset quick
    report["rows"]["ours"]["dF_dp1"], report["published"]["paper_method"]["dF_dp1"]

The folder keeps samples, features, every row and its models; an interrupted run goes on in it.
"""

from ._run import PRESETS, run
from .table import table

__all__ = ["PRESETS", "run", "table"]
