"""The tables of `recsys recommend`: what a log calls its users and items is shown as it is."""

import pytest

from recsys_assets.cli.recommend import print_rows


def test_names_that_look_like_markup_or_commands_of_a_terminal_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    titles = ["[director's cut]", "[/red] fin", ":heart: song", "naïve 🎬"]
    print_rows("[/b]7: newest rows", [{"[item]": 1, "title": title, "score": 0.123456} for title in titles])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[/b]7: newest rows", "[item]", "0.1235", *titles))
    print_rows("\x1b[2Juser", [{"title": "\x1b]0;owned\x07 film"}])
    assert "\x1b" not in (shown := capsys.readouterr().out)
    assert "]0;owned" in shown
