"""The rules of scenes as a running service holds them: read again when the file changes, whole or not at all."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from recsys_assets.arrays import Bools, Ints
from recsys_assets.datasets.expressions import ExpressionError
from recsys_assets.datasets.profile import Profile
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.requests import Problem
from recsys_assets.serving.scenes.experiments import MOST_SETTLED, Experiments, Settled
from recsys_assets.serving.scenes.faults import columns_of
from recsys_assets.serving.scenes.file import read_scenes
from recsys_assets.serving.scenes.form import CONTROL, Rules
from recsys_assets.serving.scenes.listing import Stage, set_stage
from recsys_assets.serving.scenes.shelf import Shelf

LOOK = 0.5  # seconds between two looks at the file
State = tuple[int, int, int]  # of a file: when it was changed, its size, and its number


class Book:
    """The rules of a file, and what they are on the items of the releases that are open.

    Args:
        path: the file, which need not be there; None: there are no rules.
        profile: of the data set.
        say: takes sentences for the log.

    Raises:
        ScenesError: the file has faults.
    """

    def __init__(
        self, path: Path | None = None, profile: Profile | None = None, say: Callable[[str], None] = print
    ) -> None:
        self._path, self._profile, self._say = path, profile, say
        self._state = self._look_at_file()
        self.experiments = Experiments(self._read() if self._state else Rules())
        self._opened: deque[tuple[Engine, Shelf, Callable[[Settled], Stage]]] = deque(maxlen=2)

    @property
    def rules(self) -> Rules:
        """The rules that hold now."""
        return self.experiments.rules

    def look(self, engine: Engine | None) -> None:
        """Go over to the file's new content if it has changed; the old rules stay if it is faulty, or gone."""
        if (state := self._look_at_file()) == self._state:
            return
        self._state = state
        if state is None:
            self._say(f"{self._path} is gone, the rules that it had stay")
            return
        try:
            experiments = Experiments(self._read())
            if engine:
                self._prepare(engine, experiments)
        except Exception as error:  # whatever is wrong with the new rules, the old ones must stay
            self._say(f"the rules before stay: {error}")
            return
        self.experiments = experiments
        self._say(f"the rules of {self._path} hold now")

    def follow(self, engine: Engine) -> None:
        """Look at the file again and again, in a thread, until the process ends.

        Nothing is said about it: the process that this one was copied from looks as well, and says it.
        """
        self._say = _ignore

        def run() -> None:
            while True:
                self.look(engine)
                time.sleep(LOOK)

        threading.Thread(target=run, name="scenes", daemon=True).start()

    def prepare(self, engine: Engine) -> None:
        """Make ready for a release, so that its first answers need not wait; says which rules it cannot follow."""
        self._prepare(engine, self.experiments)

    def stage(
        self, engine: Engine, scene: str | None, unit: object, forced: Mapping[str, str]
    ) -> tuple[Stage | None, dict[str, float]]:
        """The scene of a request on the items of a release, and the chances of its variants: see `Experiments`.

        Raises:
            Problem: there is no such scene, layer or variant.
        """
        experiments = self.experiments  # a thread may go over to others meanwhile
        settled = experiments.choose(scene, unit, forced)
        if settled is None:
            return None, {}
        return self._of(engine)[1](settled), experiments.chances(settled.variants, unit, forced)

    def ages(self, engine: Engine) -> Ints:
        """(I,) days since the first event of each item of a release."""
        return self._of(engine)[0].ages

    def passing(self, engine: Engine, text: str) -> Bools:
        """(I,) the items that meet the condition of a request.

        Raises:
            Problem: it is not a condition over the columns that requests may filter by.
        """
        filters = self.rules.filters
        if not filters:
            raise Problem(422, "restrict: give a list of ids; no filters are named in the profile's file of scenes")
        try:
            columns = tuple(each for each in columns_of(engine.profile) if each[0] in filters)
            return self._of(engine)[0].passing(text, columns)
        except ExpressionError as error:
            raise Problem(422, f"restrict: {error}; give ids, or a condition over {', '.join(filters)}") from None

    def _prepare(self, engine: Engine, experiments: Experiments) -> None:
        """Set every scene, and every scene with each variant alone."""
        layers, gaps = experiments.rules.layers, dict[str, None]()
        nobody = dict.fromkeys(layers, CONTROL)
        alone = [{**nobody, layer: name} for layer, each in layers.items() for name in each.variants]
        for scene in experiments.rules.scenes:
            for variants in (nobody, *alone):
                settled = experiments.settled(scene, tuple(variants.items()))
                gaps |= dict.fromkeys(self._of(engine)[1](settled).gaps)
        for gap in gaps:
            self._say(gap)

    def _of(self, engine: Engine) -> tuple[Shelf, Callable[[Settled], Stage]]:
        """The items of a release, and what gives its scenes; both are made once."""
        for opened, shelf, stage_of in tuple(self._opened):
            if opened is engine:
                return shelf, stage_of
        made = Shelf(engine)

        @lru_cache(MOST_SETTLED)
        def stage(settled: Settled) -> Stage:
            return set_stage(engine, made, settled)

        self._opened.append((engine, made, stage))
        return made, stage

    def _read(self) -> Rules:
        if self._path is None or self._profile is None:
            return Rules()
        return read_scenes(self._path, self._profile)

    def _look_at_file(self) -> State | None:
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


def _ignore(_: str) -> None:
    """Say nothing."""
