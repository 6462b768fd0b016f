"""How a command line names a profile."""

from pathlib import Path

import click


class NameOrPath(click.ParamType[str]):
    """A bundled profile's name, or the path of a YAML file, which counts from the current folder.

    Places in settings count from the project's folder, where every process that a run starts looks for them.
    """

    name = "name or path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The name as it is, or the absolute path of a file that is there."""
        path = Path(value)
        return str(path.resolve()) if path.suffix and path.is_file() else value
