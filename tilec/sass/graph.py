"""Control flow of a function: basic blocks, nested loops, and the path that a loop mostly takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from tilec.sass.listing import Function, Instruction
from tilec.sass.opcodes import class_of

_JUMPS = ("BRA", "BRX", "JMP", "JMX", "CALL")
_ENDS = ("EXIT", "RET", "KILL")
_PLACE = re.compile(r"`\(([^)]+)\)$|\b0x([0-9a-f]+)$")
_CHOICES = re.compile(r'BRANCH_TARGETS ([^"]*)"')
_COPIES = ("ldgsts", "tma", "ldg")
Edges = Mapping[int, Sequence[int]]  # of each block, by number, those that may follow it


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other. `successors` count the blocks of the function."""

    instructions: tuple[Instruction, ...]
    successors: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """A strongly connected part of the graph: its blocks, by number, and the one it is entered at
    (the first, should there be several)."""

    header: int
    blocks: frozenset[int]
    inner: tuple[Loop, ...]

    def walk(self) -> Iterator[Loop]:
        """This loop and all loops in it."""
        yield self
        for loop in self.inner:
            yield from loop.walk()


def blocks_of(function: Function) -> tuple[Block, ...]:
    """The basic blocks in the order of their addresses. A call may go on behind itself."""
    code = function.instructions
    index = {instruction.address: i for i, instruction in enumerate(code)}
    ways = [_ways(function, index, i) for i in range(len(code))]
    starts = {0}
    for i, (instruction, targets) in enumerate(zip(code, ways, strict=True)):
        if instruction.opcode in (*_JUMPS, *_ENDS):
            starts.update(targets)
            starts.add(i + 1)
    order = sorted(s for s in starts if s < len(code))
    number = {start: n for n, start in enumerate(order)}
    found: list[Block] = []
    for start, stop in zip(order, [*order[1:], len(code)], strict=True):
        # A block that ends only because the next is jumped to goes on there.
        found.append(Block(code[start:stop], tuple(number[t] for t in ways[stop - 1])))
    return tuple(found)


def _ways(function: Function, index: dict[int, int], i: int) -> tuple[int, ...]:
    """Which instructions may follow the i-th, the next one first."""
    instruction = function.instructions[i]
    always = instruction.predicate in ("", "@PT", "@UPT") and instruction.opcode != "CALL"
    following = (i + 1,) if i + 1 < len(function.instructions) else ()
    if instruction.opcode in _ENDS:
        return () if always else following
    if instruction.opcode not in _JUMPS:
        return following
    operands = instruction.operands
    if choices := _CHOICES.search(operands):
        addresses = [function.labels.get(label) for label in choices[1].split(",")]
    else:
        place = _PLACE.search(operands)
        at = place and (function.labels.get(place[1]) if place[1] else int(place[2], 16))
        addresses = [at]
        # A condition may also be an operand: `BRA.DIV UR4, 0x1230`, `BRA.U UP0, 0x1230`.
        always = always and (place is None or place.start() == 0)
    targets = tuple(index[a] for a in addresses if a in index)
    return tuple(dict.fromkeys(targets if always else (*following, *targets)))


def loops_of(blocks: Sequence[Block]) -> tuple[Loop, ...]:
    """The loops that the entry reaches, those in loops left out."""
    edges = {n: block.successors for n, block in enumerate(blocks)}
    return _loops(edges, _reached(edges, 0))


def _loops(edges: Edges, part: set[int]) -> tuple[Loop, ...]:
    found: list[Loop] = []
    for body in _components(edges, part):
        first = min(body)
        if len(body) == 1 and first not in edges[first]:
            continue
        entries = {t for n in edges.keys() - body for t in edges[n]} & body
        header = min(entries or body)
        found.append(Loop(header, frozenset(body), _loops(edges, body - {header})))
    return tuple(sorted(found, key=lambda loop: min(loop.blocks)))


