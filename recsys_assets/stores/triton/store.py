"""Triton: a collection is a model, a version a folder of files in the model repository, live what the server serves.

The repository is a folder that the server reads too, with one folder per model:

* `<number>/` holds the files of a version and its name (`version`); its number is that of `version_number`;
* `config.pbtxt` is the configuration of the live version, with the numbers of the versions that the server loads: the
  live one, and the one before it if it takes the same inputs, so that a client that still asks for that one finds it.
  The live one has the highest number, so a request that names no version gets it;
* `configs/onnxruntime.pbtxt` is the same for the onnxruntime backend (`--model-config-name=onnxruntime`).

To go live, the configuration is replaced and the server is asked to load the model. It loads the new version while the
old one serves, and unloads the old one afterwards; if it cannot load it, the old configuration comes back. Models
switch one after another in the order of their names.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from recsys_assets.datasets.disk import private_folder, sync_tree
from recsys_assets.datasets.folders import clear_leftovers, file_hash, new_folder, replacing
from recsys_assets.settings import settings
from recsys_assets.stores.base import Address, StoreBase
from recsys_assets.stores.publish import version_name
from recsys_assets.stores.store import KEY, StoreError, StoreFull, StoreUnavailable, Unrepresentable
from recsys_assets.stores.triton.client import TritonClient
from recsys_assets.stores.triton.config import BACKENDS, CONTENT, FILES, config_name, policy
from recsys_assets.uris import safe_uri

CHAMPION = "champion"  # the model that ranks
FORM = "1"  # of the other files of a version; raise it to make new versions from the same ONNX files
CONFIG, CONFIGS = "config.pbtxt", "configs"
TRIAL = ".trial"  # ends the name of a model that is loaded to be compared, before it goes live
LOADING = 120.0  # seconds that the server may take to load a model; usually 1 to 3
_NAME, _OWNER = "version", ".owner"
_LIVE = re.compile(r"# live: (\S+)\nversion_policy .*versions: \[ ([\d, ]+) \]")


def version_number(version: str) -> int:
    """The number of a version in Triton: the digits of its bizdate, and ten digits that stand for its digest."""
    day, _, digest = version.partition(".")
    return int(day.replace("-", "")) * 10**10 + int(digest, 16) % 10**10


def model_version(bizdate: str, file: Path) -> str:
    """The version of an ONNX file that is published for a bizdate."""
    return version_of(bizdate, file_hash(file))


def version_of(bizdate: str, sha256: str) -> str:
    """The same, given the hash of the file."""
    return version_name(bizdate, FORM, sha256)


def repository(profile: str) -> Path:
    """The model repository of a profile."""
    return settings().triton / profile


class TritonStore(StoreBase):
    """The models of a repository, and the server at an address; see `Store` for its methods.

    Args:
        uri: of the server, `http://HOST:PORT`.
        prefix: the profile, whose repository it is.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        super().__init__(Address(safe_uri(uri), uri))
        if not re.match(r"https?://", uri):
            raise StoreError(f"{self} is not the address of a Triton server: write http://HOST:PORT")
        self._folder, self.client = repository(prefix), TritonClient(uri, LOADING)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`: the rows are files, with their names as keys."""
        if table.schema != FILES:
            raise Unrepresentable(f"{self} holds files of models: rows of {KEY} and {CONTENT}")
        home, number = self._folder / collection, str(version_number(version))
        if (home / number).exists():
            return
        with self._translate_errors():
            private_folder(home)
            clear_leftovers(home, "")
            draft = new_folder(home, "", number)
            try:
                for name, content in zip(table[KEY].to_pylist(), table[CONTENT].to_pylist(), strict=True):
                    (draft / name).write_bytes(content)
                (draft / _NAME).write_text(version, encoding="utf-8")
                sync_tree(draft)
                draft.rename(home / number)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`: the files that were written, without what Triton compiles next to them."""
        files = sum(each.is_file() for each in self._version_folder(collection, version).iterdir())
        return files - 1

    def live_version(self, collection: str) -> str | None:
        """See `Store.live_version`: what the configuration says."""
        return self._served(collection)[0]

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`: one model after another."""
        for collection, version in versions.items():
            self._version_folder(collection, version)
        for collection in sorted(versions):
            self._switch(collection, versions[collection])

    @contextmanager
    def trial(self, collection: str, version: str) -> Iterator[str]:
        """The name of a model of this version alone, which the server has loaded for the block, next to the live one.

        Raises:
            TritonRefused: the server cannot load it.
        """
        name, source = f"{collection}{TRIAL}", self._version_folder(collection, version)
        place = self._folder / name
        shutil.rmtree(place, ignore_errors=True)  # of an interrupted trial
        shutil.copytree(source, place / source.name)
        _write_configs(place, source, version, [version_number(version)])
        try:
            with self._translate_errors():
                self.client.load(name)
                yield name
                self.client.unload(name)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def owner(self) -> str | None:
        """See `Store.owner`."""
        file = self._folder / _OWNER
        return file.read_text(encoding="utf-8") if file.exists() else None

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        private_folder(self._folder)
        with replacing(self._folder / _OWNER) as coming:
            coming.write_text(owner, encoding="utf-8")

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`; the policy does not name it any more, so that the server can start without it."""
        home, number = self._folder / collection, version_number(version)
        live, numbers = self._served(collection)
        if version == live:
            (home / CONFIG).unlink()
        elif live and number in numbers:
            _write_configs(home, self._version_folder(collection, live), live, [version_number(live)])
        if (home / str(number)).exists():
            away = new_folder(home, "", str(number))  # in one step, so that nobody reads a half of it
            (home / str(number)).rename(away / "dropped")
            shutil.rmtree(away, ignore_errors=True)

    def models(self) -> list[str]:
        """The models that have a live version: those that a server loads when it starts."""
        return [collection for collection in self.collections() if self._served(collection)[0]]

    def _entries(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for file in sorted(self._folder.glob(f"[!.]*/[0-9]*/{_NAME}")):
            with contextlib.suppress(FileNotFoundError):  # it was dropped meanwhile
                found.append((file.parts[-3], file.read_text(encoding="utf-8")))
        return [each for each in found if not each[0].endswith(TRIAL)]

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        folder = self._version_folder(collection, version)
        found: dict[str, bytes] = {}
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                found[key] = (folder / key).read_bytes()
        self._version_folder(collection, version)  # it may have been dropped meanwhile
        return pa.table([list(found), list(found.values())], schema=FILES)

    def _switch(self, collection: str, version: str) -> None:
        """Let the server serve a version of a model, and the one before it where both take the same inputs."""
        home, source = self._folder / collection, self._version_folder(collection, version)
        before = [each for each in self.versions(collection) if version_number(each) < version_number(version)]
        former = max(before, key=version_number, default=None)
        numbers = [version_number(version)]
        if former and _same_inputs(source, self._version_folder(collection, former)):
            numbers.append(version_number(former))
        live, served = self._served(collection)
        _write_configs(home, source, version, numbers)
        try:
            with self._translate_errors(f"{collection} {version} cannot go live"):
                self.client.load(collection)
        except StoreError:
            if live:
                _write_configs(home, self._version_folder(collection, live), live, served)
            else:
                (home / CONFIG).unlink()
            raise

    def _served(self, collection: str) -> tuple[str | None, list[int]]:
        """The live version, and the numbers that the server loads, the live one first; none: nothing is live."""
        file = self._folder / collection / CONFIG
        found = _LIVE.search(file.read_text(encoding="utf-8")) if file.exists() else None
        return (found[1], [int(each) for each in found[2].split(",")]) if found else (None, [])

    def _version_folder(self, collection: str, version: str) -> Path:
        folder = self._folder / collection / str(version_number(version))
        if not folder.exists():
            raise self._missing_version(collection, version)
        return folder

    def _translate(self, error: Exception, said: str) -> StoreError | None:
        import httpx

        if isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
            return StoreUnavailable(f"{self} does not answer: {said}: start it with `recsys triton serve`")
        if isinstance(error, OSError) and "No space left" in said:
            return StoreFull(f"{self} has no room in {self._folder}: {said}")
        return None


def _write_configs(home: Path, source: Path, version: str, numbers: list[int]) -> None:
    """Replace the configurations of a model by those of a version, of which these numbers are served."""
    (home / CONFIGS).mkdir(exist_ok=True)
    for backend in reversed(BACKENDS):
        place = home / CONFIG if backend == BACKENDS[0] else home / CONFIGS / config_name(backend)
        text = (source / config_name(backend)).read_text(encoding="utf-8")
        with replacing(place) as coming:
            coming.write_text(text + policy(version, numbers), encoding="utf-8")


def _same_inputs(one: Path, other: Path) -> bool:
    """Whether two versions have the same configuration, which a model has once for all of its versions."""
    return all((one / config_name(each)).read_bytes() == (other / config_name(each)).read_bytes() for each in BACKENDS)
