"""The meaning of a surveyed log's columns: user, item and time, what was done, and how much it was liked."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from recsys_assets.datasets.drafting.date_formats import MOST
from recsys_assets.datasets.drafting.survey import Facts, Survey, SurveyError
from recsys_assets.datasets.duck import only_row, quote_name

# Words in the names of columns, in the singular, by what such columns hold in public data sets.
_USERS = (
    "user uid customer client visitor member person reader listener account buyer shopper reviewer kunde nutzer "
    "benutzer"
)
_ITEMS = (
    "item iid product article movie track song artist book sku asin video news ad listing offer restaurant poi "
    "business content document game recipe anime artikel film hotel job isbn"
)
_TIMES = "time timestamp date datetime ts created when at day zeit datum"
_RATINGS = "rating score star grade overall rate bewertung"
_LABELS = "label target click clicked bought purchased like liked conversion converted"
_NAMED: Mapping[str, frozenset[str]] = {
    role: frozenset(words.split())
    for role, words in {
        "user": _USERS,
        "item": _ITEMS,
        "time": _TIMES,
        "rating": _RATINGS,
        "label": _LABELS,
        "session": "session sid visit",
    }.items()
}
# Words in the names of columns of a log of what was shown, touched or not.
_SHOWN = frozenset(["request", "impression", "slate", "position", "slot", "shown"])
# The worth of an event next to a view, by words in the name of its kind.
_WORTH = {
    1: "view click impression pageview detail show play listen read visit open",
    3: "cart addtocart add basket wishlist favorite favourite like share save bookmark follow rent",
    10: "purchase order buy transaction bought sale checkout conversion subscribe book apply",
}
_KINDS = 12  # a column with more different values does not tell the kind of an event
_LEVELS = 21  # a rating has at most as many: from 0 to 10 in halves
_OWNED = 0.98  # share of the items, or users, with a single value from which on a column counts as theirs


@dataclass(frozen=True)
class Roles:
    """The columns of a log by what they mean; None where no column means it.

    Attributes:
        kinds: the worth of each kind of event, by its value in the column `kind`.
        owned: the columns that belong to the item, or the user, and to whom.
        reasons: for each column, why it was taken for what it is.
        questions: what could not be decided, for the person who reads the profile.
    """

    user: str
    item: str
    time: str
    rating: str | None = None
    label: str | None = None
    kind: str | None = None
    session: str | None = None
    kinds: Mapping[str, float] = field(default_factory=dict)
    owned: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    questions: Sequence[str] = ()

    @property
    def named(self) -> set[str]:
        """The columns that have a role of their own."""
        roles = (self.user, self.item, self.time, self.rating, self.label, self.kind, self.session)
        return {each for each in roles if each}


def find_roles(connection: duckdb.DuckDBPyConnection, log: Survey) -> Roles:
    """The roles of a log's columns.

    Raises:
        SurveyError: no column can be the user, the item or the time.
    """
    reasons: dict[str, str] = {}
    questions: list[str] = []
    taken: dict[str, str] = {}
    for role in ("time", "user", "item"):
        fits = _may_be_time if role == "time" else _may_be_id
        free = [each for each in log.columns.values() if each.name not in taken.values()]
        chosen = _choose(role, [each for each in free if fits(each, _is_named(role, each), log.has_names)])
        if chosen is None:
            advice = f"give the column of the {role} a name that says so, or write the profile by hand"
            raise SurveyError(f"{log.path}: no column looks like the {role}: {_list(log)}: {advice}")
        taken[role], reasons[chosen.name], sure = chosen.name, *_reason(role, chosen)
        if not sure:
            questions.append(f"is {chosen.name} the {role}? Its name does not say so")
    rest = {name: each for name, each in log.columns.items() if name not in taken.values()}
    found = _find_optional(connection, log, rest, reasons)
    questions += _shown_question(found.get("label"), rest)
    owned = _find_owned(connection, log, {n: f for n, f in rest.items() if n not in found.values()}, taken)
    kinds = _worth_of_kinds(connection, log, found.get("kind"), questions)
    return Roles(**taken, **found, kinds=kinds, owned=owned, reasons=reasons, questions=questions)


def words_of(name: str) -> set[str]:
    """The words of a column's name in the singular: `userIds` has user and id."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name) or [name]
    return {part.lower().removesuffix("s") for part in parts} | {name.lower()}


def _is_named(role: str, facts: Facts) -> bool:
    return bool(words_of(facts.name) & _NAMED[role])


def _may_be_id(facts: Facts, is_named: bool, _has_names: bool) -> bool:
    """Whether the values may be ids; numbers with a point must be named like them, because prices have one too."""
    if not facts.may_be_id or (facts.is_whole and not is_named):
        return False
    return not (_is_named("time", facts) or _is_named("rating", facts) or facts.times == 1 > facts.numbers)


