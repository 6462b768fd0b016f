"""200 requests that nobody means well: as bytes of HTTP, so that no library corrects them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

HOST, USER = "HOST", "301"  # HOST stands for the server's own name, USER for a user whom the service knows
SURROGATE = '"\\ud800"'  # half of a pair: valid in JSON, and no text


@dataclass(frozen=True)
class Hostile:
    """A request, and the statuses that an honest server may answer; none: it may also close the connection."""

    name: str
    raw: bytes
    allowed: tuple[int, ...]


def request(
    method: str, target: str, body: bytes | None = None, headers: tuple[str, ...] = (), host: str = HOST
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


BODIES = [
    b"", b"{", b"}", b"[]", b"null", b"true", b"1", b'"x"', b"{]", b"{'user_id': 1}", b'{"user_id": 1,}', b"\x00",
    b"\xff\xfe", b'{"user_id": "\xff"}', b"\xef\xbb\xbf{}x", b'{"user_id": 1} {"user_id": 2}', b"<xml/>", b"user_id=1",
    b"[" * 100_000, b'{"a":' * 50_000, b"[" * 500 + b"]" * 500, b'{"user_id": 1' + b"0" * 10_000 + b"}",
    b'{"user_id": 1e400}', b'{"user_id": -1e400}', b'{"size": NaN}', b'{"size": Infinity}', b'{"size": -Infinity}',
    b'{"size": 1e2.5}', b'{"size": 0x10}', b'{"size": 01}', b"{\"size\": 5, \"size\": 0}",
]  # fmt: skip
VALUES = {
    "size": ["0", "-1", "201", "1.5", '"5"', "true", "[]", "{}", "1e400", "10000000000000000000000"],
    "user_id": ["1.5", "true", "[]", "{}", '"x"', '"1e3"', '""', '"\\u0000"', '"١"x', SURROGATE, "1e30", str(2**63),
                str(-(2**63) - 1), f'"{"9" * 5000}"', '"../../etc/passwd"', '"1; DROP TABLE users"', '"NaN"', '"30_1"',
                '" 301"', '"٣٠١"'],
    "exclude": ["1", "{}", "[null]", "[[1]]", "[{}]", '["x"]', f"[{2**64}]", f"[{SURROGATE}]", "[1.5]", "[NaN]",
                json.dumps([1] * 10_001), json.dumps(["1\u0000"])],
    "restrict": ["1", "{}", "[null]", '["x"]', '""', '"1 = 1"', '"year >"', '"drop table items"', '"year == 1 or 1"',
                 '"(select 1)"', f'"{"(" * 200}"', f'"{"not " * 100}year"', SURROGATE, '"read_csv(\'/etc/passwd\')"'],
    "fields": ["1", '"title"', "[1]", "[null]", '["secret"]', '[""]', '["__class__"]', f"[{SURROGATE}]",
               json.dumps(["title"] * 51), '["../title"]'],
    "history": ["1", "{}", "[1]", "[{}]", '[{"item_id": null}]', '[{"item_id": 1, "label": 2}]',
                '[{"item_id": 1, "label": "1"}]', '[{"item_id": 1, "label": NaN}]', '[{"item_id": 1, "x": 1}]',
                '[{"item_id": "x"}]', f'[{{"item_id": {SURROGATE}}}]', json.dumps([{"item_id": 1}] * 1001)],
    "context": ["1", "[]", '{"x": 1}', '{"hour": []}', '{"hour": 1.5}', f"{{{SURROGATE}: 1}}",
                f'{{"hour": {SURROGATE}}}', f'{{"hour": {10**400}}}', json.dumps({str(each): 1 for each in range(51)})],
    "judged": ['"maybe"', "2", "[]", "{}", "null"],
    "scene": ["1", "[]", '"nowhere"', SURROGATE, f'"{"x" * 49}"', '"../scenes"'],
    "variants": ["1", "[]", '{"a": 1}', '{"nowhere": "x"}', f"{{{SURROGATE}: {SURROGATE}}}"],
    "visitor": ["1", SURROGATE, '""', "[]", f'"{"x" * 201}"'],
    "__proto__": ["{}"],
}  # fmt: skip
TARGETS = [
    "/recommend/30_1", "/recommend/%20301", "/recommend/%d9%a3%d9%a0%d9%a1", "/users/30_1", "/similar/1_0",
    "/recommend/abc", "/recommend/1.5", "/recommend/%00", "/recommend/1%00", "/recommend/%ff", "/recommend/%d9%a1x",
    "/recommend/..%2f..%2fetc%2fpasswd", "/recommend/../../etc/passwd", "/recommend/" + "9" * 400, "/recommend/-",
    "/recommend/1?size=0", "/recommend/1?size=201", "/recommend/1?size=x", "/recommend/1?size=1e2", "/users?sample=",
    "/recommend/1?size=5&size=0", "/recommend/1?judged=maybe", "/recommend/1?fields=secret", "/recommend/1?fields=%00",
    "/recommend/1?exclude=x", "/recommend/1?exclude=1,,x", "/recommend/1?scene=nowhere", "/recommend/1?fields=%ff",
    "/similar/x", "/similar/987654321", "/similar/%00", "/similar/..%2fx", "/similar/1?size=0", "/similar/-1",
    "/users/x", "/users/%0d%0aX-Injected:%201", "/users?sample=0", "/users?sample=101", "/users?seed=-1",
    "/users?seed=x", "/items", "/items?query=", "/items?query=" + "x" * 201, "/items?query=e&fields=secret",
    "/page/../app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/app.js%00", "/page//etc/passwd", "/.env",
    "/etc/passwd", "//evil.example/", "/%2e%2e/%2e%2e/etc/passwd", "/recommend/batch/../x", "/health/nothing",
]  # fmt: skip


def bodies() -> Iterator[Hostile]:
    """Bodies that are no JSON, no object, or have a value that is not what it should be."""
    for number, body in enumerate(BODIES):
        yield Hostile(f"body {number} {body[:20]!r}", request("POST", "/recommend", body), (400, 422))
    for key, values in VALUES.items():
        for value in values:
            of_user = "" if key == "user_id" else f'"user_id": {USER}, '  # of whom something is known
            body = f'{{{of_user}"{key}": {value}}}'.encode()
            yield Hostile(f"{key} {value[:30]}", request("POST", "/recommend", body), (400, 422))


def targets() -> Iterator[Hostile]:
    """Addresses and methods."""
    for target in TARGETS:
        yield Hostile(f"GET {target[:40]}", request("GET", target), (400, 404, 422))
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"):
        yield Hostile(method, request(method, "/recommend/1"), (400, 404, 405))


def heads() -> Iterator[Hostile]:
    """Hosts, origins and headers."""
    for host in ("evil.example", "", "127.0.0.1", "127.0.0.1:1", "[::1", "a b", "evil.example\r\nHost: HOST"):
        yield Hostile(f"host {host!r}", request("GET", "/release", host=host), (400, 403))
    for origin in ("http://evil.example", "null", "file://", "http://HOST.evil.example", "x"):
        yield Hostile(f"origin {origin}", request("GET", "/release", headers=(f"Origin: {origin}",)), (403,))
    big = ("X-Big: " + "x" * 100_000,)
    yield Hostile("a large header", request("GET", "/release", headers=big), (400, 413, 431))
    many = tuple(f"X-{number}: x" for number in range(20_000))
    yield Hostile("many headers", request("GET", "/release", headers=many), (400, 413, 431))
    yield Hostile("a long address", request("GET", "/items?query=" + "x" * 200_000), (400, 413, 414, 422, 431))


def framings() -> Iterator[Hostile]:
    """Bodies whose length is not what is said, as those who smuggle a second request send them."""
    two = b"GET /users HTTP/1.1\r\nHost: HOST\r\n\r\n"
    post = "POST /recommend HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n"
    for name, lines, body in (
        ("two lengths", "Content-Length: 2\r\nContent-Length: 40\r\n", b"{}" + two),
        ("length and chunks", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + two),
        ("chunks twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n" + two),
        ("chunks", "Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        ("a strange coding", "Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + two),
        ("a negative length", "Content-Length: -1\r\n", b"{}"),
        ("a length with a sign", "Content-Length: +2\r\n", b"{}"),
        ("a length in words", "Content-Length: two\r\n", b"{}"),
        ("a huge length", "Content-Length: 99999999999999999999\r\n", b"{}"),
        ("a large body", f"Content-Length: {2 << 20}\r\n", b"x" * (2 << 20)),
        ("a space before the colon", "Content-Length : 2\r\n", b"{}"),
        ("a folded header", "X: 1\r\n Content-Length: 2\r\n", b"{}"),
    ):
        raw = (post + lines + "\r\n").encode() + body
        yield Hostile(name, raw, (400, 413, 422, 501))
    for name, raw in (
        ("no HTTP", b"hello\r\n\r\n"),
        ("a version that is not there", b"GET / HTTP/9.9\r\nHost: HOST\r\n\r\n"),
        ("no version", b"GET /\r\n\r\n"),
        ("TLS", bytes.fromhex("16030100a1010000") + b"\x00" * 160),
        ("NUL in the address", b"GET /\x00 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("NUL in a header", b"GET / HTTP/1.1\r\nHost: HOST\r\nX: \x00\r\n\r\n"),
        ("a bare line feed", b"GET / HTTP/1.1\nHost: evil.example\n\n"),
        ("an address of another server", b"GET http://evil.example/release HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        ("HTTP 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ):
        yield Hostile(name, raw, (400, 403, 404, 405))


HOSTILE = [*bodies(), *targets(), *heads(), *framings()]
