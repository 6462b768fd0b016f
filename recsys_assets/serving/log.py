"""The service's log: lines on its output."""


def say(sentence: str) -> None:
    """Write a sentence."""
    print(sentence, flush=True)  # noqa: T201  # the service's log is its output
