"""A list as a scene wants it: the candidates of the engine, and what is pinned, arranged by the scene's rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys_assets.arrays import Bools, Ints
from recsys_assets.funnel.funnel import Funnel
from recsys_assets.serving.engine import Engine, Row, Wish
from recsys_assets.serving.pinned import NOT_THERE
from recsys_assets.serving.scenes.arrange import Pool, Window, arrange
from recsys_assets.serving.scenes.experiments import Settled
from recsys_assets.serving.scenes.faults import columns_of
from recsys_assets.serving.scenes.form import NO_RANKER, Scene
from recsys_assets.serving.scenes.shelf import Shelf, Similarity, scaled

Ask = Callable[[Wish], list[Row]]


@dataclass(frozen=True)
class Stage:
    """A scene on the items of a release.

    Attributes:
        name: of the scene.
        variants: by layer.
        scene: the scene with the changes of the variants.
        shelf: the items.
        engine: of the release, in which the ranking model of the scene ranks.
        allowed: (I,) which items its filter passes and it does not block; None: all.
        funnel: the release's funnel with the scene's weights and order; None: as it is.
        similarity: for diversity.
        new: (I,) which items are new, if these have a share.
        gaps: sentences on rules that this release cannot follow.
    """

    name: str
    variants: Mapping[str, str]
    scene: Scene
    shelf: Shelf
    engine: Engine
    allowed: Bools | None
    funnel: Funnel | None
    similarity: Similarity | None
    new: Bools | None
    gaps: Sequence[str]


def set_stage(engine: Engine, shelf: Shelf, settled: Settled) -> Stage:
    """The scene on the items of the engine's release."""
    scene, gaps = settled.scene, list[str]()
    ranking = _ranking(engine, shelf, scene, gaps)
    funnel = _funnel(ranking, scene, gaps)
    similarity = _similarity(shelf, scene, gaps)
    new = shelf.ages <= scene.new_items.days if scene.new_items else None
    for rule in scene.at_most:
        shelf.values(rule.column)
    here = tuple(f"scene {settled.name}: {gap}" for gap in gaps)
    allowed = _allowed(engine, shelf, scene)
    return Stage(settled.name, settled.variants, scene, shelf, ranking, allowed, funnel, similarity, new, here)


def _ranking(engine: Engine, shelf: Shelf, scene: Scene, gaps: list[str]) -> Engine:
    """The release with the scene's ranking model; with its own if that cannot be used."""
    if scene.ranker in (None, NO_RANKER):
        return engine
    try:
        return shelf.ranked_by(scene.ranker)
    except NOT_THERE as error:
        gaps.append(f"{scene.ranker} does not rank, {engine.model} does: {error}")
        return engine


def _allowed(engine: Engine, shelf: Shelf, scene: Scene) -> Bools | None:
    if scene.filter is None and not scene.blocked:
        return None
    everything = np.ones(len(engine.log.item_ids), bool)
    allowed = shelf.passing(scene.filter, columns_of(engine.profile)) if scene.filter else everything
    blocked = engine.numbers(scene.blocked)
    allowed = allowed.copy()
    allowed[blocked[blocked >= 0]] = False
    return allowed


def _funnel(engine: Engine, scene: Scene, gaps: list[str]) -> Funnel | None:
    """The release's funnel with the scene's weights and order, whose lists hold all candidates."""
    served = engine.funnel.model.channels
    factors = scene.channels
    if all(factors.get(name, 1) == 0 for name in served):
        gaps.append(f"channels leaves none of {', '.join(served)}, so the learned weights stay")
        factors = {}
    return engine.funnel.changed(factors, learned=scene.order == "learned", ranked=scene.ranker != NO_RANKER)


def _similarity(shelf: Shelf, scene: Scene, gaps: list[str]) -> Similarity | None:
    rule = scene.diversity
    if rule is None:
        return None
    if rule.column is not None:
        return shelf.alike(rule.column)
    found = shelf.near(str(rule.vectors))
    if found is None:
        gaps.append(f"the release has no vectors of {rule.vectors}, so lists are not made diverse")
    return found


