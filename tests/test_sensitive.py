"""Sensitive categories stay out of personas unless somebody lets them in."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.persona import clean_lines
from persona_agent.sensitive import WordLists, categories, shipped


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Was diagnosed with asthma.", ("health",)),
        ("A devout Muslim who prays daily", ("religion",)),
        ("Votes for the Labour Party", ("politics",)),
        ("Is gay", ("sexuality",)),
        ("Is Hispanic", ("ethnicity",)),
        ("His sister's mail is ann@example.com", ("contact",)),
        ("Call his wife at +44 20 7946 0958", ("contact",)),
        ("Mother lives at 12 Abbey Road", ("contact",)),
        ("Call (030) 123 456 before 2023-05-08", ("contact",)),
        ("2023-05-08-1234 is the office's line", ("contact",)),
        ("Met at the lake (2023-05-08, 08:30)", ()),
        ("Gives comedies 4 of 5; likes films of 1994 and 1995", ()),
        ("Rates .8 above others over 31 films", ()),
        ("Aids his neighbours", ("health",)),  # a list of words errs
        ("", ()),
    ],
)
def test_categories(text: str, found: tuple[str, ...]) -> None:
    assert categories(text) == found


def test_a_sensitive_line_is_left_out_with_its_category_and_can_be_let_in() -> None:
    texts = ["likes short films", "is diabetic"]
    lines, refused = clean_lines(texts, "summary", ["e1"])
    assert [line.text for line in lines] == ["likes short films"]
    assert len(refused) == 1
    assert "health" in refused[0]
    assert len(clean_lines(texts, "summary", ["e1"], sensitive=True)[0]) == 2


def test_other_lists_are_added_or_take_the_place_of_those_that_ship() -> None:
    german = WordLists.parse("# German\nhealth: zuckerkrank*, asthma\nunion: gewerkschaft*")
    both = shipped() | german
    assert categories("ist zuckerkrank", both) == ("health",)
    assert categories("Is diabetic, in der Gewerkschaft", both) == ("health", "union")
    assert categories("Is diabetic", german) == ()
    lines, refused = clean_lines(["ist zuckerkrank", "mag Filme"], "summary", ["e1"], words=both)
    assert ([one.text for one in lines], len(refused)) == (["mag Filme"], 1)


@pytest.mark.parametrize("words", [[], ["", "x"], [" "]])
def test_an_empty_list_or_word_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="the words of 'health'"):
        WordLists({"health": words})


DATES = st.dates(date(1900, 1, 1), date(2099, 12, 31))
FORMS = st.sampled_from(["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%m-%Y"])
AROUND = st.sampled_from(
    [
        "Has cycled to work since {}.",
        "{}",
        "Moved ({}) to a flat",
        "Rated 10 films on {} 12 times",
        "Was away from {} to {}",
        "{} {} {}",
        "Saw it on {}T08:30:15 and {} 08:30",
    ]
)
GROUPS = st.lists(st.from_regex(r"[0-9]{3,4}", fullmatch=True), min_size=2, max_size=4)


@given(DATES, FORMS, AROUND)
def test_a_date_is_no_telephone_number(day: date, form: str, around: str) -> None:
    assert categories(around.replace("{}", day.strftime(form))) == ()


@given(DATES, FORMS, st.sampled_from(["030", "(030)", "+49 30", "+4930"]), GROUPS)
def test_a_telephone_number_beside_a_date_is_found(
    day: date, form: str, prefix: str, groups: list[str]
) -> None:
    """Nobody's number passes because a date stands beside it."""
    number, when = " ".join([prefix, *groups]), day.strftime(form)
    assert categories(f"Since {when}: {number}") == ("contact",)
    assert categories(f"Call {number} from {when}") == ("contact",)
    assert categories(f"Call {number}") == ("contact",)
