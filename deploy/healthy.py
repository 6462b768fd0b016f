"""Exit with 0 if a server is well: `python healthy.py ADDRESS [VARIABLE]`, for the health checks of compose.yaml.

ADDRESS is a page that answers with 200, or `unix:PATH`, the socket of Dagster's code server. VARIABLE is the name of
the environment variable that holds the server's token, if it has one. It imports little, because it runs all day long.
"""

import os
import sys
import urllib.request

SECONDS = 5


def main(address: str, variable: str = "") -> None:
    """Raise an error if the server does not answer, or says that it is not well."""
    if address.startswith("unix:"):
        ask_code_server(address)
        return
    token = os.environ.get(variable, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  the address is in compose.yaml
    urllib.request.urlopen(request, timeout=SECONDS).close()  # noqa: S310


def ask_code_server(address: str) -> None:
    """Ask as `dagster api grpc-health-check` does, which imports all of Dagster."""
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with grpc.insecure_channel(address) as channel:
        said = HealthStub(channel).Check(HealthCheckRequest(service="DagsterApi"), timeout=SECONDS)
    if said.status != HealthCheckResponse.SERVING:
        sys.exit(f"{address} says {HealthCheckResponse.ServingStatus.Name(said.status)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
