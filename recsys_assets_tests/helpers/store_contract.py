"""The contract of stores: a store's test class inherits `StoreContract` and provides the fixture `store`."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.stores.live_sets import remarks
from recsys_assets.stores.publish import (
    NothingToRollBackTo,
    VerificationFailed,
    roll_back,
    roll_back_all,
    show_set,
    verify,
)
from recsys_assets.stores.store import KEY, Store, VersionMissing
from recsys_assets_tests.helpers.publishing import publish

OLD, NEW, NEWER = "2026-01-05.aaaaaaaaaaaa", "2026-01-06.bbbbbbbbbbbb", "2026-01-07.cccccccccccc"


def no_gate() -> None:
    """An open gate."""


def said(error: BaseException | None) -> str:
    """All text that an error and its causes would show."""
    return f"{error!r} {error} {vars(error)} {said(error.__cause__)} {said(error.__context__)}" if error else ""


def rows(count: int = 50, shift: float = 0.0) -> pa.Table:
    """Terms, vectors and seen items of `count` users, in columns that every store supports."""
    rng = np.random.default_rng(1)
    return pa.table(
        {
            KEY: [str(number) for number in range(count)],
            "user_id": pa.array(range(count), pa.int64()),
            "terms": pa.array(
                [[f"t{number % 3}", "ü|,"][: number % 3] for number in range(count)], pa.list_(pa.string())
            ),
            "vector": pa.array(list(rng.random((count, 8), np.float32) + np.float32(shift)), pa.list_(pa.float32())),
            "seen_items": pa.array([list(range(number % 4)) for number in range(count)], pa.list_(pa.int64())),
        }
    )


class StoreContract:
    """The contract; a store whose collections have special columns may override `table`."""

    @staticmethod
    def table(count: int = 50, shift: float = 0.0) -> pa.Table:
        return rows(count, shift)

    def test_rows_come_back_as_they_were_written_in_the_order_of_the_keys(self, store: Store) -> None:
        table = self.table()
        store.write("user", NEW, table)
        assert store.count("user", NEW) == 50
        assert store.read("user", ["7", "nobody", "3"], NEW).equals(table.take([7, 3]))

    def test_what_is_written_is_not_live(self, store: Store) -> None:
        store.write("user", NEW, self.table())
        assert store.live_version("user") is None
        with pytest.raises(VersionMissing):
            store.read("user", ["7"])

    def test_it_says_which_data_set_it_holds(self, store: Store) -> None:
        assert store.owner() is None
        for mark in ("0123 /a folder", "4567 /another"):
            store.claim(mark)
            assert store.owner() == mark
        store.write("user", NEW, self.table())
        assert (store.collections(), store.owner()) == (["user"], "4567 /another")

    def test_writing_twice_changes_nothing(self, store: Store) -> None:
        for _ in range(2):
            store.write("user", NEW, self.table())
        assert (store.count("user", NEW), store.versions("user")) == (50, [NEW])

    def test_the_live_version_is_read_and_a_pinned_one_stays(self, store: Store) -> None:
        for version, shift in ((OLD, 0.0), (NEW, 1.0)):
            store.write("user", version, self.table(shift=shift))
            store.go_live("user", version)
        assert store.live_version("user") == NEW
        assert store.read("user", ["7"]).equals(self.table(shift=1.0).take([7]))
        assert store.read("user", ["7"], OLD).equals(self.table().take([7]))

    def test_a_version_that_is_not_there_cannot_go_live(self, store: Store) -> None:
        with pytest.raises(VersionMissing):
            store.go_live("user", NEW)
        with pytest.raises(VersionMissing):
            store.read("user", ["7"], NEW)

    def test_a_set_goes_live_together_or_not_at_all(self, store: Store) -> None:
        for collection in ("item", "user"):
            store.write(collection, OLD, self.table())
            store.go_live(collection, OLD)
        store.write("item", NEW, self.table())
        with pytest.raises(VersionMissing):
            store.switch({"item": NEW, "user": NEW})
        assert (store.live_version("item"), store.live_version("user")) == (OLD, OLD)
        store.write("user", NEW, self.table())
        store.switch({"item": NEW, "user": NEW})
        assert (store.live_version("item"), store.live_version("user")) == (NEW, NEW)

    def test_a_set_of_an_earlier_bizdate_stays_behind_if_one_of_its_collections_is_later(self, store: Store) -> None:
        for version in (OLD, NEW, NEWER):
            for collection in ("item", "user"):
                store.write(collection, version, self.table())
        assert show_set(store, {"item": NEW, "user": NEW}) == NEW[:10]
        store.go_live("item", OLD)
        assert show_set(store, {"item": OLD, "user": OLD}) == NEW[:10]
        assert (store.live_version("item"), store.live_version("user")) == (OLD, NEW)
        assert [each for each in remarks("a", store) if "mixture" in each and f"item of {OLD[:10]}" in each]
        assert show_set(store, {"item": NEWER, "user": NEWER}) == NEWER[:10]
        assert list(remarks("a", store)) == []

    def test_all_collections_go_back_to_a_bizdate_or_none_does(self, store: Store) -> None:
        for version in (OLD, NEW):
            for collection in ("item", "user"):
                publish(store, collection, version, self.table(), no_gate, keep=3)
        assert roll_back_all([store]) == [{"item": OLD, "user": OLD}]
        assert (store.live_version("item"), store.live_version("user")) == (OLD, OLD)
        store.switch({"item": NEW, "user": NEW})
        store.drop("item", OLD)
        for to in (None, OLD[:10]):
            with pytest.raises(NothingToRollBackTo):
                roll_back_all([store], to)
        assert (store.live_version("item"), store.live_version("user")) == (NEW, NEW)

    def test_a_dropped_version_is_gone_and_the_others_stay(self, store: Store) -> None:
        for version in (OLD, NEW):
            store.write("user", version, self.table())
        for _ in range(2):
            store.drop("user", OLD)
        assert (store.versions("user"), store.count("user", NEW)) == ([NEW], 50)

    def test_collections_are_apart(self, store: Store) -> None:
        assert store.collections() == []
        for collection in ("user", "user_old"):
            store.write(collection, NEW, self.table())
        store.go_live("user", NEW)
        assert store.collections() == ["user", "user_old"]
        assert (store.live_version("user"), store.live_version("user_old"), store.versions("other")) == (NEW, None, [])

    def test_the_newest_versions_are_kept_and_an_old_one_is_gone_back_to(self, store: Store) -> None:
        for version in (OLD, NEW, NEWER):
            done = publish(store, "user", version, self.table(), no_gate, keep=2)
            assert done.live == version
        assert done.dropped == [OLD]
        assert roll_back(store, "user") == store.live_version("user") == NEW

    def test_an_earlier_bizdate_does_not_take_the_place_of_a_later_one(self, store: Store) -> None:
        publish(store, "user", NEW, self.table(), no_gate, keep=3)
        done = publish(store, "user", OLD, self.table(), no_gate, keep=3)
        assert (done.live, store.live_version("user"), store.versions("user")) == (NEW, NEW, [OLD, NEW])

    def test_a_closed_gate_leaves_readers_what_they_had(self, store: Store) -> None:
        publish(store, "user", OLD, self.table(), no_gate, keep=3)

        def asked(open_for: int) -> Callable[[], None]:
            answers = iter([True] * open_for)

            def gate() -> None:
                if not next(answers, False):
                    raise PermissionError

            return gate

        for open_for in (0, 1):
            with pytest.raises(PermissionError):
                publish(store, "user", NEW, self.table(), asked(open_for), keep=3)
            assert store.live_version("user") == OLD

    def test_other_rows_than_those_of_the_artefact_are_refused_and_removed(self, store: Store) -> None:
        for other in (self.table(shift=1.0), self.table(49)):
            store.write("user", NEW, other)
            with pytest.raises(VerificationFailed):
                verify(store, "user", NEW, self.table())
            assert store.versions("user") == []

    def test_other_rows_of_a_live_version_are_named_and_stay_until_it_is_not_live(self, store: Store) -> None:
        publish(store, "user", OLD, self.table(), no_gate, keep=3)
        publish(store, "user", NEW, self.table(shift=1.0), no_gate, keep=3)
        with pytest.raises(VerificationFailed, match="is live, .*recsys rollback"):
            publish(store, "user", NEW, self.table(), no_gate, keep=3)
        assert store.live_version("user") == NEW
        roll_back(store, "user")
        with pytest.raises(VerificationFailed):
            publish(store, "user", NEW, self.table(), no_gate, keep=3)
        assert publish(store, "user", NEW, self.table(), no_gate, keep=3).live == NEW

    def test_readers_see_the_live_version_whole_while_new_ones_take_its_place(self, store: Store) -> None:
        shown = [self.table(shift=float(number)) for number in range(12)]
        wanted = [table.take([7, 3]) for table in shown]
        publish(store, "user", "2026-01-01.aaaaaaaaaaaa", shown[0], no_gate, keep=1)
        seen, done = [], threading.Event()

        def look() -> None:
            while not done.is_set():
                seen.append(store.read("user", ["7", "3"]))

        with ThreadPoolExecutor() as pool:
            looking = pool.submit(look)
            for number, table in enumerate(shown[1:], 2):
                publish(store, "user", f"2026-01-{number:02}.aaaaaaaaaaaa", table, no_gate, keep=1)
            done.set()
            looking.result()
        order = [next(place for place, table in enumerate(wanted) if table.equals(found)) for found in seen]
        assert order == sorted(order)
        assert len(set(order)) > 1
