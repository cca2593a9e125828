"""A graph as SVG: nodes in layers from top to bottom, each below all that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tilec.explain.graph import Graph, Node

WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 168, 40, 20, 44, 24
FILL = {"tensor": "#eef3fb", "op": "#ffffff", "kernel": "#fdf3dc"}


def drawn(graphs: Sequence[tuple[str, Graph]]) -> str:
    """Graphs with their titles, side by side, as the text of an SVG file."""
    parts: list[str] = []
    left, bottom = MARGIN, 0
    for title, graph in graphs:
        places, width, height = _places(graph)
        parts.append(f'<text x="{left}" y="{MARGIN}" font-weight="bold">{escape(title)}</text>')
        parts += [_edge(places[a], places[b], left) for a, b in graph.edges]
        parts += [_node(n, places[i], left) for i, n in enumerate(graph.nodes)]
        left, bottom = left + width + 2 * MARGIN, max(bottom, height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left}" height="{bottom + 3 * MARGIN}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def layers(graph: Graph) -> list[int]:
    """The layer of each node: one below the lowest that it takes. Edges go to later nodes."""
    found = [0] * len(graph.nodes)
    for a, b in graph.edges:
        found[b] = max(found[b], found[a] + 1)
    return found


def _places(graph: Graph) -> tuple[list[tuple[float, float]], int, int]:
    """Where nodes stand, in layers ordered by the middle of what they take."""
    level = layers(graph)
    rows: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for i, at in enumerate(level):
        rows[at].append(i)
    widest = max(map(len, rows), default=0)
    width = widest * (WIDTH + ACROSS)
    column = [0.0] * len(graph.nodes)
    for row in rows:
        for i in row:
            above = [column[a] for a, b in graph.edges if b == i]
            column[i] = sum(above) / len(above) if above else 0.0
        row.sort(key=lambda i: column[i])
        indent = (width - len(row) * (WIDTH + ACROSS)) / 2
        for at, i in enumerate(row):
            column[i] = indent + at * (WIDTH + ACROSS)
    places = [(x, 2.0 * MARGIN + y * (HEIGHT + DOWN)) for x, y in zip(column, level, strict=True)]
    return places, width, len(rows) * (HEIGHT + DOWN)


def _node(node: Node, place: tuple[float, float], left: int) -> str:
    x, y = place[0] + left, place[1]
    round_ = 12 if node.kind == "tensor" else 2
    shown = node.detail if len(node.detail) <= 26 else node.detail[:25] + "…"
    return (
        f"<g><title>{escape(f'{node.name}: {node.detail}')}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="{round_}" '
        f'fill="{FILL[node.kind]}" stroke="#555555"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 16:g}" text-anchor="middle">'
        f"{escape(node.name)}</text>"
        f'<text x="{x + WIDTH / 2:g}" y="{y + 31:g}" text-anchor="middle" font-size="10" '
        f'fill="#555555">{escape(shown)}</text></g>'
    )


def _edge(a: tuple[float, float], b: tuple[float, float], left: int) -> str:
    x, y = a[0] + left + WIDTH / 2, a[1] + HEIGHT
    u, v = b[0] + left + WIDTH / 2, b[1]
    return (f'<path d="M {x:g} {y:g} C {x:g} {y + DOWN / 2:g} {u:g} {v - DOWN / 2:g} {u:g} {v:g}" '
            'fill="none" stroke="#999999"/>')  # fmt: skip
