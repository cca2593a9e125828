"""Func -> Func: passes by name, and pipelines of them."""

from tilec.passes.pipeline import Step, parse_pipeline, passes, register, run

__all__ = ["Step", "parse_pipeline", "passes", "register", "run"]
