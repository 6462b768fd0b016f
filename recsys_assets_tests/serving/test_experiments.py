"""Experiments: buckets are the same everywhere, shares are as given, layers are independent of each other."""

import numpy as np
import pytest

from recsys_assets.serving.requests import Problem
from recsys_assets.serving.scenes.experiments import Experiments, bucket, draw
from recsys_assets.serving.scenes.form import Layer, Rules

MANY = 100_000
RULES = Rules.model_validate(
    {
        "scenes": {"home": {"size": 20, "channels": {"fm": 2.0}}},
        "layers": {
            "recall": {
                "keys": ["channels"],
                "variants": {"a": {"share": 0.2, "channels": {"fm": 0}}, "b": {"share": 0.3, "channels": {}}},
            },
            "layout": {"keys": ["size", "order"], "variants": {"short": {"share": 0.5, "size": 5, "order": "merged"}}},
        },
    }
)


def test_a_bucket_is_fixed_by_layer_and_user_alone() -> None:
    assert bucket("recall", 42) == bucket("recall", "42") == 0.43199686547492366
    assert bucket("layout", 42) == 0.29778350502095186
    assert bucket("recall", "ü") == 0.7311667861660442


def test_shares_are_as_given_and_layers_are_independent() -> None:
    recall, layout = RULES.layers["recall"], RULES.layers["layout"]
    found = np.array([(draw("recall", recall, user), draw("layout", layout, user)) for user in range(MANY)])
    for name, share in (("a", 0.2), ("b", 0.3), ("control", 0.5)):
        rows = found[:, 0] == name
        assert abs(rows.sum() - share * MANY) < 5 * np.sqrt(MANY * share * (1 - share))
        short = (found[rows, 1] == "short").sum()
        assert abs(short - rows.sum() / 2) < 5 * np.sqrt(rows.sum() / 4)


def test_raising_a_share_moves_nobody_out_of_a_variant() -> None:
    smaller, larger = (
        Layer.model_validate({"keys": ["size"], "variants": {"a": {"share": share, "size": 5}}}) for share in (0.1, 0.2)
    )
    small = {user for user in range(2000) if draw("x", smaller, user) == "a"}
    assert small < {user for user in range(2000) if draw("x", larger, user) == "a"}


def test_a_variant_changes_its_keys_and_no_others() -> None:
    chosen = Experiments(RULES).choose("home", None, {"recall": "a", "layout": "short"})
    assert chosen
    assert (chosen.scene.size, chosen.scene.channels, chosen.scene.order) == (5, {"fm": 0}, "merged")
    plain = Experiments(RULES).choose("home", None, {})
    assert plain
    assert (plain.scene, plain.variants) == (RULES.scenes["home"], {"recall": "control", "layout": "control"})


def test_the_scene_default_answers_requests_that_name_none() -> None:
    assert Experiments(RULES).choose(None, 1, {}) is None
    with_default = RULES.model_copy(update={"scenes": {"default": RULES.scenes["home"]}})
    found = Experiments(with_default).choose(None, 1, {})
    assert found
    assert found.name == "default"


@pytest.mark.parametrize(
    ("scene", "forced", "said"),
    [
        ("hom", {}, "there is no scene 'hom'; the scenes are home"),
        ("home", {"x": "a"}, "there is no layer 'x'; the layers are recall, layout"),
        ("home", {"recall": "x"}, "layer 'recall' has no variant 'x'; the variants are a, b, control"),
        (None, {"recall": "a"}, "they change a scene, and the request names none"),
    ],
)
def test_an_unknown_scene_layer_or_variant_is_refused(scene: str | None, forced: dict[str, str], said: str) -> None:
    with pytest.raises(Problem, match=said):
        Experiments(RULES).choose(scene, 1, forced)
