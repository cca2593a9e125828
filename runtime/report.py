"""What an emulated launch tells: findings of its checks, and counts by source line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One kind of mistake at one pair of source lines; `count` says how often it happened.

    `kind` is one of race, race-global, in-flight, overwritten, proxy-fence, uninitialised,
    shared-bounds, out-of-bounds, misaligned, read-only, mbarrier, barrier, divergence, deadlock,
    exit, wgmma-fence, wgmma-register, descriptor, metadata, tensor-map. `other_line` is that of
    the other party, 0 if there is none; `threads` are ranks in the block; `address` is in bytes
    from the start of `buffer` ("shared", or the name of an argument), -1 where there is none.
    """

    kind: str
    file: str
    line: int
    other_file: str
    other_line: int
    threads: tuple[int, ...]
    block: tuple[int, int, int]
    buffer: str
    address: int
    count: int
    message: str

    def __str__(self) -> str:
        where = f" [{self.buffer} byte {self.address}]" if self.buffer else ""
        return f"{self.file}:{self.line}: {self.kind}: {self.message}{where} (x{self.count})"


@dataclass(frozen=True)
class Count:
    """What one operation of one source line did in the whole launch.

    `executions` are by warp (wgmma: by warpgroup; copies of the bulk unit: each). `wavefronts` are
    passes over the 32 banks of shared memory, `sectors` pieces of 32 bytes of global memory; the
    ideal ones are what the same accesses take at least.
    """

    file: str
    line: int
    operation: str
    executions: int
    wavefronts: int
    ideal_wavefronts: int
    sectors: int
    ideal_sectors: int


@dataclass(frozen=True)
class Report:
    """The findings and counts of one launch; both are empty when it ran unchecked and well."""

    findings: tuple[Finding, ...]
    counts: tuple[Count, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of findings that there are."""
        return frozenset(finding.kind for finding in self.findings)

    def counted(self, operation: str) -> tuple[Count, ...]:
        """The counts of one operation, by line."""
        return tuple(count for count in self.counts if count.operation == operation)


def parse_report(text: str) -> Report:
    """A report from one JSON object a line: counts are of kind "count", the rest are findings."""
    findings: list[Finding] = []
    counts: list[Count] = []
    for line in text.splitlines():
        fields: dict[str, Any] = json.loads(line)
        if fields["kind"] == "count":
            del fields["kind"]
            counts.append(Count(**fields))
        else:
            fields["threads"] = tuple(fields["threads"])
            fields["block"] = tuple(fields["block"])
            findings.append(Finding(**fields))
    return Report(tuple(findings), tuple(counts))