def listing(engine: Engine, stage: Stage, wish: Wish, seen: Callable[[], Ints], ask: Ask) -> list[Row]:
    """The items of a scene for one request.

    Args:
        engine: of the release.
        stage: the scene.
        wish: the request; `size` is the most items of the answer.
        seen: gives the numbers of items that the user has seen, if these must not be listed.
        ask: gives the engine's answer to a wish, best first.
    """
    rows, further = _candidates(engine, stage, wish, ask)
    relevance = [*scaled([row["score"] for row in rows]), *(0.0 for _ in further)]
    rows, numbers, pinned = [*rows, *further], engine.numbers([row["item_id"] for row in [*rows, *further]]), {}
    for place, number in _pinned(engine, stage, wish, seen).items():
        if not (held := np.flatnonzero(numbers == number)).size:
            held, numbers = np.array([len(rows)]), np.append(numbers, number)
            item_id = engine.log.item_ids[[number]].tolist()[0]
            rows.append({"item_id": item_id, "score": None, "probability": None, "channels": []})
        pinned[place] = int(held[0])
    listed = arrange(_pool(stage, numbers, relevance, pinned), wish.size)
    marked = set(pinned.values())
    return [_marked(rows[each]) if each in marked else rows[each] for each in listed]


def _marked(row: Row) -> Row:
    """The row of a pinned item, which says so."""
    return {**row, "channels": [*row["channels"], "pinned"]}


def _candidates(engine: Engine, stage: Stage, wish: Wish, ask: Ask) -> tuple[list[Row], list[Row]]:
    """All candidates in order, and further new items in their order, if the former have fewer than their share."""
    allowed = stage.allowed if wish.allowed is None else wish.allowed
    if stage.allowed is not None and wish.allowed is not None:
        allowed = stage.allowed & wish.allowed
    most = max(wish.size, engine.funnel.model.sizes.candidates)
    asked = replace(wish, size=most, allowed=allowed, funnel=stage.funnel)
    rows = ask(asked)
    if stage.new is None or stage.scene.new_items is None:
        return rows, []
    there = engine.numbers([row["item_id"] for row in rows])
    if stage.new[there].sum() >= stage.scene.new_items.share * wish.size:
        return rows, []
    more = ask(replace(asked, allowed=stage.new if allowed is None else allowed & stage.new))
    listed = {row["item_id"] for row in rows}
    return rows, [row for row in more if row["item_id"] not in listed]


def _pinned(engine: Engine, stage: Stage, wish: Wish, seen: Callable[[], Ints]) -> dict[int, int]:
    """The number of the item of each pinned place, from 0, without items that must not be listed."""
    pins = [pin for pin in stage.scene.pinned if pin.place <= wish.size]
    if not pins:
        return {}
    hidden = engine.hidden(wish)
    barred = np.zeros(len(engine.log.item_ids), bool) if hidden is None else hidden[0].copy()
    barred[seen()] = True
    if stage.allowed is not None:
        barred |= ~stage.allowed
    numbers = engine.numbers([pin.item for pin in pins]).tolist()
    return {
        pin.place - 1: number for pin, number in zip(pins, numbers, strict=True) if number >= 0 and not barred[number]
    }


def _pool(stage: Stage, numbers: Ints, relevance: Sequence[float], pinned: dict[int, int]) -> Pool:
    """Items by number as the pool of an arrangement; those at the end, without relevance, are only pinned."""
    scene, free = stage.scene, np.arange(len(numbers)) < len(relevance)
    free[list(pinned.values())] = False
    return Pool(
        relevance=np.append(relevance, np.zeros(len(numbers) - len(relevance))),
        free=free,
        pinned=pinned,
        windows=[
            Window(stage.shelf.values(each.column).of(numbers), each.count, each.window) for each in scene.at_most
        ],
        similarity=stage.similarity(numbers) if stage.similarity else None,
        weight=scene.diversity.lambda_ if scene.diversity else 1.0,
        new=None if stage.new is None else stage.new[numbers],
        share=scene.new_items.share if scene.new_items else 0.0,
    )