def _components(edges: Edges, part: set[int]) -> Iterator[set[int]]:
    """The strongly connected components of a part (Kosaraju's algorithm)."""
    backward: dict[int, list[int]] = {n: [] for n in part}
    for n in part:
        for t in part.intersection(edges[n]):
            backward[t].append(n)
    left = set(part)
    for n in reversed(_postorder(edges, part)):
        if n in left:
            body = _reached(backward, n, left)
            left -= body
            yield body


def _reached(edges: Edges, start: int, part: Container[int] | None = None) -> set[int]:
    """What can be reached from a block, itself included, without leaving a part."""
    found, waiting = {start}, [start]
    while waiting:
        for t in edges[waiting.pop()]:
            if t not in found and (part is None or t in part):
                found.add(t)
                waiting.append(t)
    return found


def _postorder(edges: Edges, part: set[int]) -> list[int]:
    """The blocks of a part, each when a search that goes deep first is done with it."""
    order: list[int] = []
    seen: set[int] = set()
    stack = [(n, False) for n in sorted(part, reverse=True)]
    while stack:
        n, done = stack.pop()
        if done:
            order.append(n)
        elif n not in seen:
            seen.add(n)
            stack.append((n, True))
            stack += [(t, False) for t in edges[n] if t in part and t not in seen]
    return order


def main_loop(function: Function) -> tuple[Instruction, ...]:
    """The instructions of one steady turn of the loop that does the work; none without a loop.

    The work is the matrix multiplications, or where a kernel has none its multiply-adds, or its
    loads. Of nested loops with at least half of the work the innermost is taken. Code after a loop
    may have become part of it, so of the ways round it is that with the most work, then the most
    copies for later turns (those before the last work), then the fewest instructions. A loop in it
    counts as one turn.
    """
    blocks = blocks_of(function)
    loops = [inner for loop in loops_of(blocks) for inner in loop.walk()]
    for works in (_multiplies, _adds, _loads):
        amount = [sum(works(i) for i in block.instructions) for block in blocks]
        weights = {loop: sum(amount[n] for n in loop.blocks) for loop in loops}
        inmost = [
            loop for loop in loops
            if weights[loop] and not any(2 * weights[i] >= weights[loop] for i in loop.inner)
        ]  # fmt: skip
        if inmost:
            return _way_round(blocks, max(inmost, key=weights.__getitem__), works)
    return ()


def _multiplies(instruction: Instruction) -> bool:
    return class_of(instruction.opcode) == "mma"


def _adds(instruction: Instruction) -> bool:
    return instruction.opcode in ("FFMA", "FFMA2", "HFMA2", "DFMA", "IDP")


def _loads(instruction: Instruction) -> bool:
    return class_of(instruction.opcode) in _COPIES


def _way_round(
    blocks: Sequence[Block], loop: Loop, works: Callable[[Instruction], bool]
) -> tuple[Instruction, ...]:
    """The instructions of the best way from the header of a loop back to it."""
    back = {(n, each.header) for each in loop.walk() for n in each.blocks}
    onward = {
        n: [t for t in blocks[n].successors if t in loop.blocks and (n, t) not in back]
        for n in loop.blocks
    }
    # Of the rest of the way from a block: work, copies before work, instructions (negative), next.
    best: dict[int, tuple[int, int, int, int]] = {}
    for n in TopologicalSorter(onward).static_order():
        ways = [(*best[t][:3], t) for t in onward[n] if t in best]
        if loop.header in blocks[n].successors:
            ways.append((0, 0, 0, -1))
        if ways:
            work, copies, size, following = max(ways)
            own, early = _amounts(blocks[n].instructions, works, work > 0)
            rest = size - len(blocks[n].instructions)
            best[n] = (work + own, copies + early, rest, following)
    way: list[Instruction] = []
    n = loop.header
    while n >= 0:
        way += blocks[n].instructions
        n = best[n][3]
    return tuple(way)


def _amounts(
    code: Sequence[Instruction], works: Callable[[Instruction], bool], more: bool
) -> tuple[int, int]:
    """The work in a block, and its copies before the last work, in it or (`more`) after it."""
    places = [i for i, instruction in enumerate(code) if works(instruction)]
    stop = len(code) if more else places[-1] if places else 0
    return len(places), sum(_loads(i) for i in code[:stop])
