# ruff: noqa: E501 (each table has one case per line)
"""Faults of a profile are reported quickly when it is loaded: in one line, with file, line and key, without secrets."""

import re
import time
from pathlib import Path

import pytest

from recsys_assets.datasets import names
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import ProfileError, load_profile

OWN = """\
name: shop
title: A shop
first_bizdate: 2026-01-01
landing: incoming
tables:
  interactions:
    user_id: int64
    item_id: int64
    rating: {type: float32, min: 1, max: 5}
    timestamp: timestamp
  users: {user_id: int64, gender: string, age: int64}
  items: {item_id: int64, title: string, year: int64, genres: strings}
label: rating > 3
rating: rating
features:
  categorical: [user_id, item_id, gender]
  multi_valued: [genres]
  numeric: [year, age]
  log: [year]
  crosses: [[gender, genres]]
  terms: {column: genres}
split: {strategy: by_day}
bounds: {min_auc: 0.5}
"""
BOMB = "x0: &x0 [a, a, a, a, a, a, a, a, a]\n" + "".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 9)
)

FAULTS = [
    # fault, text, replacement, line, message
    # the text of the file
    ("key twice", "rating: rating\n", "rating: rating\nlabel: rating > 4\n", 15, "label: occurs twice, on lines 13 and 15: keep one"),
    ("column twice", "age: int64}", "age: int64, age: string}", 11, "tables.users.age: occurs twice, on lines 11 and 11"),
    ("setting twice", "min: 1, max: 5", "min: 1, min: 2", 9, "tables.interactions.rating.min: occurs twice"),
    ("tables twice", "label: rating", "tables: {}\nlabel: rating", 13, "tables: occurs twice, on lines 5 and 13"),
    ("alias bomb", "label: rating > 3", BOMB + "label: rating > 3", None, "its aliases multiply to more than 20,000 values"),
    ("alias of itself", "title: A shop", "title: &t [*t]", 2, "nests more than 12 levels deep, by its aliases"),
    ("alias of nothing", "title: A shop", "title: *gone", 2, "is not valid YAML: found undefined alias"),
    ("lists in lists", "title: A shop", "title: " + "[" * 5000 + "]" * 5000, 2, "nests more than 12 levels deep"),
    ("mappings in mappings", "title: A shop", "title: " + "{a: " * 3000 + "1" + "}" * 3000, 2, "nests more than 12 levels deep"),
    ("dashes in dashes", "title: A shop", "title:\n  " + "- " * 3000 + "x", 3, "nests more than 12 levels deep"),
    ("open bracket", "title: A shop", "title: [A shop", 3, "is not valid YAML: "),
    ("open quote", "title: A shop", "title: 'A shop", None, "is not valid YAML: "),
    ("tab", "  users:", "\tusers:", 11, "is not valid YAML: "),
    ("python tag", "title: A shop", "title: !!python/object/apply:os.system ['touch written']", 2, "the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed in a profile"),
    ("own tag", "title: A shop", "title: !secret x", 2, "the tag !secret is not allowed in a profile"),
    ("binary tag", "title: A shop", "title: !!binary aGVsbG8=", 2, "the tag .*binary is not allowed in a profile"),
    ("set tag", "title: A shop", "title: !!set {a, b}", 2, "the tag .*set is not allowed in a profile"),
    ("two documents", "label: rating > 3", "---\nlabel: rating > 3", None, "is not valid YAML: "),
    ("number as key", "title: A shop", "3: A shop", 2, "the key '3' is not text to YAML: put it in quotes"),
    ("no as a column", "gender: string", "no: string", 11, "tables.users: the key 'no' is not text to YAML: put it in quotes"),
    ("list as key", "title: A shop", "[a, b]: A shop", 2, "a key is a list or a mapping"),
    ("merge key", "title: A shop", "<<: {title: x}", 2, "the key '<<' is not text"),
    ("NUL in a text", "title: A shop", 'title: "A \\0 shop"', 2, "title: holds the code 0x0000, which is not a letter"),
    ("half a character", "title: A shop", 'title: "A \\ud800 shop"', 2, "is not valid YAML: found invalid Unicode character escape code"),
    ("escape sequence", "title: A shop", 'title: "A \\e[31m shop"', 2, "title: holds the code 0x001b"),
    ("bell", "title: A shop", "title: A \x07 shop", 2, "it holds a control character: is it a text file"),
    # dates and numbers
    ("month 13", "2026-01-01", "2026-13-01", 3, "first_bizdate: '2026-13-01' is not a date"),
    ("30 February", "2026-01-01", "2026-02-30", 3, "first_bizdate: '2026-02-30' is not a date"),
    ("a time", "2026-01-01", "2026-01-01 10:00:00", 3, "first_bizdate: "),
    ("year 1", "2026-01-01", "0001-01-01", 3, "first_bizdate: Input should be greater than or equal to 1970-01-01"),
    ("year 9999", "2026-01-01", "9999-01-01", 3, "first_bizdate: Input should be less than 2200-01-01"),
    ("last before first", "landing:", "last_bizdate: 2025-12-31\nlanding:", 4, "last_bizdate: is before first_bizdate"),
    ("nan as min", "min: 1", "min: .nan", 9, "tables.interactions.rating.min: Input should be a finite number"),
    ("inf as max", "max: 5", "max: .inf", 9, "tables.interactions.rating.max: Input should be a finite number"),
    ("-inf as min", "min: 1", "min: -.inf", 9, "rating.min: Input should be a finite number"),
    ("1e999 as max", "max: 5", "max: 1.0e+999", 9, "rating.max: Input should be a finite number"),
    ("text as max", "max: 5", "max: high", 9, "rating.max: Input should be a valid"),
    ("a number of 5,000 digits", "max: 5", "max: " + "9" * 5000, 9, "rating.max: '9+…?' is not a date, nor a number that can be held"),
    ("a number of 50 digits", "max: 5", "max: " + "9" * 50, 9, "rating.max: Input should be less than or equal to"),
    ("nan as a bound", "min_auc: 0.5", "min_auc: .nan", 23, "bounds.min_auc: Input should be"),
    ("inf as a bound", "min_auc: 0.5", "max_rejected_rate: .inf", 23, "bounds.max_rejected_rate: Input should be"),
    ("nan as a ratio", "{strategy: by_day}", "{strategy: by_day, test_ratio: .nan}", 22, "split.test_ratio: Input should be"),
    ("min above max", "min: 1, max: 5", "min: 5, max: 1", 9, "tables.interactions.rating: min 5 is above max 1"),
    ("a window of a million millions", "{column: genres}", "{column: genres, window: 1000000000000}", 21, "features.terms.window: Input should be less than or equal to 1000000"),
    ("no days to test", "{strategy: by_day}", "{strategy: by_day, test_days: 0}", 22, "split.test_days: Input should be greater than or equal to 1"),
    # column names
    ("empty", "gender: string,", "'': string, gender: string,", 11, "tables.users.: '' is not a name of letters, digits and underscores"),
    ("blank", "gender: string,", "' ': string, gender: string,", 11, "tables.users. : ' ' is not a name of letters"),
    ("NUL", "gender: string,", '"a\\0b": string, gender: string,', 11, "tables.users: holds the code 0x0000"),
    ("half a character", "gender: string,", '"a\\ud800": string, gender: string,', 11, "is not valid YAML: found invalid Unicode character"),
    ("dot", "year: int64", "price.usd: int64, year: int64", 12, "'price.usd' is not a name of letters, digits and underscores, up to 64: give it another, as in `my_price_usd: {type: …, column: 'price.usd'}`"),
    ("dollar", "year: int64", "$cost: int64, year: int64", 12, r"'\$cost' is not a name"),
    ("quote", "year: int64", "'a\"b': int64, year: int64", 12, "is not a name of letters"),
    ("slash", "year: int64", "year/rows: int64, year: int64", 12, "'year/rows' is not a name"),
    ("blank inside", "year: int64", "the year: int64, year: int64", 12, "'the year' is not a name of letters"),
    ("too long", "year: int64", f"{'x' * 65}: int64, year: int64", 12, "x…' is not a name"),
    ("case", "title: string", "title: string, Title: string", 12, "tables.items.Title: 'Title' and 'title' differ by case only, which SQL does not see"),
    ("case of a key", "gender: string", "gender: string, USER_ID: int64", 11, "'USER_ID' and 'user_id' differ by case"),
    ("case of a sign with two forms", "gender: string", "gender: string, ﬁt: int64, fit: int64", 11, "'fit' and 'ﬁt' differ by case"),
    ("a reserved name in capitals", "gender: string", "gender: string, Day: int64", 11, "'Day' is a name of the platform's own: give it another, as in `my_Day: {type: …, column: 'Day'}`"),
    ("raw", "age: int64", "age: int64, raw_age: string", 11, "'raw_age' is a name of the platform's own"),
    ("the other key", "age: int64", "age: int64, item_id: int64", 11, "'item_id' is a name of the platform's own"),
    ("one landed column twice", "title: string", "title: string, name: {type: string, column: title}", 12, "'title' of the landing file is read as several columns"),
    ("empty landed name", "title: string", "title: {type: string, column: ''}", 12, "tables.items.title.column: String should have at least 1 character"),
    ("no separator", "genres: strings", "genres: {type: strings, separator: ''}", 12, "genres.separator: String should have at least 1 character"),
    # features
    ("twice in a list", "[user_id, item_id, gender]", "[gender, gender]", 15, "features: 'gender' is named 2 times: name a feature once"),
    ("in two lists", "numeric: [year, age]", "numeric: [year, age, age]\n  min_count: 1", 15, "'age' is named 2 times"),
    ("categorical and numeric", "item_id, gender]", "item_id, gender, age]", 15, "'age' is named 2 times"),
    ("log twice", "log: [year]", "log: [year, year]", 19, "features.log: 'year' is named 2 times"),
    ("an id as a number", "numeric: [year, age]", "numeric: [year, age, user_id]", 18, "features.numeric.2: 'user_id' is a name of the platform's own"),
    ("a time as a number", "numeric: [year, age]", "numeric: [year, age, timestamp]", 18, "features.numeric.2: 'timestamp' is not a column of users or items"),
    ("cross with itself", "[[gender, genres]]", "[[gender, gender]]", 20, r"features.crosses.0: \['gender', 'gender'\] is not a pair"),
    ("cross twice", "[[gender, genres]]", "[[gender, genres], [genres, gender]]", 20, "features.crosses.1: .* are crossed twice: keep one"),
    ("number among names", "multi_valued: [genres]", "multi_valued: [3]", 17, "features.multi_valued.0: Input should be a valid string"),
    ("null among names", "multi_valued: [genres]", "multi_valued: [null]", 17, "features.multi_valued.0: Input should be a valid string"),
    # places and names of files
    ("name with a slash", "name: shop", "name: ../shop", 1, "name: String should match pattern"),
    ("name with a line break", "name: shop", 'name: "shop\\n"', 1, "name: String should match pattern"),
    ("name too long", "name: shop", f"name: {'x' * 49}", 1, "name: String should have at most 48 characters"),
    ("landing elsewhere", "landing: incoming", "landing: gs://bucket/x", 4, "landing: give a folder of this machine"),
    ("landing empty", "landing: incoming", "landing: ''", 4, "landing: give a folder of this machine"),
    ("landing without brackets", "landing: incoming", "landing: $HOME/x", 4, r"landing: a variable is written \$\{VAR\}, or \$\{VAR:-default\}"),
    ("home of nobody", "landing: incoming", "landing: ~nobody_at_all/x", 4, "landing: there is no user"),
    ("variable without end", "landing: incoming", "landing: ${HOME", 4, r"landing: holds a \$\{ that does not begin"),
    ("variable that is not set", "title: A shop", "title: ${NO_SUCH_THING}", 2, r"title: uses \$\{NO_SUCH_THING\}, which is not set in the environment: set it, or write \$\{NO_SUCH_THING:-default\}"),
    ("variable in a variable", "title: A shop", "title: ${A:-${B}}", 2, r"title: holds a \$\{ that does not begin"),
    ("other forms of variables", "title: A shop", "title: ${HOME:?gone}", 2, r"title: holds a \$\{ that does not begin"),
    # entries
    ("entries", "bounds:", "publishing: {entries: [a.b, c]}\nbounds:", 23, r"publishing.entries: \['a.b', 'c'\]: give two names"),
    ("tables of nothing", "  users: {user_id", "  users:\n  others: {user_id", 11, "tables.users: Input should be a valid dictionary"),
    ("a list of tables", "  users: {user_id", "  users: [a]\n  others: {user_id", 11, "tables.users: Input should be a valid dictionary"),
    ("label of another column", "label: rating > 3", "label: stars > 3", 13, "label: 'stars > 3': it names a column that does not exist: stars; the columns are user_id"),
    ("label that is a list", "label: rating > 3", "label: [rating]", 13, "label: Input should be a valid string"),
]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(OWN)
    return path


