from tilec.tune.config import Config
from tilec.tune.population import everything
from tilec.tune.space import Constraint, Parameter, Space


def rare(parameters: int) -> Space:
    """A space whose only config is known when the last parameter has its value."""
    names = [f"p{i}" for i in range(parameters)]
    only = Constraint(f"{' + '.join(names)} >= {3 * parameters}")
    return Space(tuple(Parameter(n, (0, 1, 2, 3)) for n in names), (only,))


def test_looking_for_what_is_rare_comes_to_an_end():
    small, large = rare(6), rare(11)
    found = everything(small, 10)
    assert found is not None
    assert [small.config(r) for r in found] == [Config.of({f"p{i}": 3 for i in range(6)})]
    assert everything(large, 10) is None  # 4 million combinations for one config
