"""The form of a file of scenes: what may be filtered by, scenes, and layers of experiments with their variants."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from recsys_assets.datasets.profile_parts import Part
from recsys_assets.serving.requests import MOST_IDS, MOST_ITEMS, Id

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Size = Annotated[int, Field(ge=1, le=MOST_ITEMS)]
Share = Annotated[float, Field(ge=0, le=1)]
Ranker = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(/\d{4}-\d\d-\d\d)?$")]
NO_RANKER = "none"
CONTROL = "control"  # the variant of those whom a layer leaves as the scene is
DEFAULT = "default"  # the scene of requests that name none


class Diversity(Part):
    """Maximal marginal relevance (Carbonell and Goldstein 1998).

    A place goes to the candidate with the highest

        lambda * relevance - (1 - lambda) * similarity to the most similar item that is listed already.

    Relevance is the score, scaled from 1 for the best candidate to 0 for the last. Similarity is in [0, 1]: of a column
    with lists, the values that both items have over those that one of them has; of another column, whether both have
    the same value; of a two-tower model (`vectors`), the cosine of the items' vectors, if it is above 0.
    """

    lambda_: Share = Field(default=0.7, alias="lambda")
    column: str | None = None
    vectors: str | None = None


class Limit(Part):
    """At most `count` items with the same value of a column in any `window` places that follow one another."""

    column: str
    count: Size = 1
    window: Size


class Pin(Part):
    """An item with a place of its own, counted from 1."""

    item: Id
    place: Size


class NewItems(Part):
    """A share of the places for items whose first event is at most some days before the bizdate."""

    share: Share
    days: int = Field(ge=0, le=10_000)


class Arrangement(Part):
    """Settings of a scene that a variant of an experiment may change.

    `channels` are factors on the learned weights of channels; 0 leaves a channel out. `ranker` is a model that ranks in
    place of the champion, `<model>` of the release's bizdate or `<model>/<bizdate>`; with `none` the order does without
    probabilities. `order: merged` leaves the candidates in the order of the merge.
    """

    size: Size = 50
    channels: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = {}
    ranker: Ranker | None = None
    order: Literal["learned", "merged"] = "learned"
    diversity: Diversity | None = None
    at_most: tuple[Limit, ...] = Field(default=(), max_length=20)
    new_items: NewItems | None = None
    fresh: Share | None = Field(
        default=None, description="of places for items since the release; default: the profile's"
    )
    pinned: tuple[Pin, ...] = Field(default=(), max_length=MOST_ITEMS)


class Scene(Arrangement):
    """A place where a list is shown. `filter` and `blocked` hold for everyone: no experiment changes them."""

    filter: str | None = Field(default=None, description="SQL condition over the columns of `items`")
    blocked: tuple[Id, ...] = Field(default=(), max_length=MOST_IDS)


class Variant(Arrangement):
    """Settings that some users get instead of those of the scene."""

    share: Share

    @property
    def changes(self) -> set[str]:
        """The keys that it gives."""
        return self.model_fields_set - {"share"}


class Layer(Part):
    """An experiment: its variants change the named keys of every scene. Users without a variant are the control."""

    keys: tuple[str, ...] = Field(min_length=1)
    variants: dict[Name, Variant] = Field(min_length=1, max_length=50)

    def chance(self, variant: str) -> float:
        """The share of the users who get a variant, or are the control."""
        if variant == CONTROL:
            return max(0.0, 1 - sum(each.share for each in self.variants.values()))
        return self.variants[variant].share


class Rules(Part):
    """The content of a file of scenes: with the defaults, no filters and no scenes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": ["year"], "scenes": {}, "layers": {}}]})

    filters: tuple[str, ...] = Field(default=(), description="columns of `items` by which requests may filter")
    scenes: dict[Name, Scene] = Field(default={}, max_length=200)
    layers: dict[Name, Layer] = Field(default={}, max_length=20)
