"""The page of the service: files that a browser loads as they are, read once, and the headers that confine them."""

from pathlib import Path

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {file.name: file.read_bytes() for file in sorted(FOLDER.iterdir()) if file.suffix in KINDS}
PATHS = frozenset({"/", "/docs", *(f"/page/{name}" for name in FILES)})  # they hold no data, so they need no token

# Scripts, styles and requests of the page's own origin only; no text becomes markup or a script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def page_routes() -> APIRouter:
    """The page at `/`, that of the interface at `/docs`, and their files."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def index() -> Response:
        return _file("index.html")

    @routes.get("/docs")
    async def docs() -> Response:
        return _file("docs.html")

    @routes.get("/page/{name}")
    async def file(name: str) -> Response:
        return _file(name)

    return routes


def _file(name: str) -> Response:
    if name not in FILES:
        raise HTTPException(404)
    return Response(FILES[name], media_type=KINDS[Path(name).suffix], headers=HEADERS)
