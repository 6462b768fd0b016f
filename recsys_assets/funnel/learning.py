"""Learning the funnel from what users did next: the weights of the merge, the trees behind it, and what is served.

The queries are about rows that trained neither channels nor rankers, and everything known of them is from before these
rows. Every choice is made by users who are held out in turn (see `trees.py`):

* Trees order the candidates if their mean NDCG@50 is above both that of the learned merge and that of reciprocal rank
  fusion with equal weights, by more than the standard error of the difference. Else the learned merge does, if it is
  above equal weights by as much. Else nothing is learned. So a log of few users gets a funnel that needs none.
* Channels are left out one after the other, the one that costs least first, each for good if it is shown that without
  it and those that went before less than `NOTHING` of the mean NDCG@50 with all channels is lost: the loss and its
  standard error together. So two that can replace each other do not both go, many small losses do not add up, and on
  a log of few users, where little can be shown, all channels stay. Popularity always stays: it alone has items for
  users of whom nothing is known.

Trees learn from all users that are given, the weights of the merge and the worth of channels from `FEW_USERS` of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_assets.arrays import Doubles, Floats, Ids, Ints, distinct, find, is_among, place_in_group
from recsys_assets.datasets.splits import PARTS
from recsys_assets.funnel.candidates import Candidates, gather
from recsys_assets.funnel.folds import folds_of, lowest
from recsys_assets.funnel.merge import Fusion, merge
from recsys_assets.funnel.model import Describe, Sizes
from recsys_assets.funnel.order import columns, matrix
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists

if TYPE_CHECKING:
    import lightgbm as lgb

    from recsys_assets.funnel.trees import Examples, Grown

FEW_USERS = 2000  # enough for a few weights, and to judge channels, which takes a pass for each one
FEWEST_USERS = 30  # with a right answer among their candidates, to learn anything
FOR_EVERYONE = "popularity"
NOTHING = 0.01  # the share of the NDCG@50 that may be lost with channels that are not served
EQUAL, MERGED, TREES = "equal weights", "learned merge", "trees"


@dataclass(frozen=True)
class Evidence:
    """The choice, and the figures of the held-out users that it was chosen by.

    Attributes:
        users: how many had a right answer among their candidates.
        ndcg: the mean NDCG@50 of each way to order candidates.
        chosen: one of these ways.
        costs: by how much the NDCG@50 falls without each channel, alone.
        dropped: the channels that are not served.
    """

    users: int
    ndcg: Mapping[str, float] = field(default_factory=dict)
    chosen: str = EQUAL
    costs: Mapping[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Learned:
    """The merge of the served channels, and trees on the named columns, if they order candidates."""

    fusion: Fusion
    evidence: Evidence
    trees: "lgb.Booster | None" = None
    examples: "Examples | None" = None


def next_rows(events: Interactions, part: str, most: int | None) -> Interactions:
    """The events before a part, and of the part itself each user's first `most`, or all."""
    place = PARTS.index(part)
    kept = events.parts <= place
    if most is not None:
        theirs = np.flatnonzero(events.parts == place)
        kept[theirs[place_in_group(events.users[theirs]) >= most]] = False
    of_rows = ("users", "items", "labels", "parts", "weights")
    return replace(events, **{name: getattr(events, name)[kept] for name in of_rows})


def learn(
    channels: Mapping[str, Lists], asked: Queries, users: Ids, width: int, describe: Describe, sizes: Sizes, seed: int
) -> Learned:
    """Learn from the channels' lists (N, K) for N queries with right answers.

    Args:
        channels: the lists of every channel that was built.
        asked: the queries and their right answers.
        users: (N,) the id of each query's user.
        width: the number of all items.
        describe: gives what was known of candidates before the right answers.
        sizes: of the lists.
        seed: of the trees.
    """
    names, few = tuple(channels), lowest(users, FEW_USERS)
    union = gather({name: each.take(few) for name, each in channels.items()}, width)
    gains = gains_of(union, asked.restrict(is_among(asked.truth_queries, few)), width)
    taught = len(distinct(union.query[gains > 0]))
    if taught < FEWEST_USERS:
        return Learned(Fusion.equal(names), Evidence(taught))
    from recsys_assets.funnel import trees

    fusion = Fusion.learn(union, gains, names)
    candidates, fused = merge(channels, fusion, width, sizes.candidates)
    folds = folds_of(users)
    lesson = _Lesson(names, candidates, describe(candidates), gains_of(candidates, asked, width), folds, asked)
    examples = lesson.examples(names, fusion)
    grown = trees.grow(examples, seed)
    judged = {
        EQUAL: trees.ndcg(*merge(channels, Fusion.equal(names), width, trees.LENGTH), asked),
        MERGED: trees.ndcg(candidates, fused, asked),
        TREES: trees.ndcg(candidates, grown.scores, asked),
    }
    chosen = choose(judged)
    held_out = _HeldOut(lesson.of(few), few, fusion, examples.names, grown if chosen == TREES else None)
    costs, served = useful(held_out, names) if chosen != EQUAL else ({}, names)
    figures = {name: float(each.mean()) for name, each in judged.items()}
    dropped = tuple(name for name in names if name not in served)
    evidence = Evidence(lesson.taught, figures, chosen, costs, dropped)
    if chosen == EQUAL:
        return Learned(Fusion.equal(names), evidence)
    kept = np.isin(names, served)
    final = Fusion.learn(union.of_channels(kept), gains[union.listed_by(kept)], served)
    if chosen == MERGED:
        return Learned(final, evidence)
    examples = lesson.examples(served, final)
    return Learned(final, evidence, trees.train(examples, grown.rounds, seed), examples)