def _may_be_time(facts: Facts, is_named: bool, has_names: bool) -> bool:
    """Whether the values may be times; numbers must be named like one if they can, because ids may be as large."""
    return facts.is_mostly_time and (facts.time_unit is None or is_named or not has_names)


def _choose(role: str, among: Sequence[Facts]) -> Facts | None:
    """The column that is named like the role, or else the first one; of several the one that is also named an id."""
    named = [each for each in among if _is_named(role, each)]
    ranked = sorted(named, key=lambda each: "id" not in words_of(each.name))
    return next(iter([*ranked, *among]), None)


def _reason(role: str, facts: Facts) -> tuple[str, bool]:
    """Why a column has a role, and whether its name says so."""
    named = _is_named(role, facts)
    return f"{'named like' if named else 'the first that may be'} the {role}, {facts.distinct:,} different", named


def _find_optional(
    connection: duckdb.DuckDBPyConnection, log: Survey, rest: Mapping[str, Facts], reasons: dict[str, str]
) -> dict[str, str]:
    """The columns of the rating, the label, the kind of event and the session, as far as there are any."""
    tests: dict[str, Callable[[Facts], bool]] = {
        "rating": lambda each: each.numbers >= MOST and not each.padded and 2 < each.distinct <= _LEVELS
        and (_is_named("rating", each) or not log.has_names),
        "label": lambda each: each.is_integer and each.distinct == 2 and (each.low, each.high) == (0, 1)
        and (_is_named("label", each) or "is" in words_of(each.name)),
        "kind": lambda each: each.kind == "VARCHAR" and _tells_kinds(connection, log, each),
        "session": lambda each: _is_named("session", each),
    }  # fmt: skip
    found: dict[str, str] = {}
    for role, test in tests.items():
        for name, facts in rest.items():
            if role not in found and name not in found.values() and test(facts):
                found[role] = name
                reasons[name] = f"the {role}: {facts.distinct:,} different values, such as {', '.join(facts.examples)}"
    return found


def _values(connection: duckdb.DuckDBPyConnection, log: Survey, name: str) -> list[str]:
    """The values of a column, the most frequent first."""
    value = f"CAST({quote_name(name)} AS VARCHAR)"
    rows = connection.execute(
        f"SELECT {value} AS value FROM {log.sample} WHERE {value} <> '' GROUP BY value ORDER BY count(*) DESC, value"
    ).fetchall()
    return [value for (value,) in rows]


def _tells_kinds(connection: duckdb.DuckDBPyConnection, log: Survey, facts: Facts) -> bool:
    """Whether at least half of a column's few values are named like kinds of events."""
    if not 2 <= facts.distinct <= _KINDS:
        return False
    values = _values(connection, log, facts.name)
    return 2 * sum(_worth(value) is not None for value in values) >= len(values)


def _worth(kind: str) -> float | None:
    """The worth of an event of this kind, by the words of its name; the highest counts."""
    words = words_of(kind.replace("_", " ").replace("-", " "))
    known = [worth for worth, named in _WORTH.items() if words & set(named.split())]
    return max(known, default=None)


def _worth_of_kinds(
    connection: duckdb.DuckDBPyConnection, log: Survey, column: str | None, questions: list[str]
) -> dict[str, float]:
    """The worth of each kind of event; unknown kinds are worth as much as a view, and asked about."""
    kinds = _values(connection, log, column) if column else []
    unknown = [kind for kind in kinds if _worth(kind) is None]
    questions += [f"what is an event of the kind {kind!r} worth next to a view?" for kind in unknown]
    return {kind: _worth(kind) or 1 for kind in kinds}


def _shown_question(label: str | None, rest: Mapping[str, Facts]) -> list[str]:
    """The question whether rows with a label are all that was shown."""
    shown = [name for name in rest if name != label and words_of(name) & _SHOWN]
    if not label or not shown:
        return []
    return [
        f"is each row something that was shown (it has {', '.join(shown)}), and {label} whether it was touched? Every "
        "row counts as an event here; 'What was shown' in docs/sessions.md says how both are told apart"
    ]


def _find_owned(
    connection: duckdb.DuckDBPyConnection, log: Survey, rest: Mapping[str, Facts], taken: Mapping[str, str]
) -> dict[str, str]:
    """The columns that nearly always have one value for an item, or else for a user."""
    found = {}
    for name in rest:
        for side in ("item", "user"):
            key, value = quote_name(taken[side]), quote_name(name)
            (share,) = only_row(
                connection,
                f"SELECT avg((kinds = 1)::INT) FROM (SELECT count(DISTINCT {value}) AS kinds, count({value}) AS filled "
                f"FROM {log.sample} GROUP BY {key}) WHERE filled > 1",
            )
            if name not in found and share is not None and share >= _OWNED:
                found[name] = side
    return found


def _list(survey: Survey) -> str:
    return "it has " + ", ".join(list(survey.columns)[:20])
