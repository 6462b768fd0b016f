"""A typed client of the service, sync and async: `Client("http://127.0.0.1:8000").recommend(42, size=10)`.

It needs httpx and nothing else of the project. Both clients make the same calls, each of which is defined once: as a
request, and a function that reads the answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload
from urllib.parse import quote

import httpx

Id = int | str
Json = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3  # of a request that may be repeated, while no connection can be made or one breaks
PAUSE = 0.1  # seconds before the second try; doubled for the third


class ServiceError(Exception):
    """The service refused: `status` is that of HTTP, `detail` the sentence of the problem document (RFC 9457)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status, self.detail = status, detail


class Unreachable(ServiceError):
    """No answer came: nothing listens there, the connection broke, or the time was over."""

    def __init__(self, url: str, error: httpx.TransportError) -> None:
        super().__init__(0, f"{url} does not answer ({type(error).__name__}): is the service running there?")


@dataclass(frozen=True)
class Item:
    """An item of a list.

    Attributes:
        score: orders the list.
        probability: of the ranking model; None in lists that were not ranked.
        channels: the channels that listed it.
        more: all else that the answer has, such as the columns that `fields` names.
    """

    item_id: Id
    score: float | None = None
    probability: float | None = None
    channels: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Items:
    """A list of items, and the release that it is of; `more` has all else that the answer has.

    Attributes:
        items: best first.
        release, bizdate: the release's number and day.
        request_id, user_id: those of the answer.
        served_by: `full`, `history`, `features`, `popular`, or why the answer is less than it could be.
        model: the ranking model, as `<model>/<bizdate>`.
    """

    items: tuple[Item, ...]
    release: int
    bizdate: str
    request_id: str | None = None
    served_by: str | None = None
    model: str | None = None
    user_id: Id | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read; one that changes nothing may be sent again."""

    method: str
    path: str
    read: Callable[[Json], T]
    query: Mapping[str, str | int] | None = None
    body: Json | None = None
    repeatable: bool = True


def _read(kind: Any, content: Json, **values: Any) -> Any:
    """An instance of a dataclass from JSON; keys that it does not have go into `more`."""
    names = kind.__dataclass_fields__.keys() - {"more"}
    known = {name: value for name, value in content.items() if name in names}
    more = {name: value for name, value in content.items() if name not in names}
    return kind(**{**known, **values, "more": more})


def _item(content: Json) -> Item:
    item: Item = _read(Item, content, channels=tuple(content.get("channels", ())))
    return item


def _items(content: Json) -> Items:
    items: Items = _read(Items, content, items=tuple(map(_item, content["items"])))
    return items


def _same(content: Json) -> dict[str, Any]:
    return dict(content)


def _given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _recommend(user_id: Id | None = None, **request: Any) -> Call[Items]:
    """The list of a user; `request` has any other key of the body of `POST /recommend`."""
    body = _given(user_id=user_id) | request
    return Call("POST", "/recommend", _items, body=body)


def _similar(item_id: Id, size: int | None = None, columns: Sequence[str] = ()) -> Call[Items]:
    """Items that are like an item."""
    query = _given(size=size, fields=",".join(columns) or None)
    return Call("GET", f"/similar/{quote(str(item_id), safe='')}", _items, query)


def _tell(events: Sequence[Json]) -> Call[dict[str, Any]]:
    """Tell events; one that has an `event_id` is counted once, however often it is told."""
    whole = all("event_id" in event for event in events)
    return Call("POST", "/events", _same, body={"events": list(events)}, repeatable=whole)


def _recall(user_id: Id | None = None, **request: Any) -> Call[dict[str, Any]]:
    """The candidates of each channel."""
    return Call("POST", "/recall", _same, body=_given(user_id=user_id) | request)


def _score(user_id: Id | None = None, **request: Any) -> Call[dict[str, Any]]:
    """The caller's candidates, ordered."""
    return Call("POST", "/score", _same, body=_given(user_id=user_id) | request)