def gains_of(candidates: Candidates, asked: Queries, width: int) -> Doubles:
    """(M,) what each candidate is worth as an answer to its query, 0 if it is not right."""
    place = find(asked.truth_queries * width + asked.truth, candidates.query * width + candidates.item)
    gains: Doubles = np.append(asked.gains, 0.0)[place]
    return gains


def choose(judged: Mapping[str, Doubles]) -> str:
    """The way to order candidates by the rule at the top, from the NDCG (N,) of each way on the same queries."""
    if _is_above(judged[TREES], judged[MERGED]) and _is_above(judged[TREES], judged[EQUAL]):
        return TREES
    return MERGED if _is_above(judged[MERGED], judged[EQUAL]) else EQUAL


def useful(ndcg: Callable[[Sequence[str]], Doubles], names: Sequence[str]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Losses of the held-out users' mean NDCG without each channel alone, and the channels that are worth serving.

    `ndcg(served)` gives the users' figures (N,) when only these channels are served.
    """
    served, everything = tuple(names), ndcg(names)
    alone = {name: everything - ndcg([each for each in names if each != name]) for name in names if len(names) > 1}
    costs = {name: float(lost.mean()) for name, lost in alone.items()}
    nothing = NOTHING * everything.mean()
    # Quality that is lost without one channel is not found again without more: a look takes 2 s on MovieLens 1M.
    cheap = [name for name, lost in alone.items() if name != FOR_EVERYONE and _largest_loss(lost) < nothing]
    for name in sorted(cheap, key=lambda each: (costs[each], each)):
        without = tuple(each for each in served if each != name)
        if without and _largest_loss(everything - ndcg(without)) < nothing:
            served = without
    return costs, served


@dataclass(frozen=True)
class _Lesson:
    """The merged candidates of all channels, what is known of them, and what they are worth."""

    names: Sequence[str]
    candidates: Candidates
    known: Mapping[str, Floats]
    gains: Doubles
    folds: Ints
    asked: Queries

    @property
    def taught(self) -> int:
        """How many queries have a right answer among their candidates."""
        return len(distinct(self.candidates.query[self.gains > 0]))

    def of(self, queries: Ints) -> "_Lesson":
        """The candidates of these queries alone, which keep their numbers."""
        rows = is_among(self.candidates.query, queries)
        known = {name: column[rows] for name, column in self.known.items()}
        return replace(self, candidates=self.candidates.take(rows), known=known, gains=self.gains[rows])

    def examples(self, served: Sequence[str], fusion: Fusion, wanted: Sequence[str] | None = None) -> "Examples":
        """Examples of these channels alone; the columns are the wanted ones, or all that there are."""
        from recsys_assets.funnel.trees import Examples

        kept = np.isin(self.names, served)
        rows, candidates = self.candidates.listed_by(kept), self.candidates.of_channels(kept)
        known = {name: column[rows] for name, column in self.known.items()}
        found = columns(served, candidates, fusion.scores(candidates), known)
        names = list(found) if wanted is None else wanted
        table = matrix(names, found, len(candidates))
        return Examples(candidates, names, table, self.gains[rows], self.folds, self.asked)


@dataclass(frozen=True)
class _HeldOut:
    """The NDCG@50 of some held-out queries (n,) if only some channels are served, by trees that expect all, or merged.

    Attributes:
        lesson: of these queries alone.
        queries: (n,) their numbers.
        columns: names of what the trees see.
    """

    lesson: _Lesson
    queries: Ints
    fusion: Fusion
    columns: Sequence[str]
    grown: "Grown | None"

    def __call__(self, served: Sequence[str]) -> Doubles:
        from recsys_assets.funnel.trees import ndcg

        fusion = self.fusion.of(served)
        some = self.lesson.examples(served, fusion, self.columns)
        scores = self.grown.held_out(some.columns, some.row_folds) if self.grown else fusion.scores(some.candidates)
        found: Doubles = ndcg(some.candidates, scores, some.asked)[self.queries]
        return found


def _largest_loss(lost: Doubles) -> float:
    """The mean of losses (N,) plus its standard error: what it may well be."""
    return float(lost.mean() + lost.std() / np.sqrt(len(lost)))


def _is_above(one: Doubles, other: Doubles) -> bool:
    """Whether the mean is above the other's by more than the standard error of the difference."""
    difference = one - other
    return bool(difference.mean() > difference.std() / np.sqrt(len(difference)))
