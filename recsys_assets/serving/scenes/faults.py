"""Checks of a file of scenes: each broken rule is a fault with its place and what to do."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from recsys_assets.datasets.expressions import ExpressionError
from recsys_assets.datasets.label import condition
from recsys_assets.datasets.names import suggest
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import ColumnType
from recsys_assets.datasets.profile_yaml import Fault, Place, quote_text
from recsys_assets.funnel.methods import CHANNELS
from recsys_assets.models.catalogue import RANKERS, TOWERS
from recsys_assets.serving.scenes.form import CONTROL, NO_RANKER, Arrangement, Diversity, Layer, Rules, Scene

KEYS = tuple(Arrangement.model_fields)  # what an experiment may change
_UNFIT: tuple[ColumnType, ...] = ("vector", "text")  # types of columns that hold numbers of no meaning of their own
_EQUAL = tuple(each for each in get_args(ColumnType) if each not in ("float32", "float64", "timestamp", *_UNFIT))
_OVER_ONE = 1 + 1e-9  # shares such as ten times 0.1


def columns_of(profile: Profile) -> tuple[tuple[str, ColumnType], ...]:
    """The columns of the items that a condition may read, with their types."""
    columns = profile.columns_of("items").items() if profile.has_entities else ()
    return tuple((name, spec.type) for name, spec in columns if spec.type not in _UNFIT)


def faults(rules: Rules, profile: Profile) -> Iterator[Fault]:
    """All rules that the file breaks."""
    known = dict(columns_of(profile))
    for number, name in enumerate(rules.filters):
        if name not in known:
            yield Fault(("filters", number), _no_column(name, known))
    for name, scene in rules.scenes.items():
        yield from _scene(("scenes", name), scene, profile)
    for name, layer in rules.layers.items():
        yield from _layer(("layers", name), layer, profile)
    of_key = Counter(key for layer in rules.layers.values() for key in set(layer.keys))
    for key, count in of_key.items():
        if count > 1:
            both = " and ".join(name for name, layer in rules.layers.items() if key in layer.keys)
            yield Fault(("layers",), f"{both} change the same key, {key}: a key belongs to one layer")


def _scene(place: Place, scene: Scene, profile: Profile) -> Iterator[Fault]:
    """Faults of a scene."""
    if scene.filter is not None:
        try:
            condition(scene.filter, columns_of(profile))
        except ExpressionError as error:
            yield Fault((*place, "filter"), str(error))
    yield from _ids((*place, "blocked"), scene.blocked, profile)
    if both := sorted({pin.item for pin in scene.pinned} & set(scene.blocked), key=str):
        yield Fault((*place, "pinned"), f"{both[0]!r} is pinned and blocked: remove it from one of both")
    yield from _arrangement(place, scene, profile)


def _arrangement(place: Place, rules: Arrangement, profile: Profile) -> Iterator[Fault]:
    """Faults of what scenes and variants have in common."""
    for name in rules.channels:
        if name not in CHANNELS:
            what = f"is not a channel: {suggest(name, CHANNELS)}the channels are {', '.join(CHANNELS)}"
            yield Fault((*place, "channels", name), what)
    if (model := (rules.ranker or NO_RANKER).partition("/")[0]) not in (*RANKERS, NO_RANKER):
        what = f"is no ranking model: {suggest(model, RANKERS)}one of {', '.join(RANKERS)}, or {NO_RANKER}"
        yield Fault((*place, "ranker"), f"{model!r} {what}")
    if rules.diversity:
        yield from _diversity((*place, "diversity"), rules.diversity, profile)
    for number, rule in enumerate(rules.at_most):
        here = (*place, "at_most", number)
        yield from _grouping((*here, "column"), rule.column, profile)
        if rule.count > rule.window:
            yield Fault(here, f"count {rule.count} is above window {rule.window}, so it rules nothing out")
    yield from _ids((*place, "pinned"), [pin.item for pin in rules.pinned], profile)
    for what in ("item", "place"):
        count = Counter(getattr(pin, what) for pin in rules.pinned)
        for value in [each for each, times in count.items() if times > 1]:
            yield Fault((*place, "pinned"), f"{what} {value!r} is named {count[value]} times: keep one")


def _diversity(place: Place, rule: Diversity, profile: Profile) -> Iterator[Fault]:
    if (rule.column is None) == (rule.vectors is None):
        yield Fault(place, "needs either column, a column of items, or vectors, a two-tower model")
    elif rule.column is not None:
        yield from _grouping((*place, "column"), rule.column, profile)
    elif rule.vectors not in TOWERS:
        yield Fault((*place, "vectors"), f"{rule.vectors!r} is not a two-tower model: one of {', '.join(TOWERS)}")


def _grouping(place: Place, name: str, profile: Profile) -> Iterator[Fault]:
    """Faults of a column by whose values items are compared."""
    known = {column: kind for column, kind in columns_of(profile) if kind in _EQUAL}
    if name not in known:
        yield Fault(place, _no_column(name, known))


def _no_column(name: str, known: dict[str, ColumnType]) -> str:
    there = f"these are {', '.join(known)}" if known else "there is none"
    return f"{quote_text(name)} is not a column of items that can be used here: {suggest(name, known)}{there}"


def _ids(place: Place, given: Sequence[int | str], profile: Profile) -> Iterator[Fault]:
    """Ids that are not of the profile's type."""
    if not profile.has_entities:
        return
    whole = profile.columns_of("items")["item_id"].type == "int64"
    for each in given:
        if isinstance(each, str) == whole:
            kind = "a whole number" if whole else "a text: put it in quotes"
            yield Fault(place, f"{each!r} is not an id of an item, which is {kind}")
            return


def _layer(place: Place, layer: Layer, profile: Profile) -> Iterator[Fault]:
    """Faults of an experiment."""
    for key in layer.keys:
        if key not in KEYS:
            yield Fault((*place, "keys"), f"no experiment may change {quote_text(key)}: one of {', '.join(KEYS)}")
    if (total := sum(variant.share for variant in layer.variants.values())) > _OVER_ONE:
        yield Fault((*place, "variants"), f"their shares sum to {total:g}: at most 1, the rest is the control")
    for name, variant in layer.variants.items():
        here = (*place, "variants", name)
        if name == CONTROL:
            yield Fault(here, "is the name of those without a variant: choose another")
        if other := sorted(variant.changes - set(layer.keys)):
            yield Fault((*here, other[0]), f"is not among the layer's keys, {', '.join(layer.keys)}: add it there")
        yield from _arrangement(here, variant, profile)