def _user(user_id: Id, size: int | None = None, columns: Sequence[str] = ()) -> Call[dict[str, Any]]:
    """Whether a user is known, and their newest events, newest first."""
    query = _given(size=size, fields=",".join(columns) or None)
    return Call("GET", f"/users/{quote(str(user_id), safe='')}", _same, query)


def _users(sample: int = 5, seed: int = 0) -> Call[dict[str, Any]]:
    """Users drawn at random; the same seed draws the same ones."""
    return Call("GET", "/users", _same, _given(sample=sample, seed=seed))


def _release() -> Call[dict[str, Any]]:
    """The contents of the release."""
    return Call("GET", "/release", _same)


def _ready() -> Call[dict[str, Any]]:
    """The release that answers; a `ServiceError` of status 503 until one is open."""
    return Call("GET", "/health/ready", _same)


class Method(Generic[P, T]):
    """A call as a method: of `Client` it returns the answer, of `AsyncClient` something to await."""

    def __init__(self, call: Callable[P, Call[T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: "Client", kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", kind: type) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, kind: type) -> Self: ...
    def __get__(self, client: "Client | AsyncClient | None", kind: type) -> Any:
        """The method of a client."""
        if client is None:
            return self
        return lambda *values, **named: client.send(self._call(*values, **named))


class _Methods:
    """The calls that both clients have."""

    recommend = Method(_recommend)
    similar = Method(_similar)
    tell = Method(_tell)
    recall = Method(_recall)
    score = Method(_score)
    user = Method(_user)
    users = Method(_users)
    release = Method(_release)
    ready = Method(_ready)


def _answer(call: Call[T], response: httpx.Response) -> T:
    """The content of an answer.

    Raises:
        ServiceError: it is a refusal.
    """
    if response.is_success:
        return call.read(response.json())
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):  # a proxy's page, for example
        detail = response.text[:300] or response.reason_phrase
    raise ServiceError(response.status_code, detail)


def _may_repeat(call: Call[Any], error: httpx.TransportError, tries: int) -> bool:
    """Whether a request is sent again: one that never left or changes nothing, unless its time ran out."""
    allowed = call.repeatable or isinstance(error, httpx.ConnectError)
    return tries < TRIES and allowed and not isinstance(error, httpx.TimeoutException)


def _options(url: str, token: str | None, timeout: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"base_url": url, "headers": headers, "timeout": timeout}


def _request(call: Call[Any]) -> dict[str, Any]:
    return {"method": call.method, "url": call.path, "params": call.query, "json": call.body}


class Client(_Methods):
    """Sends requests and waits for the answers; it keeps its connections open, and may be shared by threads.

    Args:
        url: of the service, such as `http://127.0.0.1:8000`.
        token: `RECSYS_SERVE_TOKEN` of the service.
        timeout: seconds for each step: to connect, to send, to receive.

    Every method raises a `ServiceError` for a request that is refused, and `Unreachable` if no answer comes.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 5.0) -> None:
        self._url, self._http = url, httpx.Client(**_options(url, token, timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """The answer to a call."""
        for tries in range(1, TRIES + 1):
            try:
                return _answer(call, self._http.request(**_request(call)))
            except httpx.TransportError as error:
                if not _may_repeat(call, error, tries):
                    raise Unreachable(self._url, error) from error
                time.sleep(PAUSE * 2 ** (tries - 1))
        raise AssertionError("the last try returns or raises")


class AsyncClient(_Methods):
    """The same as `Client` for asyncio: every method is awaited."""

    def __init__(self, url: str, token: str | None = None, timeout: float = 5.0) -> None:
        self._url, self._http = url, httpx.AsyncClient(**_options(url, token, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """The answer to a call."""
        for tries in range(1, TRIES + 1):
            try:
                return _answer(call, await self._http.request(**_request(call)))
            except httpx.TransportError as error:
                if not _may_repeat(call, error, tries):
                    raise Unreachable(self._url, error) from error
                await asyncio.sleep(PAUSE * 2 ** (tries - 1))
        raise AssertionError("the last try returns or raises")