def said(path: Path) -> str:
    """The message of loading, which must take less than two seconds of one core."""
    start = time.process_time()
    with pytest.raises(ProfileError) as raised:
        load_profile(str(path))
    assert time.process_time() - start < 2
    message = str(raised.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 2000
    return message


@pytest.mark.parametrize(("text", "becomes", "line", "says"), [pytest.param(*rest, id=what) for what, *rest in FAULTS])
def test_a_fault_is_told_by_file_line_and_key(own: Path, text: str, becomes: str, line: int | None, says: str) -> None:
    assert text in OWN
    own.write_text(OWN.replace(text, becomes, 1))
    message = said(own)
    assert message.startswith(f"{own}, line {line}: " if line else f"{own}, line ")
    assert re.search(says, message), message
    assert not (own.parent / "written").exists()


@pytest.mark.parametrize("table", ["users", "items"])
@pytest.mark.parametrize("name", sorted(names.OF_ENTITIES))
def test_a_name_that_the_platform_makes_is_refused_with_what_to_do(own: Path, table: str, name: str) -> None:
    key = f"{table[:-1]}_id: int64"
    head, _, tail = OWN.partition(f"  {table}: {{{key}")
    own.write_text(f"{head}  {table}: {{{key}, {name.title()}: int64{tail}")
    advice = f"as in `my_{name.title()}: {{type: …, column: '{name.title()}'}}`"
    assert (
        f"tables.{table}.{name.title()}: '{name.title()}' is a name of the platform's own: give it another, {advice}"
        in said(own)
    )
    own.write_text(f"{head}  {table}: {{{key}, my_{name}: {{type: int64, column: {name}}}{tail}")
    assert load_profile(str(own)).tables[table][f"my_{name}"].column == name  # type: ignore[index]


@pytest.mark.parametrize("name", sorted(names.OF_EVENTS))
def test_a_name_that_the_platform_gives_to_events_is_refused(own: Path, name: str) -> None:
    own.write_text(OWN.replace("    timestamp:", f"    {name}: int64\n    timestamp:"))
    assert f"line 10: tables.interactions.{name}: '{name}' is a name of the platform's own" in said(own)


def test_other_names_stay_free(own: Path) -> None:
    free = "id: int64, value: int64, Ünïcode_7: string, timestamp: timestamp, n: int64, name: string, year: int64"
    own.write_text(
        OWN.replace("age: int64", f"age: int64, {free}")
        .replace("[year, age]", "[age]")
        .replace("log: [year]", "log: []")
    )
    assert {"id", "timestamp", "Ünïcode_7"} <= load_profile(str(own)).tables["users"].keys()


def test_a_rule_may_run_over_lines_and_a_separator_be_a_tab(own: Path) -> None:
    text = OWN.replace("label: rating > 3", "label: |\n  rating > 3\n  AND user_id > 0").replace(
        "genres: strings", 'genres: {type: strings, separator: "\\t"}'
    )
    own.write_text(text)
    profile = load_profile(str(own))
    assert profile.tables["items"]["genres"].separator == "\t"
    assert label_rule(profile).sql == 'TRY("rating" > 3 AND "user_id" > 0)'


def test_many_faults_are_told_at_once_and_the_rest_is_counted(own: Path) -> None:
    own.write_text(OWN.replace("age: int64", ", ".join(f"a{number}.b: int64" for number in range(9))))
    message = said(own)
    assert message.count("line 11: tables.users.a") == 5
    assert message.endswith("; and 4 more")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a mapping of keys to values"),
        (b"- a\n- b\n", "is not a mapping of keys to values"),
        (b"just a text", "is not a mapping of keys to values"),
        (b"title: Caf\xe9", "line 1: is not valid YAML: byte 0xe9 is not UTF-8: save it as UTF-8"),
        (OWN.encode("utf-16"), "line 1: is not valid YAML: byte 0xff is not UTF-8"),
        (OWN.encode("utf-32-le"), "line 1: is not valid YAML: it holds a control character"),
        (b"PAR1\x00\x01\x02", "line 1: is not valid YAML: it holds a control character: is it a text file?"),
        (b"\x80\x04\x95", "line 1: is not valid YAML: byte 0x80"),
        (b"a: 1\n" * 10, "line 2: a: occurs twice, on lines 1 and 2"),
        (b"# \n" * 400_000, "has more than 1,000,000 bytes: a profile is a short text"),
        (b"".join(b"k%d: 1\n" % n for n in range(60_000)), "line 20000: holds more than 20,000 values"),
        (b"name: " + b"x" * 900_000, "line 1: name: String should have at most 48 characters"),
        (b"? " * 400 + b"x", "nests more than 12 levels deep"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_at_once(own: Path, content: bytes, says: str) -> None:
    own.write_bytes(content)
    assert says in said(own)


def test_a_profile_may_begin_with_a_byte_order_mark_and_have_dos_line_ends(own: Path) -> None:
    own.write_bytes(b"\xef\xbb\xbf" + OWN.replace("\n", "\r\n").encode())
    assert load_profile(str(own)).name == "shop"


def test_a_profile_that_may_not_be_read_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # because root may read everything
    assert said(own) == f"{own} cannot be read: Permission denied"


@pytest.mark.parametrize("wanted", ["mine", "~nobody_at_all/x.yaml", "a\0b", ".", "/", "/dev/zero", "x" * 5000])
def test_a_path_that_is_no_profile_is_named_with_those_that_there_are(wanted: str) -> None:
    with pytest.raises(ProfileError, match="give one of criteo, movielens-1m, sample, or the path of a YAML file"):
        load_profile(wanted)


SECRET = "hunter2-kept-quiet"  # noqa: S105
PLACES = {
    "landing: incoming": "landing: {value}",
    "title: A shop": "title: {value}",
    "label: rating > 3": 'label: "{value}"',
    "rating: rating": "rating: {value}",
    "numeric: [year, age]": "numeric: ['{value}']",
    "2026-01-01": "'{value}'",
    "name: shop": "name: {value}",
    "gender: string": "gender: '{value}'",
    "{column: genres}": "{{column: '{value}'}}",
    "min: 1": "min: '{value}'",
}


@pytest.mark.parametrize(
    "variable", ["MONGO_URI", "RECSYS_REDIS_URI", "RECSYS_MILVUS_URI", "MLFLOW_TRACKING_URI", "OTHER"]
)
@pytest.mark.parametrize(
    "form", ["mongodb://me:{0}@host/db", "me:{0}@host", "{0}", "{0}://x@y@z", "rating > '{0}' + {0}"]
)
@pytest.mark.parametrize("place", PLACES)
def test_no_message_shows_the_value_of_a_variable(
    own: Path, monkeypatch: pytest.MonkeyPatch, variable: str, form: str, place: str
) -> None:
    monkeypatch.setenv(variable, form.format(SECRET))
    own.write_text(OWN.replace(place, PLACES[place].format(value=f"x${{{variable}}}"), 1))
    try:
        load_profile(str(own))
    except ProfileError as error:
        assert "hunter2" not in str(error)
        assert f"${{{variable}}}" in str(error) or place in (
            "name: shop",
            "2026-01-01",
            "gender: string",
            "min: 1",
            "{column: genres}",
        )
    else:
        assert variable == "OTHER", "a store's URI is no part of a profile"
        assert place in ("landing: incoming", "title: A shop", "name: shop")


@pytest.mark.parametrize("variable", ["MONGO_URI", "RECSYS_LANCE_URI", "RECSYS_NEW_URI", "MLFLOW_TRACKING_URI"])
def test_a_store_is_refused_by_the_name_of_its_variable(
    own: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "folder")
    own.write_text(OWN.replace("A shop", f"${{{variable}}}"))
    assert f"line 2: title: uses ${{{variable}}}, which is a URI and may hold a password" in said(own)


@pytest.mark.parametrize(
    ("text", "value", "becomes"),
    [
        ("${FOLDER}/x", "/data", "/data/x"),
        ("${FOLDER:-/else}/x", "/data", "/data/x"),
        ("${FOLDER:-/else}/x", "", "/else/x"),
        ("${FOLDER:-/else}/x", None, "/else/x"),
        ("${FOLDER:-}x", None, "{home}/x"),
        ("${FOLDER}x", "", "{home}/x"),
        ("~/x", None, "{user}/x"),
        ("${FOLDER:-~}/x", None, "{user}/x"),
        ("${FOLDER}/x", "/data/with: colon #1 $5 [a]", "/data/with: colon #1 $5 [a]/x"),
    ],
)
def test_variables_and_the_users_home_are_filled_in(
    own: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: str | None, becomes: str
) -> None:
    monkeypatch.delenv("FOLDER", raising=False)
    if value is not None:
        monkeypatch.setenv("FOLDER", value)
    own.write_text(OWN.replace("landing: incoming", f"landing: '{text}'"))
    assert load_profile(str(own)).landing == Path(becomes.format(home=own.parent, user=Path.home()))


def test_a_variable_may_stand_for_a_number_of_the_label(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARS", "4")
    own.write_text(OWN.replace("rating > 3", "rating >= ${STARS}"))
    assert load_profile(str(own)).label == "rating >= 4"
    monkeypatch.setenv("STARS", "4); DROP TABLE landed; --")
    assert "line 13: label: 'rating >= ${STARS}': it holds a comment" in said(own)
