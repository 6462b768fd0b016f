"""Tuning of the funnel's merge: weights and sizes of the channels.

The channels were trained on the rows before the test rows, so the test rows choose the settings and the online rows
test them. The exponent of the ranker is not tuned, as there is no feature snapshot from before the test rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from recsys_assets.funnel.merge import Funnel, merge
from recsys_assets.retrieval.interactions import Interactions, queries
from recsys_assets.retrieval.lists import Lists, evaluate
from recsys_assets.tuning.objectives import Settings
from recsys_assets.tuning.space import Sections
from recsys_assets.tuning.trial import Report


@dataclass(frozen=True)
class Merging:
    """The merge of the channels' lists: NDCG@50 of the candidates, for everything users touched next, liked or not.

    `recall(part, k)` gives each channel's lists of k items, for all users with a right answer in the part.
    """

    recall: Callable[[str, int], dict[str, Lists]]
    interactions: Interactions
    filter_seen: bool
    metric: str = "ndcg@50"

    @property
    def sections(self) -> Sections:
        """The funnel's settings, in no section."""
        return {"": Funnel}

    def judge(self, settings: Settings, report: Report) -> float:  # noqa: ARG002 (there are no steps to report)
        """The metric on the test rows."""
        return self._ndcg(settings, "test")

    def test(self, settings: Settings) -> float:
        """The metric on the online rows."""
        return self._ndcg(settings, "online")

    def _ndcg(self, settings: Settings, part: str) -> float:
        chosen = Funnel(**settings)
        asked = queries(self.interactions, part, self.filter_seen, liked=False)
        channels = self.recall(part, chosen.channel_size)
        merged = merge(channels, self.interactions, asked, chosen, self.filter_seen)
        return evaluate(merged.items, asked, [50])[self.metric]
