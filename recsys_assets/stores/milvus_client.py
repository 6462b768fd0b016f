"""The connection to a Milvus server, or to the folder of a Milvus Lite; its errors become those of `store.py`."""

from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from recsys_assets.stores.servers import extra
from recsys_assets.stores.store import StoreFull, StoreUnavailable
from recsys_assets.uris import shown, told

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_PATIENCE = 60  # seconds; without a limit pymilvus tries 75 times
_FULL = (3, 7, 9)  # Milvus' codes: no memory, no disk, a quota used up
_LITE = ".db"


class Milvus:
    """A client that connects when it is first asked; see `MilvusStore` for the URI.

    One process at a time can open the folder of a Milvus Lite: others wait for it, `_PATIENCE` seconds.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: MilvusClient | None = None
        self._turn = FileLock(f"{uri}.lock") if uri.endswith(_LITE) else None

    def __str__(self) -> str:
        return f"Milvus {shown(self._uri)}"

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of pymilvus' client.

        Raises:
            StoreFull: there is no room.
            StoreUnavailable: it cannot be reached, or refuses.
            ExtraMissing: pymilvus, or for a folder milvus-lite, is not installed.
        """
        client = self._connected()
        from pymilvus import MilvusException

        try:
            return getattr(client, method)(*args, timeout=_PATIENCE, **kwargs)
        except MilvusException as error:
            if error.code in _FULL or "No space left" in error.message:
                raise StoreFull(
                    f"{self} has no room: drop versions (keep fewer), or make room: {told(error, self._uri)}"
                ) from None
            raise StoreUnavailable(f"{self}: {method}: {told(error, self._uri)}") from None

    def close(self) -> None:
        """Disconnect, and release the folder of a Milvus Lite."""
        if self._client:
            self._client.close()
            self._client = None
            if self._turn:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(self._uri)
                self._turn.release()

    def _connected(self) -> "MilvusClient":
        with extra("milvus"):
            from pymilvus import MilvusClient, MilvusException

            if self._turn:
                import milvus_lite  # noqa: F401
        said = ""
        if self._client is None:
            self._wait()
            try:
                self._client = MilvusClient(self._uri, timeout=_PATIENCE)
            except (MilvusException, ValueError) as error:
                said = told(error, self._uri)
        if self._client is None:
            if self._turn:
                self._turn.release()
            raise StoreUnavailable(
                f"{self} cannot be opened, {said}: is it up, and is the URI right (http://USER:PASSWORD@HOST:19530)? "
                "A Milvus Lite is a path that ends in .db, in a folder that exists"
            )
        return self._client

    def _wait(self) -> None:
        """Wait until no other process has the folder open."""
        if self._turn:
            try:
                self._turn.acquire(timeout=_PATIENCE)
            except (Timeout, OSError) as error:
                raise StoreUnavailable(
                    f"{self}: another process has it open, or there is no such folder: {told(error, self._uri)}"
                ) from None
