"""Lineage: which partitions were made from which, and which are outdated because one of their inputs changed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from recsys_assets.manifest import DAILY, Manifest

if TYPE_CHECKING:
    from recsys_assets.lake import Lake


class Lineage:
    """The lineage of a lake whose manifests are each read only once: after a change of the lake, make a new object."""

    def __init__(self, lake: "Lake") -> None:
        self._lake = lake
        self._manifests: dict[str, Manifest] = {}
        self._looked_for: set[str] = set()
        self._days: dict[str, list[str]] = {}
        self._compared: dict[str, tuple[set[str], set[str]]] = {}

    def outdated_inputs(self, manifest: Manifest) -> list[str]:
        """Direct and indirect inputs that changed since the partition was made: `asset/bizdate`, in order.

        They were materialized again, removed or damaged, or are days of events that landed later. The inputs of a
        changed input are not checked.
        """
        found, unchanged = self._inputs(manifest)
        seen, due = set[str](), unchanged
        while due:  # one step further back: the inputs of the unchanged inputs
            seen |= due
            self._read({name for each in due - self._compared.keys() for name in self._manifests[each].inputs})
            compared = [self._known_inputs(name) for name in due]
            found = found.union(*(changed for changed, _ in compared))
            due = set[str]().union(*(unchanged for _, unchanged in compared)) - seen
        return sorted(found)

    def outdated_assets(self, bizdate: str) -> list[str]:
        """Assets whose partition of a bizdate is outdated, by name."""
        names = [f"{asset}/{bizdate}" for asset in self._lake.assets()]
        self._read(names)
        there = [self._manifests[name] for name in names if name in self._manifests]
        return [manifest.asset for manifest in there if self.outdated_inputs(manifest)]

    def dependents(self, changed: Iterable[str]) -> list[Manifest]:
        """Manifests of all partitions made from one of the named ones, directly or indirectly, ordered by name."""
        states = [asset for asset in self._lake.assets() if asset not in DAILY]
        self._read(f"{asset}/{day}" for asset in states for day in self._lake.bizdates(asset))
        names, found = set(changed), dict[str, Manifest]()
        while names:
            readers = {name: each for name, each in self._manifests.items() if any(map(each.reads, names))}
            names = readers.keys() - found.keys()
            found |= readers
        return [found[name] for name in sorted(found)]

    def _read(self, names: Iterable[str]) -> None:
        """Read the manifests that have not been read yet; those that are missing or damaged stay unknown."""
        new = set(names) - self._looked_for
        self._looked_for |= new
        self._manifests |= self._lake.manifests(sorted(new))

    def _known_inputs(self, name: str) -> tuple[set[str], set[str]]:
        """The result of `_inputs` for a partition of the lake, computed once."""
        if name not in self._compared:
            self._compared[name] = self._inputs(self._manifests[name])
        return self._compared[name]

    def _inputs(self, manifest: Manifest) -> tuple[set[str], set[str]]:
        """Names of a partition's direct inputs: those that changed after it was made, and others of its bizdate.

        Days of events up to its own bizdate that landed later count as changed. Unchanged partitions of other days are
        left out, because what they were made from does not matter: days of events are made from landing files, and the
        rows of a partition that was extended were compared with own ones.
        """
        inputs = manifest.inputs
        self._read(inputs)
        now = {name: self._manifests[name].fingerprint for name in inputs if name in self._manifests}
        unchanged = {name for name, expected in inputs.items() if now.get(name) == expected}
        days = {f"{asset}/{day}" for asset in manifest.histories for day in self._bizdates(asset)}
        later = {name for name in days - manifest.upstream.keys() if manifest.reads(name)}
        of_its_day = {name for name in unchanged if name.partition("/")[2] == manifest.bizdate}
        return (inputs.keys() - unchanged) | later, of_its_day

    def _bizdates(self, asset: str) -> list[str]:
        if asset not in self._days:
            self._days[asset] = self._lake.bizdates(asset)
        return self._days[asset]
