"""The interface as its OpenAPI document describes it: groups of routes, forms of answers, and refusals."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from recsys_assets.serving.answer_forms import ProblemDocument

LISTS, STEPS, EVENTS, DIRECTORY, HEALTH = "Lists", "Steps of a list", "Events", "The release", "Health"
FRESH, VECTORS = "Fresh items and users", "Vectors"
GROUPS = {
    LISTS: "Lists of users, and items that are alike.",
    STEPS: "Candidates by channel, and scores of the caller's own.",
    EVENTS: "Telling the service what happened.",
    DIRECTORY: "Contents of the release, its users and items, and the rules of scenes.",
    HEALTH: "For those who watch the service.",
    FRESH: "Telling the service what is new or has changed since the release.",
}
TITLES = {
    400: "The request cannot be read.",
    401: "The token is missing.",
    403: "The host or the page is not allowed.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "A value is not what it should be.",
    429: "There are too many requests.",
    431: "The headers are too large.",
    500: "This is a fault of the service.",
    503: "This cannot be answered now.",
}
_REF = f"#/components/schemas/{ProblemDocument.__name__}"
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {"application/problem+json": {"schema": {"$ref": _REF}}}}
    for status, title in TITLES.items()
}


def answers_of(form: Any) -> dict[int | str, dict[str, Any]]:
    """The answers of a route, for its `responses`: one of this form, and refusals."""
    return {200: {"model": form}, **REFUSALS}


class Interface(FastAPI):
    """An application whose OpenAPI document describes answers, refusals and the token.

    Args:
        title: of the document.
        groups: the groups of its routes, and what they are.
    """

    def __init__(self, title: str = "recsys_assets", groups: Mapping[str, str] = GROUPS) -> None:
        named = [{"name": name, "description": text} for name, text in groups.items()]
        super().__init__(
            title=title,
            version="1",
            docs_url=None,
            redoc_url=None,
            openapi_tags=named,
            generate_unique_id_function=_name,
        )

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        content = super().openapi()
        components = content["components"]
        components["schemas"][ProblemDocument.__name__] = ProblemDocument.model_json_schema()
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["security"] = [{}, {"token": []}]  # a service without a token asks for none
        return content


def _name(route: APIRoute) -> str:
    return route.name
