"""How assets read partitions of the lake and write their own.

An input parameter annotated `Partition` receives the partition of the run's bizdate. The asset fills an `Output`, which
is published as a whole or not at all.
"""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
from pydantic import PrivateAttr

from recsys_assets.datasets.column_words import RESULTS, column_words
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import Draft, Manifest, Partition, PartitionReplaced, json_text
from recsys_assets.resources import LakeStore
from recsys_assets.retries import retrying

# Names of checks: the first fails when an input changes after the partition was made, the second when it is declined,
# and the third when the partition is not there by the deadline (`assets/publish/deadline.py`).
UP_TO_DATE, CAN_BE_BUILT, IN_TIME = "up_to_date", "can_be_built", "published_in_time"


class LakeIOManager(dg.ConfigurableIOManager):
    """Loads inputs from the lake; refuses partitions that are missing or failed a blocking check."""

    store: dg.ResourceDependency[LakeStore]
    _lineage: tuple[object, Lineage] | None = PrivateAttr(default=None)

    def load_input(self, context: dg.InputContext) -> Partition:
        """The upstream partition of the run's bizdate, or of the newest one, if the run makes several."""
        with retrying(context.step_context.previous_attempt_count):
            asset, day = context.asset_key.to_user_string(), context.asset_partition_keys[-1]
            return self.store.read(asset, day, self._lineage_of(context.step_context))

    def _lineage_of(self, step: Any) -> Lineage:
        """The lineage that all inputs of a step share.

        On MovieLens 1M, that of one release takes 0.03 s, and a release has 41 inputs. What changes meanwhile is found
        when the step's partition is complete: then it is read again.
        """
        attempt = step.run_id, step.step.key, step.previous_attempt_count
        if self._lineage is None or self._lineage[0] != attempt:
            self._lineage = attempt, Lineage(self.store.lake)
        return self._lineage[1]

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:  # noqa: ARG002 (the name is Dagster's)
        """Refuse a returned value: assets write their partitions themselves."""
        asset = context.asset_key.to_user_string()
        raise TypeError(f"{asset} returned a {type(obj).__name__}: it must return a MaterializeResult without a value")


@dataclass
class Output:
    """A partition that an asset is writing, with the metadata and check results that the UI will show."""

    draft: Draft
    location: str
    blocking: frozenset[str]
    publish: Callable[[], None]  # called by an asset that goes on after its partition is published; others need not
    inputs: list[Partition] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    checks: list[dg.AssetCheckResult] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)  # inputs that were left out, with the reasons

    @property
    def manifest(self) -> Manifest:
        """The partition's manifest, to be filled in."""
        return self.draft.manifest

    def add_inputs(self, inputs: Collection[Partition | Manifest]) -> None:
        """Record what the partition is made from; none of it may change before the partition is published.

        A manifest stands for a partition of which only the manifest is read.
        """
        manifests = [each.manifest if isinstance(each, Partition) else each for each in inputs]
        self.manifest.upstream |= {each.name: each.fingerprint for each in manifests}
        self.inputs += [each for each in inputs if isinstance(each, Partition)]

    def add_optional_inputs(
        self, found: Mapping[str, Partition], needed: Collection[str], without: Mapping[str, str]
    ) -> None:
        """Record partitions that were read by asset, besides the needed ones, which Dagster knows, and what was not."""
        self.add_inputs([each for asset, each in found.items() if asset not in needed])
        self.without = dict(without)

    def path(self, file: str) -> Path:
        """Where to write one of its files."""
        return self.draft.path(file)

    def keep(self, earlier: Partition, file: str) -> None:
        """Take over a file of an earlier partition as it is.

        The file gets a second name, and its bytes stay until both names are gone: the partition stays whole whatever
        becomes of the earlier one. File systems without such names, and other disks, get a copy.
        """
        try:
            os.link(earlier.path(file), self.path(file))
        except OSError:
            shutil.copyfile(earlier.path(file), self.path(file))
        self.draft.kept[file] = earlier.manifest.files[file]

    def write_json(self, file: str, content: Mapping[str, Any]) -> None:
        """Write a small file for people and programs."""
        self.path(file).write_text(json_text(content), encoding="utf-8")

    def check(self, name: str, passed: bool, **found: Any) -> None:
        """Record a check's result; a blocking check that failed closes the gate for everything downstream."""
        self.checks.append(dg.AssetCheckResult(check_name=name, passed=bool(passed), metadata=found))
        if not passed and name in self.blocking:
            self.manifest.failed_checks.append(name)

    def decline(self, reason: str) -> None:
        """Record that the partition cannot be built from these data: it gets the reason, a sentence, and no files.

        Whatever the asset writes or checks besides is dropped; it should return at once.
        """
        self.manifest.declined = reason

    def describe(self, described: Mapping[str, str]) -> None:
        """Fill in the schemas of the Parquet files and the metadata that every asset shows.

        Args:
            described: what columns of the profile hold, by name.
        """
        tables = {path.name: pq.read_metadata(path) for path in sorted(self.draft.folder.glob("*.parquet"))}
        schemas = {file: _columns(table.schema.to_arrow_schema()) for file, table in tables.items()}
        self.manifest.schema = {file: dict(columns) for file, columns in schemas.items()}
        if tables:
            largest = max(tables, key=lambda file: tables[file].num_rows)
            columns = [
                dg.TableColumn(name, kind, described.get(name) or column_words(name) or None)
                for name, kind in schemas[largest]
            ]
            self.metadata["dagster/column_schema"] = dg.TableSchema(columns)
            if lineage := self._lineage([column.name for column in columns]):
                self.metadata["dagster/column_lineage"] = dg.TableColumnLineage(lineage)
        if self.manifest.rows is not None:
            self.metadata["dagster/partition_row_count"] = self.manifest.rows
        self.metadata |= {**self.manifest.metrics, "path": dg.MetadataValue.path(self.location)}

    def _lineage(self, columns: Collection[str]) -> dict[str, list[dg.TableColumnDep]]:
        """For each column that inputs have under the same name and that is no result of the asset, these columns."""
        has: dict[str, set[str]] = {}  # the columns of an asset, of which several bizdates may have been read
        for each in self.inputs:
            has.setdefault(each.manifest.asset, set()).update(*each.manifest.schema.values())
        has.pop(self.manifest.asset, None)
        found: dict[str, list[dg.TableColumnDep]] = {}
        for asset, theirs in sorted(has.items()):
            for column in theirs.intersection(columns) - RESULTS:
                found.setdefault(column, []).append(dg.TableColumnDep(dg.AssetKey(asset), column))
        return dict(sorted(found.items()))

    def describe_declined(self, checks: Collection[dg.AssetCheckSpec]) -> None:
        """Leave the reason alone: no files, figures or rows; every check that the asset declares has a result."""
        shutil.rmtree(self.draft.folder)
        self.draft.folder.mkdir()
        made, reason = self.manifest, self.manifest.declined
        made.rows, made.schema, made.metrics, made.failed_checks, made.below_floor = None, {}, {}, [], ""
        self.metadata = {"cannot be built": reason, "path": dg.MetadataValue.path(self.location)}
        note = "not checked, as the partition is declined"
        self.checks = [
            dg.AssetCheckResult(check_name=spec.name, passed=True, metadata={"note": note})
            for spec in checks
            if spec.name not in (UP_TO_DATE, CAN_BE_BUILT, IN_TIME)
        ]

    def result(self) -> dg.MaterializeResult[None]:
        """The result that the asset returns."""
        version = dg.DataVersion(self.manifest.fingerprint)
        return dg.MaterializeResult(metadata=self.metadata, check_results=self.checks, data_version=version)


