"""What quantising did to a model, as data and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One weight: its layers (several if it is tied), its shape [N, K], and what became of it.

    Errors are relative: |W' - W| / |W| of the weight, and of its outputs for the inputs that were
    given for calibration. `reason` says why a weight was left as it was.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    before: int  # bytes
    after: int
    format: str = ""
    method: str = ""
    weight_error: float | None = None
    output_error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """Every weight that the recipe names, in the order of the model; rich prints it as a table."""

    rows: tuple[Row, ...]
    others: int  # bytes of all other parameters and buffers

    @property
    def before(self) -> int:
        """Bytes of the model before."""
        return self.others + sum(r.before for r in self.rows)

    @property
    def after(self) -> int:
        """Bytes of the model now."""
        return self.others + sum(r.after for r in self.rows)

    def data(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return asdict(self) | {"before": self.before, "after": self.after}

    def __rich__(self) -> Table:
        table = Table(title="quantised weights")
        for name in ("layer", "shape", "format", "method"):
            table.add_column(name, overflow="fold")
        for name in ("KB before", "after", "weight error", "output error"):
            table.add_column(name, justify="right")
        for r in self.rows:
            what = (r.format, r.method) if not r.reason else (f"left: {r.reason}", "")
            table.add_row(
                " = ".join(r.names), "x".join(map(str, r.shape)), *what, _kb(r.before),
                _kb(r.after), _percent(r.weight_error), _percent(r.output_error),
            )  # fmt: skip
        table.add_section()
        table.add_row("all else", "", "", "", _kb(self.others), _kb(self.others), "", "")
        table.add_row("total", "", "", "", _kb(self.before), _kb(self.after), "", "")
        return table


def _kb(n: int) -> str:
    return f"{n / 1e3:,.1f}"


def _percent(x: float | None) -> str:
    return "" if x is None else f"{100 * x:.2f} %"
