"""Passes: functions from IR to IR. Know the IR only."""
