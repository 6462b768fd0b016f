"""Triton: the champion and the towers as models that a Triton server serves, next to the stores of collections.

An asset writes a version into the model repository, lets the server load it under a name that nobody uses, and compares
its answers over HTTP with onnxruntime's. Only then does it go live: the server loads it next to the version before.
The gate and the versions that are kept are those of `stores/publish.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
from filelock import FileLock

from recsys_assets.arrays import Array, Floats
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.publish.collections import PUBLICATION
from recsys_assets.assets.publish.onnx import MODEL, PARITY_ROWS, PARITY_USERS, TOLERANCE, draw_users, real_rows
from recsys_assets.assets.reports import show
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import HISTORY
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.features.raw import INPUTS, raw_columns, raw_inputs, read_inputs
from recsys_assets.features.schema import Feature
from recsys_assets.funnel.network import open_session
from recsys_assets.funnel.scoring import open_champion
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.resources import Dataset, LakeStore, Stores
from recsys_assets.retrieval.interactions import histories, read
from recsys_assets.retrieval.raw_users import raw_users
from recsys_assets.settings import settings
from recsys_assets.stores.gate import CHAMPION_ASSET, pass_gate
from recsys_assets.stores.publish import show_set, stage
from recsys_assets.stores.registry import stores_in_use
from recsys_assets.stores.store import bizdate_of
from recsys_assets.stores.triton.config import model_files
from recsys_assets.stores.triton.store import CHAMPION, TritonStore, model_version, version_number

SIDES = ("user", "item")
MATCHES = Check(
    "triton_matches_onnx",
    f"Triton's answers over HTTP and onnxruntime's agree within {TOLERANCE} on real rows of raw features",
)
TEXT = """{what} as {models} of the Triton server.

