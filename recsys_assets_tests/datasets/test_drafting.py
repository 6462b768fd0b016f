"""Drafted profiles: what `recsys init` understands of a stranger's files, and what it asks or refuses."""

import datetime as dt
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.drafting.columns import column_names
from recsys_assets.datasets.drafting.draft import draft_profile
from recsys_assets.datasets.drafting.survey import SurveyError
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.profile import Profile, load_profile

TODAY = dt.date(2026, 11, 29)
START = 1_700_000_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def draft(place: Path, log: str, today: dt.date = TODAY, **others: str) -> tuple[str, Profile]:
    """The text of the profile that is drafted for a file, and the profile."""
    with connect(place) as connection:
        text = draft_profile(
            connection, "mine", place / log, {each: place / name for each, name in others.items()}, today
        )
    (place / "mine.yaml").write_text(text)
    return text, load_profile(str(place / "mine.yaml"))


def write(place: Path, name: str, *lines: str, encoding: str = "utf-8") -> str:
    (place / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return name


def ratings(place: Path) -> str:
    draw = random.Random(1)
    rows = (f"{n % 20},{draw.randrange(30)},{draw.choice([1, 2, 3, 4, 4, 5])},{START + 3600 * n}" for n in range(400))
    return write(place, "ratings.csv", "userId,movieId,rating,timestamp", *rows)


def test_ratings_and_a_table_of_items_are_understood(place: Path) -> None:
    movies = (f'{n},"Film {n}, The (1995)",{"Drama|Comedy" if n % 2 else "Action|Drama"}' for n in range(30))
    items = write(place, "movies.csv", "movieId,title,genres", *movies)
    text, profile = draft(place, ratings(place), items=items)
    assert profile.label == "rating > 3"
    assert profile.rating == "rating"
    log, films = profile.tables["interactions"], profile.tables["items"]
    assert {name: spec.column for name, spec in log.items()} == {
        "user_id": "userId", "item_id": "movieId", "rating": None, "timestamp": None,
    }  # fmt: skip
    assert (log["rating"].min, log["rating"].max) == (1, 5)
    assert films["genres"].type == "strings"
    assert profile.features.terms is not None
    assert profile.features.terms.column == "genres"
    assert profile.features.categorical == ["user_id", "item_id"]  # a title is a name, not a category
    assert profile.split.has_online
    assert profile.first_bizdate == dt.date(2023, 11, 14)
    assert len(text.splitlines()) < 40


def test_a_shop_log_has_kinds_of_events_and_columns_of_its_items(place: Path) -> None:
    draw = random.Random(2)
    rows = (
        f"{1000 * (START + 600 * n)},{draw.choice(['view', 'view', 'add_to_cart', 'purchase'])},P{n % 40:04},"
        f"brand{n % 40 % 7},{draw.randrange(50)},{n // 6}"
        for n in range(600)
    )
    log = write(place, "shop.csv", "event_time,event_type,product_id,brand,visitor,user_session", *rows)
    text, profile = draft(place, log)
    assert profile.events is not None
    assert profile.events.column == "event_type"
    assert profile.events.weights == {"view": 1, "add_to_cart": 3, "purchase": 10}
    assert profile.files.time_unit == "ms"
    assert profile.tables["interactions"]["brand"].of == "item"
    assert profile.tables["interactions"]["item_id"].type == "string"
    assert "brand" in profile.features.categorical
    assert "# user_session: " in text


def test_what_may_be_of_the_moment_is_proposed_in_comments_that_work(place: Path) -> None:
    draw = random.Random(3)
    devices = ["phone", "web", "tv"]
    rows = (f"{n % 20},{n % 31},{START + 3600 * n},{draw.choice(devices)},{draw.random()}" for n in range(400))
    text, profile = draft(place, write(place, "log.csv", "user,item,time,device,noise", *rows))
    assert profile.features.moment == []
    for proposed in ("    # device: ", "  # moment: "):
        assert proposed in text
        text = text.replace(proposed, proposed.replace("# ", ""))
    (place / "mine.yaml").write_text(text)
    assert load_profile(str(place / "mine.yaml")).features.moment == ["hour", "weekday", "device"]
    dates = (f"{n % 9},{n % 11},2026-01-{1 + n % 28:02}" for n in range(300))
    assert "# moment" not in draft(place, write(place, "dates.csv", "user,item,date", *dates))[0]


def test_rows_without_a_user_belong_to_their_visit_and_people_come_back(place: Path) -> None:
    rows = (f"{'' if n % 10 == 0 else n % 7},{n % 11},{START + 60 * n},{n // 5},{n % 3 == 0}" for n in range(700))
    _, profile = draft(place, write(place, "log.csv", "user_id,item_id,time,session_id,is_new", *rows))
    assert profile.session is not None
    assert profile.session.column == "session_id"
    assert profile.tables["interactions"]["user_id"].type == "int64"
    assert not profile.recall.filter_seen


def test_a_foreign_file_is_read_as_it_is(place: Path) -> None:
    stars = ["3", "4,5", "2,5", "5"]
    rows = (
        f"{n % 7};{n % 5};{stars[n * 7 % 4]};{1 + n % 28:02}.03.2025 12:00:{n % 60:02};Müll – {n} €" for n in range(300)
    )
    log = write(place, "log.csv", "kunde;artikel;bewertung;zeit;notiz", *rows, encoding="cp1252")
    _, profile = draft(place, log)
    assert (profile.files.separator, profile.files.encoding, profile.files.decimal) == (";", "cp1252", ",")
    assert (profile.label, profile.tables["interactions"]["bewertung"].max) == ("bewertung > 3", 5)
    assert profile.files.date_format == "%d.%m.%Y %H:%M:%S"
    assert profile.tables["interactions"]["user_id"].column == "kunde"
    assert profile.tables["interactions"]["item_id"].column == "artikel"


def test_parquet_with_lists_and_moments_is_understood(place: Path) -> None:
    times = [dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(hours=n) for n in range(600)]
    table = pa.table({"uid": [n % 9 for n in range(600)], "sku": [f"s{n % 11}" for n in range(600)], "at": times})
    pq.write_table(table, place / "log.parquet")
    tags = pa.table({"sku": [f"s{n}" for n in range(11)], "tags": [["a", "b"] if n % 2 else ["a"] for n in range(11)]})
    pq.write_table(tags, place / "items.parquet")
    _, profile = draft(place, "log.parquet", items="items.parquet")
    assert profile.tables["items"]["tags"].type == "strings"
    assert profile.last_bizdate is None  # the newest event is of last week: the log still grows
    assert profile.split.strategy == "by_day"


def test_short_histories_have_a_validation_part_too(place: Path) -> None:
    rows = (f"{n // 12},{n % 12},{START + 1000 * (n // 12) + 7200 * (n % 12)}" for n in range(60 * 12))
    _, profile = draft(place, write(place, "log.csv", "user,item,at", *rows))
    assert (profile.split.strategy, profile.split.validation_ratio) == ("per_user_tail", 0.2)


def test_users_with_one_event_each_are_split_by_day(place: Path) -> None:
    rows = (f"{n},{n % 11},{START + 3600 * n}" for n in range(300))
    text, profile = draft(place, write(place, "log.csv", "user,item,ts", *rows))
    assert profile.split.strategy == "by_day"
    assert "bounds" not in text


def test_bounds_are_those_of_the_logs_own_days(place: Path) -> None:
    """Events that repeat user, item and time, others without a user, and a day on which all clicked."""
    rows = [f"{n % 3},{n % 11},{START + 86400 * (n // 100)},{int(n // 100 == 2 or n % 3 == 0)}" for n in range(300)]
    _, profile = draft(place, write(place, "log.csv", "user,item,day,clicked", *rows, f",1,{START},0"))
    assert profile.bounds.max_rejected_rate == 0.73  # 33 of 101 events stay, and 0.05 are to spare
    assert profile.bounds.max_label_rate_change == 0.52


def test_missing_ratings_and_wrong_clocks_do_not_spoil_the_profile(place: Path) -> None:
    rows = [f"{n % 20},{n % 31},{'NaN' if n % 50 == 0 else n % 5 + 1},{START + 86400 * (n // 10)}" for n in range(400)]
    late = [f"7,7,5,{START + 86400 * 4000}" for _ in range(12)]
    text, profile = draft(place, write(place, "log.csv", "user,item,rating,timestamp", *rows, *late))
    assert profile.tables["interactions"]["rating"].max == 5
    assert profile.label == "rating > 3"
    assert profile.last_bizdate == dt.date(2023, 12, 23)
    assert profile.bounds.max_rejected_rate == 0.15  # one rating of ten, and 0.05 are to spare; no day to come counts
    assert "400 events of 40 days. 12 more have no time between 1980 and today, and do not land." in text


FAULTS = [
    ("numbers", "{seconds}", "0"),
    ("numbers and a word", "{seconds}", "unknown"),
    ("texts", "{time:%Y-%m-%d %H:%M:%S}", "unknown"),
    ("texts in a form of their own", "{time:%d/%m/%Y %H:%M}", "00/00/0000 00:00"),
]


@pytest.mark.parametrize(("form", "fault"), [pytest.param(*rest, id=what) for what, *rest in FAULTS])
def test_a_few_faults_do_not_hide_what_a_column_is(place: Path, form: str, fault: str) -> None:
    begin = dt.datetime(2025, 12, 3, tzinfo=dt.UTC)
    times = [begin + dt.timedelta(hours=n) for n in range(480)]
    written = [fault if n % 96 == 5 else form.format(time=t, seconds=int(t.timestamp())) for n, t in enumerate(times)]
    rows = (f"{n % 9},{n % 11},{'N/A' if n == 7 else n % 5 + 1},{time}" for n, time in enumerate(written))
    text, profile = draft(place, write(place, "log.csv", "user,item,rating,time", *rows))
    assert (profile.rating, profile.label) == ("rating", "rating > 2")
    assert (profile.first_bizdate, profile.last_bizdate) == (dt.date(2025, 12, 3), dt.date(2025, 12, 22))
    assert "475 events of 20 days. 5 more have no time between 1980 and today, and do not land." in text
    assert profile.tables["interactions"]["rating"].max == 5


def test_words_for_missing_values_are_found_among_numbers_and_leave_texts_alone(place: Path) -> None:
    items = [
        f"{n},{'NA' if n % 3 else n / 2},{'-' if n % 5 else 2000 + n},{'none' if n % 2 else 'glass'}" for n in range(30)
    ]
    file = write(place, "items.csv", "movieId,price,year,material", *items)
    text, profile = draft(place, ratings(place), items=file)
    assert profile.files.items.missing == ("-", "NA")
    kinds = {name: column.type for name, column in profile.tables["items"].items()}
    assert kinds == {"item_id": "int64", "price": "float32", "year": "int64", "material": "string"}
    assert "price" in profile.features.numeric


def test_a_column_with_a_number_for_a_name_and_lists_that_say_nothing_are_drafted(place: Path) -> None:
    items = [f'{n},{n % 7},{n}.5,"[""x"", ""y""]"' for n in range(30)]
    file = write(place, "items.csv", "movieId,1,true,words", *items)
    _, profile = draft(place, ratings(place), items=file)
    assert profile.tables["items"].keys() >= {"item_id", "my_1", "words"}
    assert profile.features.categorical == ["user_id", "item_id", "my_1"]
    assert (profile.features.multi_valued, profile.features.terms) == ([], None)


def test_a_visit_of_any_form_is_a_key(place: Path) -> None:
    rows = (f"{n % 9 if n % 2 else ''},i{n % 8},{n // 4}.5,{START + 60 * n}" for n in range(400))
    _, profile = draft(place, write(place, "log.csv", "user_id,item_id,session_id,timestamp", *rows))
    assert profile.session is not None
    assert profile.tables["interactions"][profile.session.column].type == "string"


def test_the_days_of_times_with_an_offset_are_those_of_utc(place: Path) -> None:
    begin = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)
    zones = [dt.timezone(dt.timedelta(hours=hours)) for hours in (-5, 0, 9)]
    times = [(begin + dt.timedelta(hours=n)).astimezone(zones[n % 3]).isoformat() for n in range(240)]
    rows = (f"{n % 9},{n % 11},{time}" for n, time in enumerate(times))
    text, profile = draft(place, write(place, "log.csv", "user,item,time", *rows))
    assert (profile.first_bizdate, profile.last_bizdate) == (dt.date(2025, 12, 1), dt.date(2025, 12, 10))
    assert "240 events of 10 days" in text


