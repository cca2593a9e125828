"""The GPU suite: cases compiled, judged and run without a GPU, and timed where there is one."""

from tilec.bench.gpu.cases import CASES
from tilec.bench.gpu.dry import Tried, dry_run
from tilec.bench.gpu.measured import Asked
from tilec.bench.gpu.plan import chosen, plan
from tilec.bench.gpu.run import check, run

__all__ = ["CASES", "Asked", "Tried", "check", "chosen", "dry_run", "plan", "run"]
