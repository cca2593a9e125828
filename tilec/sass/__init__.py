"""The static judge: machine code of NVIDIA's GPUs read without a GPU. Knows no back end.

    (stats,) = stats_of(cubin)                  # registers, spills, residency, mix of the main loop
    print(text([stats]))
    Budget(registers=128, per_mma=11.4, widths={"ldgsts": 16}).check(stats)

tools      disassembled(cubin) -> listing, by the nvdisasm of pip, triton or PATH
listing    parse(listing) -> functions of instructions with their lines of source
graph      blocks, loops, and main_loop(function): one steady turn of the loop that does the work
opcodes    class_of("HGMMA") -> mma; the width of loads and stores
machine    residency(target, registers, threads, shared); devices with clock and bandwidth
stats      Stats and Mix: the numbers, with .per_mma, .bound(device), .as_json()
report     Stats as text
budget     Budget: what a test may ask of them
"""

from tilec.sass.budget import Budget
from tilec.sass.report import text
from tilec.sass.stats import Stats, stats_of
from tilec.sass.tools import disassembled

__all__ = ["Budget", "Stats", "disassembled", "stats_of", "text"]