def test_ids_with_zeros_in_front_stay_text(place: Path) -> None:
    rows = (f"00{n % 9},{n % 11},{START + n}" for n in range(100))
    _, profile = draft(place, write(place, "log.csv", "user,item,ts", *rows))
    assert profile.tables["interactions"]["user_id"].type == "string"
    assert profile.tables["interactions"]["item_id"].type == "int64"


def test_a_column_without_a_telling_name_is_asked_about(place: Path) -> None:
    rows = (f"{n % 9},{n % 11},{START + n}" for n in range(100))
    text, _ = draft(place, write(place, "log.csv", "a,b,time", *rows))
    assert "# Question: is a the user?" in text
    assert "# Question: is b the item?" in text


TIMES = [("%d/%m/%Y %H:%M", None), ("%m/%d/%Y %H:%M", None), ("%m/%d/%Y", 9), ("%d %b %Y %H:%M:%S", None)]


@pytest.mark.parametrize(("form", "days"), TIMES)
def test_times_are_understood_as_they_are_written(place: Path, form: str, days: int | None) -> None:
    """Of nine days in December each may be a month: then the times would be months apart."""
    begin = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)
    times = (begin + dt.timedelta(hours=n * 24 * (days or 28) // 300) for n in range(300))
    rows = (f"{n % 9},{n % 11},{time.strftime(form)}" for n, time in enumerate(times))
    _, profile = draft(place, write(place, "log.csv", "user,item,when", *rows))
    assert profile.files.date_format == form
    assert profile.first_bizdate == dt.date(2025, 12, 1)


def test_a_name_that_looks_like_a_date_stays_a_name(place: Path) -> None:
    with connect(place) as connection:
        text = draft_profile(connection, "2026-01-05", place / ratings(place), {}, TODAY)
    (place / "mine.yaml").write_text(text)
    assert load_profile(str(place / "mine.yaml")).name == "2026-01-05"


def test_ids_with_a_point_are_text(place: Path) -> None:
    rows = (f"{n % 9}.0,{n % 11},{START + n},9.0" for n in range(100))
    _, profile = draft(place, write(place, "log.csv", "user_id,item_id,timestamp,price", *rows))
    assert profile.tables["interactions"]["user_id"].type == "string"


def test_a_file_without_names_is_understood_by_the_places_of_its_columns(place: Path) -> None:
    rows = (f"{n % 9}\t{n % 11}\t{1 + n * 7 % 5}\t{n * 0.37}\t{START + n}" for n in range(300))
    text, profile = draft(place, write(place, "u.data", *rows))
    assert list(profile.tables["interactions"]) == ["user_id", "item_id", "column2", "column3", "timestamp"]
    assert (profile.files.header, profile.label) == (False, "column2 > 2")
    assert "# Question: is column0 the user?" in text


def test_a_log_of_what_was_shown_is_asked_about(place: Path) -> None:
    rows = (f"r{n // 4},{n // 4 % 9},{n % 11},{START + n // 4},{n % 4},{int(n % 7 == 0)}" for n in range(400))
    text, profile = draft(place, write(place, "log.csv", "request_id,user,item,ts,position,clicked", *rows))
    assert profile.label == "clicked = 1"
    assert "# Question: is each row something that was shown (it has request_id, position), and clicked whether" in text


def test_names_of_columns_are_safe_and_each_is_there_once(place: Path) -> None:
    """Words of SQL and YAML, names of the platform, two names that become one, and a line break in a name."""
    names = ["user", "item", "time", "like", "On", "label", "a b", "a-b", '"x\ny: 1"', "kind of thing"]
    rows = (f"{n % 9},{n % 11},{START + n},{n % 2}," + ",".join(f"v{n % 11}" for _ in range(6)) for n in range(300))
    text, profile = draft(place, write(place, "log.csv", ",".join(names), *rows))
    columns = profile.tables["interactions"]
    assert profile.label == "my_like = 1"
    assert {"my_on", "my_label", "a_b", "a_b_2", "x_y__1", "kind_of_thing"} <= columns.keys()
    assert columns["a_b_2"].column == "a-b"
    assert "y" not in columns


def test_a_counted_name_is_not_one_that_a_column_has_already() -> None:
    columns = {("interactions", name): None for name in ("x_2", "x", "x-", "x_3", "-x")}
    with connect() as connection:
        found = column_names(connection, columns)
    assert list(found.values()) == ["x_2", "x", "x_3", "x_3_2", "x_4"]


REFUSED = [
    (
        "only days to come",
        ["user,item,time", f"1,2,{START + 86400 * 4000}"],
        "no time in time is between 1980 and",
    ),
    ("no time", ["user,item", "1,2", "2,3"], "no column looks like the time"),
    ("no rows", ["user,item,time"], "has no rows"),
]


@pytest.mark.parametrize(("lines", "says"), [pytest.param(*rest, id=what) for what, *rest in REFUSED])
def test_a_file_that_is_no_log_is_refused(place: Path, lines: list[str], says: str) -> None:
    with pytest.raises(SurveyError, match=says):
        draft(place, write(place, "log.csv", *lines))


def test_a_table_of_other_ids_is_refused(place: Path) -> None:
    items = write(place, "movies.csv", "film,name", *(f"x{n},y" for n in range(9)))
    with pytest.raises(SurveyError, match=r"movies\.csv: no column holds the ids of movieId"):
        draft(place, ratings(place), items=items)
