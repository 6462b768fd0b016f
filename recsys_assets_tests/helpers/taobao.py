"""Generated tables with the columns of TorchEasyRec's tutorial on recall: clicks on ads, and the pool of ads.

`docs/torcheasyrec.md` has its commands and a pipeline file for these tables.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from recsys_assets.arrays import Ints
from recsys_assets_tests.conftest import PROJECT

USERS, ITEMS, FIRST_ITEM = 80, 60, 1000
ROWS = {"train": 14, "validation": 3, "eval": 3}  # of each user
USER = {
    "cms_segid": 98, "cms_group_id": 14, "final_gender_code": 3, "age_level": 8, "pvalue_level": 5,
    "shopping_level": 5, "occupation": 3, "new_user_class_level": 6, "pid": 2,
}  # fmt: skip
ITEM = {"cate_id": 8, "campaign_id": 30, "customer": 20, "brand": 15}
FIRST_SECOND = 1_767_225_600  # 2026-01-01
PAGE = (PROJECT / "docs" / "torcheasyrec.md").read_text(encoding="utf-8")


def pipeline() -> dict[str, Any]:
    """The pipeline file of the page."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def items() -> pa.Table:
    """The ads with their features."""
    ids = np.arange(ITEMS)
    features = {name: (ids * (place + 3)) % count for place, (name, count) in enumerate(ITEM.items())}
    prices = np.random.default_rng(5).lognormal(3, 1, ITEMS)
    return pa.table({"adgroup_id": FIRST_ITEM + ids, **features, "price": prices})


def users() -> pa.Table:
    """The users with their features."""
    ids = np.arange(USERS)
    return pa.table({"user_id": ids + 1, **{name: ids % count for name, count in USER.items()}})


def clicks() -> dict[str, pa.Table]:
    """The rows of each part, in the order of time; every ad is clicked, and no user clicks on one twice."""
    rng, length = np.random.default_rng(6), sum(ROWS.values())
    steps = np.where(rng.random((USERS, length)) < 0.7, 1, 2)  # 40 at most
    item = (rng.integers(0, ITEMS, (USERS, 1)) + np.cumsum(steps, axis=1)) % ITEMS
    second = FIRST_SECOND + np.arange(USERS)[:, None] + 600 * np.arange(length)
    ends = np.cumsum([0, *ROWS.values()])
    return {
        part: _rows(item[:, start:end], second[:, start:end])
        for part, start, end in zip(ROWS, ends[:-1], ends[1:], strict=True)
    }


def _rows(item: Ints, second: Ints) -> pa.Table:
    """Rows with the features of both sides, from a user's ads and their times (users, rows)."""
    order = np.argsort(second.ravel(), kind="stable")
    user = np.repeat(np.arange(USERS), item.shape[1])
    table = users().take(user[order])
    for name, column in zip(items().column_names, items().take(item.ravel()[order]).columns, strict=True):
        table = table.append_column(name, column)
    clicked = pa.array(np.ones(len(order), np.int64))
    return table.append_column("clk", clicked).append_column("time_stamp", pa.array(second.ravel()[order]))


def write_tables(folder: Path) -> None:
    """Write the tutorial's folders, each with two files, and its table of weighted ads."""
    tables = {"taobao_ad_feature": items(), **{f"taobao_data_recall_{part}": rows for part, rows in clicks().items()}}
    for name, table in tables.items():
        (folder / name).mkdir(parents=True)
        half = len(table) // 2
        pq.write_table(table.slice(0, half), folder / name / "a.parquet")
        pq.write_table(table.slice(half), folder / name / "b.parquet")
    lines = [f"{FIRST_ITEM + n}\t{1 + n % 7}.5\t{n}\x02{n % 8}\n" for n in range(ITEMS)]
    (folder / "taobao_ad_feature_gl").write_text("id:int64\tweight:float\tattrs:string\n" + "".join(lines))


def profile() -> dict[str, Any]:
    """A profile of the same rows; users and items land as tables of their own."""
    config = pipeline()["data_config"]
    columns: dict[str, Any] = config["columns"]
    own = {
        side: {name: "int64" for name, spec in columns.items() if "of" in spec and spec["of"] == side}
        for side in ("user", "item")
    }
    return {
        "name": "taobao",
        "first_bizdate": "2026-01-01",
        "landing": "${RECSYS_LANDING}/taobao",
        "tables": {
            "interactions": {name: spec for name, spec in columns.items() if "of" not in spec},
            "users": {"user_id": columns["user_id"], **own["user"]},
            "items": {"item_id": columns["item_id"], **own["item"]},
        },
        "label": config["label"],
        "features": config["features"],
        "split": {"strategy": "given", "parts": {"train": "train", "validation": "validation", "test": "eval"}},
        "recall": {"filter_seen": False},
    }


def land(landing: Path) -> None:
    """Write the landing files of the profile."""
    tables = {"users/rows": users(), "items/rows": items()}
    tables |= {f"interactions/bizdate=2026-01-01/{part}": rows for part, rows in clicks().items()}
    for name, table in tables.items():
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, landing / f"{name}.parquet")
