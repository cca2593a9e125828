"""How fast a config is: compiled, checked and timed in a process of its own.

`keeper` ends that process and all that it starts; `process` talks to it; `child` is what runs in
it; `measurer` gives trials to it and says what came of them.
"""

from tilec.tune.measure.measurer import Measurer, Patience
from tilec.tune.measure.process import Limits

__all__ = ["Limits", "Measurer", "Patience"]
