"""One turn: good and bad answers; the state stays consistent whatever is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.chat.domain import Domain
from persona_agent.chat.hearing import Names
from persona_agent.chat.likeness import LIKENESS, Likeness
from persona_agent.chat.linking import LINK, Linker
from persona_agent.chat.state import ChatState, Opinion, asking, heard, showing
from persona_agent.chat.turn import Setting, Turn, begin, fitted, turn
from persona_agent.drive import Ports, run
from persona_agent.errors import InputError
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.types import ModelReply
from tests.chat.conftest import SCOPE, meaning

EMPTY = ChatState("films", "c1")
NOIR, MUSICAL, SCIFI = "genre:Film-Noir", "genre:Musical", "genre:Sci-Fi"


class Talk:
    """A conversation without memory: what is said goes in, the last turn can be looked at."""

    def __init__(self, setting: Setting, linker: Linker, state: ChatState = EMPTY) -> None:
        self.llm = FakeLLM(meaning)
        self._setting = setting
        self._ports = Ports(self.llm, None, {LINK: linker, LIKENESS: Likeness(HashEmbedder())})
        self.state = state

    def say(self, *texts: str) -> Turn:
        for text in texts:
            made = run(turn(self._setting, self.state, text), self._ports)
            assert ChatState.of(made.state.to_json()) == made.state
            self.state = made.state
        return made

    def thinks(self) -> dict[str, str]:
        return {one.id: one.meaning for one in self.state.opinions}


@pytest.fixture
def talk(setting: Setting, linker: Linker) -> Talk:
    return Talk(setting, linker)


def test_the_first_words_ask_an_open_question(setting: Setting) -> None:
    first = begin(setting, EMPTY)
    assert first.say.startswith("Hello! What kind of film are you in the mood for?")
    known = heard(
        EMPTY, [Opinion("attribute", NOIR, "yes", 0), Opinion("attribute", SCIFI, "no", 0)]
    )
    assert "you like Film-Noir and do not like Sci-Fi" in begin(setting, known).say


def test_from_first_question_to_an_accepted_recommendation(talk: Talk) -> None:
    made = talk.say("film noir, please")
    assert made.say.startswith("Noted: Film-Noir.")
    assert made.say.endswith("?")
    talk.say("no", "I don't know")
    made = talk.say("recommend something")
    assert made.decision is not None
    assert all(NOIR in talk._setting.domain.attributes_of(one) for one in made.decision.ids)
    assert "Film-Noir, as you like" in made.say
    made = talk.say("the second one")
    assert talk.state.outcome == "accepted"
    assert talk.state.accepted == talk.state.shown[1]
    assert "Enjoy" in made.say


def test_exact_words_cost_no_model_request_and_others_cost_one_batch(talk: Talk) -> None:
    talk.say("film noir", "yes")
    assert talk.llm.calls == []
    made = talk.say("splendid!")
    assert made.reading is not None
    assert (made.reading.meaning, made.reading.by) == ("yes", "model")
    assert len(talk.llm.calls) == 1


def test_a_question_is_asked_once_more_after_nonsense_and_then_let_go(talk: Talk) -> None:
    talk.say("film noir")
    pending = talk.state.pending
    made = talk.say("blorp fnord")
    assert "I know no film and nothing about them that is called “blorp fnord”." in made.say
    assert talk.state.pending == pending
    made = talk.say("zzz")
    assert "Let me ask something else." in made.say
    assert talk.state.pending != pending
    assert talk.state.missed == 0


def test_silence_repeats_the_question_and_never_ends_the_conversation(talk: Talk) -> None:
    talk.say("film noir")
    pending = talk.state.pending
    made = talk.say("   ")
    assert made.say.startswith("I heard nothing.")
    assert talk.state.pending == pending
    for _ in range(60):
        talk.say("")
    assert talk.state.outcome in ("open", "exhausted")
    assert talk.say("film noir").say


def test_a_change_of_mind_replaces_what_was_said(talk: Talk) -> None:
    talk.say("musicals and film noir")
    made = talk.say("no musicals")
    assert "no Musical after all" in made.say
    assert (talk.thinks()[MUSICAL], talk.thinks()[NOIR]) == ("no", "yes")
    made = talk.say("actually I do like musicals")
    assert "All right, Musical after all." in made.say
    assert talk.thinks()[MUSICAL] == "yes"


def test_a_contradiction_within_one_answer_ends_with_its_last_word(talk: Talk) -> None:
    talk.say("I like musicals but no musicals")
    assert talk.thinks()[MUSICAL] == "no"


def test_another_language_is_understood_by_its_exact_words_or_let_go(talk: Talk) -> None:
    talk.say("Film-Noir")
    (first,) = talk.state.pending
    talk.say("nein, danke")
    assert talk.thinks()[first] == "no"
    (second,) = talk.state.pending
    talk.say("Ich hätte gern einen Kriminalroman")
    assert second not in talk.thinks()
    assert talk.state.outcome == "open"


def test_naming_something_else_is_no_answer_to_the_question(talk: Talk) -> None:
    talk.say("I don't know")
    (pending,) = talk.state.pending
    other = MUSICAL if pending != MUSICAL else NOIR
    name = talk._setting.domain.attribute(other)
    talk.say(f"rather {name}")
    assert talk.thinks() == {
        other: "yes",
        **({pending: "unsure"} if pending in talk.thinks() else {}),
    }


def test_what_follows_an_exact_answer_is_heard_too(talk: Talk) -> None:
    talk.say("I don't know")
    (pending,) = talk.state.pending
    talk.say("no, film noir" if pending != NOIR else "no, musicals")
    thinks = talk.thinks()
    assert thinks[pending] == "no"
    assert "yes" in thinks.values()


def test_a_phrase_is_linked_by_search_and_said_so(setting: Setting) -> None:
    loose = Linker(setting.domain, HashEmbedder(4096), attribute_threshold=0.2, cache=None)
    talk = Talk(setting, loose)
    made = talk.say("something noir")
    assert made.say.startswith("I take “noir” as Film-Noir. Noted: Film-Noir.")
    assert [one.id for one in made.links] == [NOIR]
    assert talk.thinks() == {NOIR: "yes"}


def test_an_item_that_is_liked_is_not_recommended_and_leads_to_others(talk: Talk) -> None:
    made = talk.say("I like Fox Planet")
    assert "You know Fox Planet (1990) already" not in made.say  # its year is 1960
    assert "You know Fox Planet (1960) already" in made.say
    talk.say("recommend something")
    assert "zq205" not in talk.state.shown
    assert all(one.startswith("zq2") for one in talk.state.shown)  # of the same kind, by the model


def test_a_refused_list_is_not_shown_again(talk: Talk) -> None:
    talk.say("film noir", "recommend something")
    first = talk.state.shown
    talk.say("none of these, no", "recommend something")
    assert len(set(talk.state.shown)) == 6
    assert talk.state.shown[:3] == first


def test_a_yes_to_a_list_asks_which_and_takes_the_first_at_last(talk: Talk) -> None:
    talk.say("film noir", "recommend something")
    made = talk.say("yes")
    assert made.say.startswith("Which one do you mean? 1. ")
    assert talk.state.awaits == "which"
    talk.say("yes")
    assert talk.state.accepted == talk.state.shown[0]


def test_a_title_of_the_list_takes_it_and_a_refusal_of_it_does_not(talk: Talk) -> None:
    talk.say("film noir", "recommend something")
    title = talk._setting.domain.item(talk.state.pending[2])
    talk.say(f"not {title}")
    assert talk.state.outcome == "open"
    talk.say("recommend something")
    title = talk._setting.domain.item(talk.state.pending[1])
    chosen = talk.state.pending[1]
    talk.say(f"I'd like {title}")
    assert talk.state.accepted == chosen


def test_after_the_end_the_conversation_goes_on_from_what_was_learned(talk: Talk) -> None:
    talk.say("film noir and no musicals", "recommend something", "1")
    taken = talk.state.accepted
    made = talk.say("recommend something")
    assert talk.state.outcome == "open"
    assert taken not in talk.state.shown
    assert {one.turn for one in talk.state.opinions} == {0}
    assert made.state.turn == 4
    talk.say("bye")
    assert talk.state.outcome == "left"
    assert talk.say("yes").say


def test_starting_over_forgets_this_conversation_alone(talk: Talk) -> None:
    talk.say("film noir", "recommend something", "start over")
    assert (talk.state.opinions, talk.state.shown) == ((), ())


def test_when_everything_was_shown_it_is_said_and_the_way_out(
    setting: Setting, linker: Linker
) -> None:
    everything = list(setting.domain.table.items)
    talk = Talk(setting, linker, showing(EMPTY, everything[:2]))
    talk._setting = replace(setting, seen=tuple(everything[2:]))
    made = talk.say("no")
    assert "I have nothing left to recommend." in made.say
    assert talk.state.outcome == "exhausted"
    talk.say("yes", "")
    talk._setting = setting
    assert talk.say("start over").state.outcome == "open"


def test_a_model_that_fails_is_told_and_the_question_stays(
    setting: Setting, linker: Linker
) -> None:
    ports = Ports(
        FakeLLM(lambda _: ModelReply(error="no power", finish="error")), None, {LINK: linker}
    )
    state = asking(EMPTY, NOIR)
    made = run(turn(setting, state, "splendid"), ports)
    assert made.reading is not None
    assert made.reading.problem == "the model did not answer: no power"
    assert made.state.pending == (NOIR,)


def test_without_a_model_exact_words_alone_are_understood(setting: Setting) -> None:
    state = asking(EMPTY, NOIR)
    made = run(turn(setting, state, "yes", words_alone=True), Ports())
    assert made.state.thinks("attribute", "yes") == (NOIR,)


def test_the_state_of_another_domain_is_refused(setting: Setting) -> None:
    with pytest.raises(InputError, match="is about 'books', not 'films'"):
        begin(setting, ChatState("books", "c1"))


def test_what_a_catalogue_no_longer_has_is_left_out_of_a_state(domain: Domain) -> None:
    state = asking(heard(EMPTY, [Opinion("attribute", "genre:Gone", "yes", 0)]), "genre:Gone")
    kept = fitted(state, domain)
    assert (kept.opinions, kept.asked, kept.pending, kept.awaits) == ((), (), (), "anything")


SAID = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        "yes|no|maybe|1|2|the third|film noir|no musicals|Fox Planet|recommend something|bye|"
        "start over||splendid|dreadful|undecided|blorp|ja|non|but not that|1950s".split("|")
    ),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(SAID, max_size=12))
def test_whatever_is_said_the_state_stays_consistent(
    domain: Domain, names: Names, linker: Linker, said: list[str]
) -> None:
    talk = Talk(Setting(domain, names, SCOPE), linker)
    for number, text in enumerate(said, start=1):
        before = talk.state
        made = talk.say(text)  # checks that the state is one, JSON both ways
        assert made.say
        assert made.state.turn == number
        assert made.state.conversation == before.conversation
        assert all(one.turn <= number for one in made.state.opinions)
        assert len(made.state.pending) <= 3
        if made.state.outcome == "open" and made.state.awaits == "items":
            assert made.decision is not None or set(made.state.pending) <= set(before.shown)
        if made.decision is not None and made.decision.step == "ask":
            assert made.decision.ids[0] not in before.asked or before.outcome != "open"
