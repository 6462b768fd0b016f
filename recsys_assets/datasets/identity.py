"""The identity of the data set in a lake, a store or an experiment, so that a different one of its name is refused.

Put here how a data set is recognised. Everything that is kept under a profile's `name` belongs to one data set:
without this record, a second profile of the same name would silently replace the first one's rows.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.world import VERSION
from recsys_assets.manifest import json_text

ADOPT = "recsys adopt"


class OtherDataset(RuntimeError):
    """A place holds a different data set of the same name; the message names both and says what to do."""


@dataclass(frozen=True)
class Identity:
    """How a data set is recognised.

    Attributes:
        name: the profile's name.
        key: made once, when the first partition is written; stores and experiments are marked with it.
        landing: folders that the data set landed in, relative to a local lake so that both can move together.
        tables: the type and landed name of every column, by table and column.
        generator: the version of the generator that makes the data; empty if they are not generated.
    """

    name: str
    key: str
    landing: tuple[str, ...]
    tables: dict[str, dict[str, str]]
    generator: str = ""

    def to_json(self) -> str:
        """The text of `dataset.json`."""
        return json_text({name: value for name, value in asdict(self).items() if name != "generator" or value})

    @classmethod
    def read(cls, place: str, text: bytes) -> "Identity":
        """Read a `dataset.json`; `place` is its path, for messages.

        Raises:
            OtherDataset: it cannot be read.
        """
        try:
            content = json.loads(text)
            return cls(
                content["name"],
                content["key"],
                tuple(content["landing"]),
                content["tables"],
                content.get("generator", ""),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise OtherDataset(
                f"{place} cannot be read ({error}): if it is of the data set that the profile describes, run `{ADOPT}`"
            ) from error

    def with_tables_of(self, other: "Identity") -> "Identity":
        """The same data set with the tables and generator of another profile, and its landing folder added."""
        landing = tuple(dict.fromkeys((*self.landing, *other.landing)))
        return Identity(self.name, self.key, landing, other.tables, other.generator)


def identify(profile: Profile, lake: Path | None) -> Identity:
    """The data set that a profile describes, for a lake in a local folder or, with None, in an object store."""
    place = profile.store.address if profile.store else str(profile.landing.resolve())
    key = hashlib.sha256(f"{profile.name}\n{place}".encode()).hexdigest()[:16]
    landing = os.path.relpath(place, lake.resolve()) if lake and not profile.store else place
    tables: dict[str, dict[str, str]] = {
        table: {name: f"{spec.type} {spec.column or name}" for name, spec in columns.items()}
        for table, columns in profile.tables.items()
    }
    return Identity(profile.name, key, (landing,), tables, f"sample {VERSION}" if profile.source == "sample" else "")


def mark(dataset: Identity, profile: Profile) -> str:
    """The mark of a data set on stores and experiments: its key and, for people to read, its landing folder."""
    return f"{dataset.key} {profile.landing_place}"


def check_same(place: str, held: Identity, described: Identity) -> None:
    """Refuse a data set other than the one that a place holds.

    Raises:
        OtherDataset: the landing folder or the tables differ.
    """
    if differences := list(_differences(held, described)):
        raise OtherDataset(
            f"{place} holds another data set named '{held.name}' than the profile describes: {'; '.join(differences)}. "
            f"Give the profile another name; or, if it is the same data set, run `{ADOPT}`"
        )


def refuse_other(what: str, held: str | None, owner: str) -> None:
    """Refuse something that has the mark of another data set.

    Raises:
        OtherDataset: the marks belong to two data sets.
    """
    (theirs, _, there), (ours, _, here) = (held or owner).partition(" "), owner.partition(" ")
    if theirs != ours:
        raise OtherDataset(
            f"{what} belong to another data set, which landed in {there}, not to the one in {here}: give this profile "
            f"another name; or, if it is the same data set, run `{ADOPT}`"
        )


def _differences(held: Identity, described: Identity) -> Iterator[str]:
    if not set(described.landing) <= set(held.landing):
        yield f"it landed in {' and '.join(held.landing)}, the profile's landing is {described.landing[0]}"
    if described.generator and held.generator != described.generator:
        made = held.generator or "an older generator"
        yield f"{made} made its rows, and {described.generator} makes others: to start again, remove lake and landing"
    for table in sorted({*held.tables, *described.tables}):
        there, here = held.tables.get(table, {}), described.tables.get(table, {})
        changed = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
        if changed:
            name = changed[0]
            more = f" (and {len(changed) - 1} more columns)" if len(changed) > 1 else ""
            yield f"{table}.{name} is {there.get(name, 'absent')} there and {here.get(name, 'absent')} here{more}"
