"""`recsys deploy`: a model's towers as a service with a name, which turns features into vectors."""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from recsys_assets.serving.deployed.config import DeployConfig
    from recsys_assets.serving.deployed.record import Deployment, Home

_day = click.option("--bizdate", type=Day(), required=True, help="The day whose `onnx_<model>` answers.")
_config = click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="deploy.yaml with model, processes, memory (MiB of each process), port.",
)


@click.group()
def deploy() -> None:
    """Deploy the towers of a two-tower model as a service of this machine, by a NAME of your choice.

    The service goes on when the command has ended. `POST /vectors` turns features into vectors; RECSYS_SERVE_TOKEN is a
    token that every request must carry.
    """


@deploy.command()
@click.argument("name")
@_day
@_config
def create(name: str, bizdate: dt.date, file: Path | None) -> None:
    """Create the deployment NAME, start its service, and wait until it answers."""
    from recsys_assets.serving.deployed.record import Deployment, DeploymentExists
    from recsys_assets.serving.supervise import refuse_taken

    home, config = _home(name), _read_config(file, name)
    with home.changing():
        if home.exists:
            raise DeploymentExists(f"there is a deployment '{name}' already: `recsys deploy update {name}` changes it")
        refuse_taken(config.port)
        if "model" not in config.model_fields_set:
            config = config.model_copy(update={"model": winner(bizdate)})
        _bring_up(home, Deployment(name, config.port, 0, ()), config, bizdate)


@deploy.command()
@click.argument("name")
@_day
@_config
def update(name: str, bizdate: dt.date, file: Path | None) -> None:
    """Let a newer model answer, or other settings hold; no request fails, and each is answered by one version.

    Settings that the file does not name stay as they were.
    """
    home = _home(name)
    with home.changing():
        deployment = home.read()
        config = _read_config(file, name, deployment)
        _bring_up(home, deployment, config, bizdate)


@deploy.command()
@click.argument("name")
def describe(name: str) -> None:
    """Show as JSON what answers, where, and which versions there are."""
    from recsys_assets.serving.deployed.service import described

    home = _home(name)
    click.echo(json.dumps(described(home, home.read()), indent=2))


@deploy.command()
@click.argument("name")
@click.option("--bizdate", type=Day(), help="The newest earlier version of this day (default: the version before).")
def rollback(name: str, bizdate: dt.date | None) -> None:
    """Let an earlier version answer again."""
    from recsys_assets.serving.deployed.service import bring_up

    home = _home(name)
    with home.changing():
        deployment = home.read().back(bizdate.isoformat() if bizdate else None)
        bring_up(home, deployment)
        _say(deployment)


@deploy.command()
@click.argument("name")
def run(name: str) -> None:
    """Run the service of NAME here until Ctrl-C, as after a restart of the machine."""
    from recsys_assets.serving.deployed.service import run as run_service

    run_service(_home(name))


@deploy.command()
@click.argument("name")
def delete(name: str) -> None:
    """Stop the service of NAME, and remove the deployment with its versions."""
    from recsys_assets.serving.deployed.service import stop

    home = _home(name)
    with home.changing():
        home.read()
        stop(home)
        home.remove()
    click.echo(f"{name} is gone")


def _home(name: str) -> "Home":
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.serving.deployed.record import Home

    return Home(load_profile().name, name)


def _read_config(file: Path | None, name: str, before: "Deployment | None" = None) -> "DeployConfig":
    """The settings of a file, and for the others those of the version before, or the defaults.

    Raises:
        DeployConfigError: the file is for another deployment, or changes the port.
    """
    from recsys_assets.serving.deployed.config import DeployConfig, DeployConfigError, read_config

    given = read_config(file) if file else DeployConfig()
    if given.name not in (None, name):
        what = f"{file} is for the deployment '{given.name}', and not for '{name}'"
        raise DeployConfigError(f"{what}: give its name, or another --config")
    if before is None:
        return given
    changes = given.model_dump(include=given.model_fields_set)
    if changes.get("port", before.port) != before.port:
        raise DeployConfigError(f"{file}: '{name}' answers on port {before.port}: delete and create it to change that")
    return before.version.config.model_copy(update=changes)


def _bring_up(home: "Home", deployment: "Deployment", config: "DeployConfig", bizdate: dt.date) -> None:
    """Let a further version of a day answer."""
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.serving.deployed.record import release_of
    from recsys_assets.serving.deployed.service import bring_up
    from recsys_assets.settings import settings

    lake = Lake.of(settings().lake, load_profile())
    coming = deployment.with_version(release_of(lake, config.model, bizdate.isoformat()), config)
    bring_up(home, coming)
    _say(coming)


def winner(bizdate: dt.date) -> str:
    """The model that serves fresh items of a day."""
    from recsys_assets.coldstart.choice import serving_model
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    return serving_model(profile, Lake.of(settings().lake, profile), bizdate.isoformat()).model


def _say(deployment: "Deployment") -> None:
    from recsys_assets.serving.deployed.service import address

    made = deployment.version
    about = f"version {deployment.current} ({made.config.model} of {made.release.bizdate})"
    click.echo(f"{deployment.name}: {about} answers at {address(deployment)}")
