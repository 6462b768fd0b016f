"""The row of a user by key from the store of the release; by default a service has the rows of all users in memory.

The version is that of the served release, so a row is always of the same day as everything else. The store is opened
when the first user is asked for, and again after an error: a store that is away keeps no service from starting, and the
caller goes on with the row of the release.
"""

import contextlib
from collections.abc import Iterator, Mapping

import pyarrow as pa

from recsys_assets.lake import Lake
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.online_features import MILLISECONDS, SERVER, FeaturesUnfit
from recsys_assets.serving.releases import release_store
from recsys_assets.serving.variables import InvalidVariable, milliseconds
from recsys_assets.settings import settings
from recsys_assets.stores.store import ReleaseStore

STORE, LIMIT = "RECSYS_SERVE_USERS", "RECSYS_SERVE_USERS_MS"
COLLECTION = "user"


class StoredUsers:
    """Asks the store for users of one release, each within a time limit.

    Args:
        engine: the release.
        number: its number in the store.
        seconds: the limit.
    """

    def __init__(self, engine: Engine, number: int, seconds: float) -> None:
        self._engine, self._number, self._seconds = engine, number, seconds
        self._opened = contextlib.ExitStack()
        self._store: ReleaseStore | None = None
        self._version = ""

    def __call__(self, user_id: object) -> pa.Table:
        """The row of a user, with the columns of `user_features`.

        Raises:
            FeaturesUnfit: the release has no users in the store, or the store does not know this one.
            StoreError: the store is away, or does not answer within the limit.
        """
        from pymongo import timeout

        with timeout(self._seconds):
            try:
                store = self._store or self._open()
                found = store.read(COLLECTION, [str(user_id)], self._version)
            except BaseException:
                self.close()  # within the limit: a client that is closed first looks for the server that is away
                raise
        if not len(found):
            raise FeaturesUnfit(f"{store} does not know user {user_id} in version {self._version}")
        columns = self._engine.user_columns
        return found.select(columns.names).cast(columns)

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        self._store = None
        self._opened.close()

    def _open(self) -> ReleaseStore:
        """The store, and the version that the release has of the users."""
        profile = self._engine.profile
        lake = Lake.of(settings().lake, profile)
        store = self._opened.enter_context(release_store(profile, lake))
        collections = (store.release(self._number) or {}).get("collections", {})
        if COLLECTION not in collections:
            raise FeaturesUnfit(f"release {self._number} has no collection '{COLLECTION}' in {store}")
        self._store, self._version = store, str(collections[COLLECTION]["version"])
        return store


def users_limit(environment: Mapping[str, str]) -> float | None:
    """The seconds that the store has for a user; None if users are not to be asked for.

    Raises:
        InvalidVariable: a setting is wrong, or Feast is to be asked as well.
    """
    named = environment.get(STORE, "")
    if not named:
        return None
    if named != "mongo":
        what = "only `mongo` holds releases, from whose versions users are read: set it to mongo, or unset it"
        raise InvalidVariable(f"{STORE}={named}: {what}")
    if environment.get(SERVER):
        raise InvalidVariable(f"{STORE} and {SERVER} are both set: users' features come from one of them")
    return (milliseconds(environment, LIMIT) or MILLISECONDS) / 1000


@contextlib.contextmanager
def stored_users(engine: Engine, number: int, environment: Mapping[str, str]) -> Iterator[StoredUsers | None]:
    """The users of a release in the store, as long as the block runs; None if the environment does not ask for it.

    Raises:
        InvalidVariable: a setting is wrong.
    """
    seconds = users_limit(environment)
    users = None if seconds is None else StoredUsers(engine, number, seconds)
    try:
        yield users
    finally:
        if users:
            users.close()
