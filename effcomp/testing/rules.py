"""`check_rule`: the four tests of a rule in one call."""

from collections.abc import Mapping

from effcomp.ir import Graph, print_graph, verify
from effcomp.passes.textual import parse_graph
from effcomp.rewrite import AnyRule, Log, apply_rules
from effcomp.testing.numbers import check_pass

__all__ = ["check_rule"]


def check_rule(
    rule: AnyRule,
    graph: Graph | str,
    *,
    fires: int = 1,
    refuses: str = "",
    sizes: Mapping[str, int] | None = None,
    numbers: bool = True,
) -> Graph:
    """Fail unless a rule does to a program what its test says; returns the program after.

    It fires so many times, the result verifies, the numbers stay (for random arguments, as
    `check_pass` draws them) and a second run changes nothing. With `refuses` it leaves the program
    alone and gives that reason. A rule that does neither tells how near it came.
    """
    __tracebackhide__ = True
    program = parse_graph(graph) if isinstance(graph, str) else graph
    verify(program)
    log = Log(trace=(rule.name,))
    after = apply_rules(program, [rule], log)
    if refuses:
        reasons = [refusal.reason for refusal in log.refusals]
        assert refuses in reasons, f"{rule.name} gives no reason {refuses!r}; {_what_it_did(log)}"
        assert after is program, f"{rule.name} refuses, and rewrites all the same"
        return after
    found = log.counts.get(rule.name, 0)
    assert found == fires, f"{rule.name} fires {found} times, not {fires}; {_what_it_did(log)}"
    verify(after)
    again = Log()
    if apply_rules(after, [rule], again) is not after:
        raise AssertionError(f"{rule.name} changes its own result again:\n{print_graph(after)}")
    if numbers:
        check_pass(lambda g: apply_rules(g, [rule], Log()), program, sizes=sizes)
    return after


def _what_it_did(log: Log) -> str:
    if log.refusals:
        return "; ".join(map(str, log.refusals))
    return "; ".join(map(str, log.misses)) or "it finds no place to start"
