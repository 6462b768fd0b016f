"""Which scene, with which variant of each layer of experiments, answers a request."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from recsys_assets.serving.requests import Problem
from recsys_assets.serving.scenes.form import CONTROL, DEFAULT, Layer, Rules, Scene

MOST_SETTLED = 512  # scenes with variants that are kept


@dataclass(frozen=True, eq=False)
class Settled:
    """A scene as one answer follows it, after the changes of the variants, which are given by layer.

    It is compared by identity: the same scene with the same variants is the same object.
    """

    name: str
    variants: Mapping[str, str]
    scene: Scene


class Experiments:
    """Chooses scenes and variants by the rules of one file."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.fingerprint = hashlib.sha256(rules.model_dump_json().encode()).hexdigest()[:16]
        self.settled = lru_cache(MOST_SETTLED)(self._settle)

    def choose(self, scene: str | None, unit: object, forced: Mapping[str, str]) -> Settled | None:
        """The scene of a request; None if it names none and there is no scene `default`.

        Args:
            scene: as the request names it.
            unit: the user, or the visitor; None for somebody unknown, who is in the control of every layer.
            forced: variants by layer, for previews.

        Raises:
            Problem: there is no such scene, layer or variant.
        """
        name = scene or (DEFAULT if DEFAULT in self.rules.scenes else None)
        self._check(name, forced)
        if name is None:
            return None
        drawn = {each: draw(each, layer, unit) for each, layer in self.rules.layers.items()}
        return self.settled(name, tuple((drawn | dict(forced)).items()))

    def chances(self, variants: Mapping[str, str], unit: object, forced: Mapping[str, str]) -> dict[str, float]:
        """By layer, the probability with which a user got their variant; 1 if it was forced, or nobody was drawn."""
        return {
            layer: 1.0 if unit is None or layer in forced else self.rules.layers[layer].chance(variant)
            for layer, variant in variants.items()
        }

    def _settle(self, name: str, variants: tuple[tuple[str, str], ...]) -> Settled:
        """A scene with the changes of these variants."""
        scene = self.rules.scenes[name]
        for layer, variant in variants:
            if variant != CONTROL:
                chosen = self.rules.layers[layer].variants[variant]
                scene = scene.model_copy(update={key: getattr(chosen, key) for key in chosen.changes})
        return Settled(name, dict(variants), scene)

    def _check(self, name: str | None, forced: Mapping[str, str]) -> None:
        if name is not None and name not in self.rules.scenes:
            raise Problem(422, f"scene: there is no scene '{name}'; {_those('scenes', self.rules.scenes)}")
        if forced and name is None:
            raise Problem(422, "variants: they change a scene, and the request names none")
        for layer, variant in forced.items():
            if layer not in self.rules.layers:
                raise Problem(422, f"variants: there is no layer '{layer}'; {_those('layers', self.rules.layers)}")
            known = {**self.rules.layers[layer].variants, CONTROL: None}
            if variant not in known:
                raise Problem(422, f"variants: layer '{layer}' has no variant '{variant}'; {_those('variants', known)}")


def draw(name: str, layer: Layer, unit: object) -> str:
    """The variant of a user in a layer: that in whose part of [0, 1) the user's bucket is, in the file's order."""
    place, end = bucket(name, unit), 0.0
    for variant, settings in layer.variants.items() if unit is not None else ():
        end += settings.share
        if place < end:
            return variant
    return CONTROL


def bucket(layer: str, unit: object) -> float:
    """A number in [0, 1) for a user in a layer: the first 53 bits of the SHA-256 of `<layer>#<user>`, over 2^53."""
    digest = hashlib.sha256(f"{layer}#{unit}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _those(what: str, names: Mapping[str, object]) -> str:
    """The sentence that says what there is."""
    return f"the {what} are {', '.join(names)}" if names else f"the profile's file of scenes has no {what}"
