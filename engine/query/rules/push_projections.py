"""Push projections down: nothing is computed or carried that nobody reads, and values are computed while messages are read.

From the top every operator is asked for the columns that are needed of it, and gives just those, in that order. A
projection over a scan becomes the outputs of the scan, which then decodes only the fields that they read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlglot import exp

from geode_client.query import operators as nodes
from geode_client.query.columns import (
    bare,
    fits,
    has_sub_query,
    moved,
    position_of,
    reference,
    references,
    substituted,
)
from geode_client.query.rules.context import Context, over_sources


def apply(node: nodes.Operator, context: Context) -> nodes.Operator:
    """The plan in which every operator gives only what is read of it."""
    if isinstance(node, nodes.Spread):
        return replace(node, source=_everything(node.source))
    if not node.columns:
        return over_sources(node, lambda source: apply(source, context))
    return _everything(node)


def _everything(node: nodes.Operator) -> nodes.Operator:
    return _pruned(node, range(len(node.columns)))


def _pruned(node: nodes.Operator, needed: Sequence[int]) -> nodes.Operator:
    """The operator with the columns `needed` of it, in that order."""
    match node:
        case nodes.Scan():
            outputs = tuple(node.outputs[position] for position in needed)
            return replace(node, outputs=outputs, columns=_chosen(node.columns, needed), whole=False)
        case nodes.Project():
            return _project(node, needed)
        case nodes.Filter():
            return _filter(node, needed)
        case nodes.Join():
            return _join(node, needed)
        case nodes.Unnest():
            return _unnest(node, needed)
        case nodes.Window():
            return _window(node, needed)
        case nodes.Aggregate():
            return _aggregate(node, needed)
        case nodes.Sort():
            inner = _places([*needed, *[key.position for key in node.keys]])
            keys = tuple(replace(key, position=inner[key.position]) for key in node.keys)
            return _narrowed(replace(node, source=_pruned(node.source, list(inner)), keys=keys), needed, inner)
        case nodes.Limit():
            return replace(node, source=_pruned(node.source, needed))
        case nodes.Union():
            sources = tuple(_pruned(source, needed) for source in node.sources)
            return replace(node, sources=sources, columns=_chosen(node.columns, needed))
        case nodes.Distinct():
            everything = _places(range(len(node.columns)))
            return _narrowed(replace(node, source=_everything(node.source)), needed, everything)
        case _:
            everything = _places(range(len(node.columns)))
            return _narrowed(over_sources(node, _everything), needed, everything)


def _chosen(columns: nodes.Columns, needed: Iterable[int]) -> nodes.Columns:
    return tuple(columns[position] for position in needed)


def _places(positions: Iterable[int]) -> dict[int, int]:
    """Where each position stands among the different ones, in order."""
    return {position: place for place, position in enumerate(dict.fromkeys(positions))}


def _narrowed(node: nodes.Operator, needed: Sequence[int], places: dict[int, int]) -> nodes.Operator:
    """Only the columns `needed` of an operator that has more; `places` say where they are."""
    wanted = [places[position] for position in needed]
    if wanted == list(range(len(node.columns))):
        return node
    return nodes.Project(node, tuple(reference(place) for place in wanted), _chosen(node.columns, wanted))


def _project(node: nodes.Project, needed: Sequence[int]) -> nodes.Operator:
    expressions = [node.expressions[position] for position in needed]
    columns = _chosen(node.columns, needed)
    inner = _places(sorted({position for tree in expressions for position in references(tree)}))
    source = _pruned(node.source, list(inner))
    expressions = [moved(tree, inner) for tree in expressions]
    if isinstance(source, nodes.Scan) and _can_be_output(expressions, source):
        outputs = tuple(bare(substituted(tree, source.outputs)) for tree in expressions)
        return replace(source, outputs=outputs, columns=columns)
    if isinstance(source, nodes.Project) and _is_cheap(expressions, source):
        made = tuple(bare(substituted(tree, source.expressions)) for tree in expressions)
        return _renamed(source.source, made, columns)
    return _renamed(source, tuple(expressions), columns)


def _renamed(source: nodes.Operator, expressions: tuple[exp.Expression, ...], columns: nodes.Columns) -> nodes.Operator:
    """A projection; none where it would give just what is there, under the same names."""
    same = [position_of(tree) for tree in expressions] == list(range(len(source.columns)))
    return source if same and source.columns == columns else nodes.Project(source, expressions, columns)


def _can_be_output(expressions: Sequence[exp.Expression], scan: nodes.Scan) -> bool:
    """Whether a scan can compute the expressions: not those that ask a sub-query."""
    for tree in expressions:
        if position_of(bare(tree)) is None and (has_sub_query(tree) or not fits(tree, scan.outputs)):
            return False
    return _once(expressions, [_is_path(output) for output in scan.outputs])


def _is_cheap(expressions: Sequence[exp.Expression], project: nodes.Project) -> bool:
    """Whether nothing would be computed more than once."""
    if not all(fits(tree, project.expressions) for tree in expressions):
        return False
    return _once(expressions, [position_of(bare(tree)) is not None for tree in project.expressions])


def _once(expressions: Sequence[exp.Expression], is_free: Sequence[bool]) -> bool:
    read = [position_of(node) for tree in expressions for node in tree.find_all(exp.Column)]
    return all(is_free[position] or read.count(position) == 1 for position in read if position is not None)


def _is_path(tree: exp.Expression) -> bool:
    return isinstance(bare(tree), exp.Column | exp.Dot | exp.Bracket | exp.Star)


def _filter(node: nodes.Filter, needed: Sequence[int]) -> nodes.Operator:
    inner = _places([*needed, *sorted(references(node.condition))])
    made = nodes.Filter(_pruned(node.source, list(inner)), moved(node.condition, inner))
    return _narrowed(made, needed, inner)


def _join(node: nodes.Join, needed: Sequence[int]) -> nodes.Operator:
    width = len(node.left.columns)
    read = set(needed) | (references(node.condition) if node.condition is not None else set())
    read |= {position for key, _ in node.keys for position in references(key)}
    read |= {width + position for _, key in node.keys for position in references(key)}
    left = _places(sorted(position for position in read if position < width))
    right = _places(sorted(position - width for position in read if position >= width))
    places = {**left, **{width + position: len(left) + place for position, place in right.items()}}
    made = nodes.Join(
        _pruned(node.left, list(left)),
        _pruned(node.right, list(right)),
        None if node.condition is None else moved(node.condition, places),
        node.kind,
        tuple((moved(a, left), moved(b, right)) for a, b in node.keys),
    )
    return _narrowed(made, needed, places)


def _unnest(node: nodes.Unnest, needed: Sequence[int]) -> nodes.Operator:
    width = len(node.source.columns)
    read = set(needed) | references(node.expression)
    read |= references(node.condition) if node.condition is not None else set()
    inner = _places(sorted(position for position in read if position < width))
    places = {**inner, width: len(inner)}
    made = nodes.Unnest(
        _pruned(node.source, list(inner)),
        moved(node.expression, inner),
        node.column,
        None if node.condition is None else moved(node.condition, places),
        node.outer,
    )
    return _narrowed(made, needed, places)


def _window(node: nodes.Window, needed: Sequence[int]) -> nodes.Operator:
    """Functions that nobody reads go, and so do columns that only they read."""
    width = len(node.source.columns)
    kept = sorted({position - width for position in needed if position >= width})
    calls = [node.calls[place] for place in kept]
    inner = _places(
        [
            *[position for position in needed if position < width],
            *node.partition,
            *[key.position for key in node.order],
            *[position for call in calls for position in call.arguments],
        ]
    )
    made = nodes.Window(
        _pruned(node.source, list(inner)),
        tuple(inner[position] for position in node.partition),
        tuple(replace(key, position=inner[key.position]) for key in node.order),
        tuple(call.moved(inner) for call in calls),
        tuple(node.results[place] for place in kept),
    )
    return _narrowed(made, needed, {**inner, **{width + old: len(inner) + new for new, old in enumerate(kept)}})


def _aggregate(node: nodes.Aggregate, needed: Sequence[int]) -> nodes.Operator:
    """Keys decide which rows there are and stay; aggregates that nobody reads go."""
    keys = len(node.keys)
    kept = [*range(keys), *sorted({position for position in needed if position >= keys})]
    calls = [node.calls[position - keys] for position in kept[keys:]]
    inner = _places([*node.keys, *[position for call in calls for position in call.columns]])
    made = nodes.Aggregate(
        _pruned(node.source, list(inner)),
        tuple(inner[key] for key in node.keys),
        tuple(call.moved(inner) for call in calls),
        _chosen(node.columns, kept),
    )
    return _narrowed(made, needed, _places(kept))