{rows} are first scored by the server and by onnxruntime. If they agree, the server serves this version from now on,
unless one of a later bizdate is live."""

Feeds = Mapping[str, tuple[Path, Mapping[str, Array]]]  # a model's ONNX file, and raw features of rows to compare


def champion_asset() -> LakeAsset:
    """The asset of the champion."""
    what, rows = "The champion", f"{PARITY_ROWS:,} rows of `rank_samples`"

    @lake_asset(
        name=f"triton_{CHAMPION}",
        description=TEXT.format(what=what, models=f"the model `{CHAMPION}`", rows=rows),
        deps=[CHAMPION_ASSET],
        kinds={"triton", "onnx"},
        checks=[MATCHES],
    )
    def publish(output: Output, lake: LakeStore, dataset: Dataset, stores: Stores, rank_samples: Partition) -> None:
        champion = pass_gate(lake.lake, output.manifest.bizdate, [])
        if champion is None:
            raise CannotBeBuilt("there is no champion")
        scorer, models = open_champion(lake.lake, champion)
        output.add_inputs([lake.read(CHAMPION_ASSET, output.manifest.bizdate), *models])
        feed = raw_inputs(scorer.schema, real_rows(rank_samples))
        _publish(output, lake.lake, dataset, stores, [], {CHAMPION: (models[0].path(MODEL), feed)})

    return publish


def tower_asset(model: str) -> LakeAsset:
    """The asset of the two towers of a model."""
    models = " and ".join(f"`{model}_{side}`" for side in SIDES)
    rows = f"{PARITY_USERS:,} users and all items"

    @lake_asset(
        name=f"triton_{model}",
        description=TEXT.format(what=f"The towers of `recall_{model}`", models=f"the models {models}", rows=rows),
        ins={"towers": dg.AssetIn(f"onnx_{model}")},
        deps=[CHAMPION_ASSET],
        kinds={"triton", "onnx"},
        checks=[MATCHES],
    )
    def publish(
        output: Output,
        lake: LakeStore,
        dataset: Dataset,
        stores: Stores,
        towers: Partition,
        recall_samples: Partition,
        users: Partition,
        items: Partition,
    ) -> None:
        files = {side: towers.path(f"{side}.onnx") for side in SIDES}
        feeds = {
            f"{model}_user": (files["user"], _user_rows(_inputs_of(files["user"]), recall_samples, users)),
            f"{model}_item": (files["item"], raw_columns(_inputs_of(files["item"]), pq.read_table(items.path(ROWS)))),
        }
        _publish(output, lake.lake, dataset, stores, [towers.manifest], feeds)

    return publish


def _inputs_of(file: Path) -> list[Feature]:
    """The raw features that a tower takes, from the metadata of its file."""
    return read_inputs(open_session(file).get_modelmeta().custom_metadata_map[INPUTS])


def _user_rows(inputs: list[Feature], recall_samples: Partition, users: Partition) -> dict[str, Array]:
    """The raw features of drawn users, as of the end of the log."""
    events, everyone = read(recall_samples.path(ROWS)), pq.read_table(users.path(ROWS))
    length = next(each.length for each in inputs if each.name == HISTORY)
    starts, ends = histories(events, "online")
    drawn = draw_users(len(starts))
    return raw_columns(inputs, raw_users(length, events, everyone, drawn, starts[drawn], ends[drawn]))


def _publish(
    output: Output, lake: Lake, dataset: Dataset, stores: Stores, sources: Sequence[Manifest], feeds: Feeds
) -> None:
    """Write the models, compare them with onnxruntime, and let them go live together if they agree."""
    day, keep = output.manifest.bizdate, dataset.load().publishing.keep

    def gate() -> None:
        pass_gate(lake, day, sources)

    files = {name: file for name, (file, _) in feeds.items()}
    versions = {name: model_version(day, file) for name, file in files.items()}
    with _opened(stores) as store, FileLock(settings().data / ".triton.lock"):  # another day's may be about to go live
        for name, file in files.items():
            stage(store, name, versions[name], model_files(file), gate, keep)
        found = {name: _difference(store, name, versions[name], *feed) for name, feed in feeds.items()}
        output.manifest.rows = sum(len(next(iter(feed.values()))) for _, feed in feeds.values())
        output.manifest.metrics = {f"max_difference_{name}": value for name, value in found.items()}
        passed = all(value <= TOLERANCE for value in found.values())  # a NaN is no agreement
        output.check(MATCHES.name, passed, rows=output.manifest.rows, **output.manifest.metrics)
        output.write_json(PUBLICATION, {"store": "triton", "versions": versions})
        rows = [(name, versions[name], version_number(versions[name]), found[name]) for name in feeds]
        output.metadata["models"] = show.table(["model", "version", "number", "largest difference"], rows)
        output.publish()
        output.metadata["live"] = _go_live(store, versions, passed, gate)


def _opened(stores: Stores) -> AbstractContextManager[TritonStore]:
    return cast("AbstractContextManager[TritonStore]", stores.open("triton"))


def _difference(store: TritonStore, name: str, version: str, file: Path, feed: Mapping[str, Array]) -> float:
    """The largest absolute difference between the outputs of a version in Triton and those of onnxruntime."""
    runtime = open_session(file)
    (output,) = (each.name for each in runtime.get_outputs())
    expected: Floats = runtime.run([output], dict(feed))[0]
    with store.trial(name, version) as model:
        found = store.client.infer(model, version_number(version), feed, output)
    return float(np.abs(found.reshape(expected.shape) - expected).max())


def _go_live(store: TritonStore, versions: Mapping[str, str], passed: bool, gate: Callable[[], None]) -> str:
    """Show the versions if they agree; return what is live."""
    if not passed:
        for name, version in versions.items():
            if store.live_version(name) != version:
                store.drop(name, version)
        return "no: Triton does not answer what onnxruntime does"
    gate()
    newest = show_set(store, versions)
    return "yes" if newest == bizdate_of(next(iter(versions.values()))) else f"no: {newest} is live"


def triton_assets() -> list[LakeAsset]:
    """The assets of the champion and of every two-tower model, if a Triton server is in use."""
    return [champion_asset(), *map(tower_asset, TOWERS)] if "triton" in stores_in_use() else []
