"""How assets read partitions of the lake and write their own.

An input parameter annotated `Partition` receives the partition of the run's bizdate. The asset writes its output
through `writing`, which publishes the whole partition or nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from recsys_assets.manifest import Draft, Manifest, Partition, PartitionReplaced
from recsys_assets.resources import LakeStore


class LakeIOManager(dg.ConfigurableIOManager):
    """Loads inputs from the lake; refuses partitions that are missing or failed a blocking check."""

    store: dg.ResourceDependency[LakeStore]

    def load_input(self, context: dg.InputContext) -> Partition:
        """The upstream partition of the run's bizdate."""
        return self.store.read(context.asset_key.to_user_string(), context.asset_partition_key)

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
    metadata: dict[str, Any] = field(default_factory=dict)
    checks: list[dg.AssetCheckResult] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        """The partition's manifest, to be filled in."""
        return self.draft.manifest

    def path(self, file: str) -> Path:
        """Where to write one of its files."""
        return self.draft.path(file)

    def write_json(self, file: str, content: Mapping[str, Any]) -> None:
        """Write a small file for people and programs; the same content gives the same bytes."""
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
        self.path(file).write_text(text + "\n", encoding="utf-8")

    def check(self, name: str, passed: bool, **found: Any) -> None:
        """Record a check's result; a blocking check that failed closes the gate for everything downstream."""
        self.checks.append(dg.AssetCheckResult(check_name=name, passed=bool(passed), metadata=found))
        if not passed and name in self.blocking:
            self.manifest.failed_checks.append(name)

    def describe(self) -> None:
        """Fill in the schemas of the Parquet files and the metadata that every asset shows."""
        tables = {path.name: pq.read_metadata(path) for path in sorted(self.draft.folder.glob("*.parquet"))}
        schemas = {file: _columns(table.schema.to_arrow_schema()) for file, table in tables.items()}
        self.manifest.schema = {file: dict(columns) for file, columns in schemas.items()}
        if tables:
            largest = max(tables, key=lambda file: tables[file].num_rows)
            columns = [dg.TableColumn(name, kind) for name, kind in schemas[largest]]
            self.metadata["dagster/column_schema"] = dg.TableSchema(columns)
        if self.manifest.rows is not None:
            self.metadata["dagster/partition_row_count"] = self.manifest.rows
        self.metadata |= {**self.manifest.metrics, "path": dg.MetadataValue.path(self.location)}

    def result(self) -> dg.MaterializeResult[None]:
        """The result that the asset returns."""
        version = dg.DataVersion(self.manifest.fingerprint)
        return dg.MaterializeResult(metadata=self.metadata, check_results=self.checks, data_version=version)


@contextmanager
def writing(
    context: dg.AssetExecutionContext,
    store: LakeStore,
    upstream: Sequence[Partition] = (),
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    bizdate: str | None = None,
) -> Iterator[Output]:
    """Write the asset's partition of `bizdate` (default: the run's); describe and publish it when the block ends.

    Raises:
        PartitionReplaced: an upstream partition was materialized again while the block was reading it.
    """
    asset, day = context.asset_key.to_user_string(), bizdate or context.partition_key
    specs = context.assets_def.check_specs
    with store.lake.draft(asset, day) as draft:
        blocking = frozenset(spec.name for spec in specs if spec.blocking)
        output = Output(draft, store.lake.location(asset, day), blocking)
        draft.manifest.config, draft.manifest.seed = dict(config or {}), seed
        draft.manifest.code_version = context.assets_def.code_versions_by_key[context.asset_key] or "1"
        draft.manifest.upstream = {f"{p.manifest.asset}/{p.manifest.bizdate}": p.manifest.fingerprint for p in upstream}
        yield output
        output.describe()
        replaced = {each.manifest.name for each in upstream if not store.lake.is_in_place(each)}
        # Everything that the manifest names by now: an asset may have added partitions whose manifests alone it read.
        replaced |= {*store.lake.changed(draft.manifest.upstream), *store.lake.outdated(draft.manifest)}
        if replaced:
            names = ", ".join(sorted(replaced))
            raise PartitionReplaced(f"{names} changed while {asset} {day} was built from it: materialize it again")
        if "up_to_date" in {spec.name for spec in specs}:
            output.check("up_to_date", True)


def _columns(schema: Any) -> list[tuple[str, str]]:
    return [(column.name, str(column.type)) for column in schema]