@contextmanager
def write_partition(
    context: dg.AssetExecutionContext, store: LakeStore, inputs: Collection[Partition] = (), bizdate: str | None = None
) -> Iterator[Output]:
    """Write the asset's partition of `bizdate` (default: the run's); describe and publish it when the block ends.

    Raises:
        PartitionReplaced: an input was materialized again while the block was reading it.
    """
    asset, day, begun = context.asset_key.to_user_string(), bizdate or context.partition_key, time.perf_counter()
    blocking = frozenset(spec.name for spec in context.assets_def.check_specs if spec.blocking)
    with ExitStack() as opened:
        draft = opened.enter_context(store.lake.draft(asset, day))
        draft.manifest.code_version = context.assets_def.code_versions_by_key[context.asset_key] or "1"
        # Closing runs `_complete` and then publishes the draft; the end of the block closes what is still open.
        output = Output(draft, store.lake.location(asset, day), blocking, publish=opened.close)
        output.add_inputs(inputs)
        opened.enter_context(_complete(output, context, store, begun))
        yield output


@contextmanager
def _complete(output: Output, context: dg.AssetExecutionContext, store: LakeStore, begun: float) -> Iterator[None]:
    """Describe the output when the block ends, and refuse it if one of its inputs changed in the meantime."""
    yield
    lake = store.lake
    declared, declined = list(context.assets_def.check_specs), output.manifest.declined
    if declined:
        output.describe_declined(declared)
        context.log.warning(f"{output.manifest.name} cannot be built: {declined}")
    else:
        output.describe(store.described)
    replaced = {each.manifest.name for each in output.inputs if not lake.is_in_place(each)}
    # Everything that the manifest names: of some partitions only the manifest was read.
    replaced |= {*lake.changed_partitions(output.manifest.upstream), *lake.outdated_inputs(output.manifest)}
    if replaced:
        names, made = ", ".join(sorted(replaced)), f"{output.manifest.asset} {output.manifest.bizdate}"
        raise PartitionReplaced(f"{names} changed while {made} was built from it: materialize it again")
    own = {spec.name for spec in declared}
    for name in {UP_TO_DATE, IN_TIME} & own:  # a sensor, or a change of an input, says that they fail
        output.check(name, True)
    if CAN_BE_BUILT in own:
        found = {"reason": declined} if declined else {"left out": output.without} if output.without else {}
        output.check(CAN_BE_BUILT, not declined, **found)
    output.manifest.seconds = round(time.perf_counter() - begun, 3)


def _columns(schema: Any) -> list[tuple[str, str]]:
    return [(column.name, str(column.type)) for column in schema]
