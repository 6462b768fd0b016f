"""Dagster's own web app behind the guard: `python -m recsys_assets.ui.webserver WORKSPACE PORT`.

Dagster executes all GraphQL that reaches it, including mutations in the URL of a GET, for every Host and Origin: any
web page could start runs with an image tag. `RECSYS_UI_HOSTS` names further hosts for a proxy in front of the server
(`dagster.example.com, other:8080`); `RECSYS_UI_TOKEN` is a token that every request must carry. Both come from the
environment, because other users can see arguments but not the environment.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import (
    DEFAULT_DB_STATEMENT_TIMEOUT,
    DEFAULT_POOL_MAX_OVERFLOW,
    DEFAULT_POOL_RECYCLE,
)
from dagster_webserver.version import __version__
from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

from recsys_assets.guard import App, Guard, Receive, Refusal, Scope, Send, hosts_in, hosts_of, listening_address, refuse

HOST = "127.0.0.1"
ASK_EVERY = 2000  # milliseconds between two requests of a page for the state of runs; Dagster's default


@dataclass(frozen=True)
class NoChangeByAddress:
    """The app, behind a filter that refuses GraphQL mutations in the URL of a request."""

    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on to the app."""
        if scope["type"] == "http" and not all(map(_only_reads, _queries(scope))):
            wrong = "the URL holds GraphQL that is not a query: send mutations by POST, as JSON"
            await refuse(Refusal(405, wrong, ((b"allow", b"POST"),)), scope, send)
        else:
            await self.app(scope, receive, send)


def _queries(scope: Scope) -> Iterator[str]:
    if scope["path"].strip("/") == "graphql":
        address = scope["query_string"].decode("latin-1")  # the app decodes it in the same way
        yield from parse_qs(address, keep_blank_values=True).get("query", ())


def _only_reads(query: str) -> bool:
    try:
        definitions = parse(query, no_location=True).definitions
    except (GraphQLError, RecursionError):
        return False
    operations = [each.operation for each in definitions if isinstance(each, OperationDefinitionNode)]
    return set(operations) == {OperationType.QUERY}


def serve(workspace: str, port: int) -> None:
    """Serve until the process receives a signal to end."""
    further = hosts_in("RECSYS_UI_HOSTS")
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        target = WorkspaceFileTarget(paths=[workspace])
        with WorkspaceProcessContext(instance, version=__version__, workspace_load_target=target) as context:
            app = NoChangeByAddress(create_app_from_workspace_process_context(context, live_data_poll_rate=ASK_EVERY))
            guard = Guard(app, hosts_of(port, further), os.environ.get("RECSYS_UI_TOKEN", ""))
            uvicorn.run(guard, host=listening_address(), port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
