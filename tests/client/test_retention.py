"""Rules of retention, as pure functions; policies, and what is wrong with those that make no sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.client.periods import period, seconds
from s3reg.client.retention import Clause, Rule, clause_for, judged, read_policy
from s3reg.errors import Invalid, PolicyInvalid
from s3reg.wire.usage import Used, UsedTemplate

DAY = 86_400
NOW = 100 * DAY
IDS = "00000000-0000-4000-8000-00000000000"


def versions(*rows):
    """Oldest first; each a tag, how many days ago it was made, and how many ago it was pulled."""
    return [
        Used(f"{place:032x}", tag, 1, NOW - made * DAY, None if pulled is None else NOW - pulled * DAY)
        for place, (tag, made, pulled) in enumerate(rows)
    ]


NIGHTS = versions(
    ("golden", 90, None), ("n1", 40, 2), ("n2", 30, None), ("n3", 20, 19), ("n4", 10, None), ("n5", 9, None)
)


def staying(rule, rows=NIGHTS):
    return [one.version.tag for one in judged(rows, rule, NOW) if not one.goes]


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "stay"),
        [
            (Rule(keep_last=1), ["n5"]),
            (Rule(keep_last=3), ["n3", "n4", "n5"]),
            (Rule(keep_last=100), ["golden", "n1", "n2", "n3", "n4", "n5"]),
            (Rule(keep_within=21 * DAY), ["n3", "n4", "n5"]),
            (Rule(keep_within=20 * DAY), ["n4", "n5"]),
            (Rule(keep_tags=("golden",)), ["golden", "n5"]),
            (Rule(keep_tags=("n[12]", "g*")), ["golden", "n1", "n2", "n5"]),
            (Rule(keep_tags=("N*",)), ["n5"]),
            (Rule(unused_for=7 * DAY), ["n1", "n5"]),
            (Rule(unused_for=20 * DAY), ["n1", "n3", "n4", "n5"]),
            (Rule(keep_last=2, keep_tags=("golden",), unused_for=3 * DAY), ["golden", "n1", "n4", "n5"]),
        ],
    )
    def test_a_version_stays_if_any_rule_keeps_it(self, rule, stay):
        assert staying(rule) == stay

    def test_the_newest_stays_whatever_the_rules(self):
        assert staying(Rule(keep_tags=("nothing-like-it",))) == ["n5"]
        assert staying(Rule(unused_for=1)) == ["n5"]
        assert staying(Rule(keep_last=1), []) == []

    def test_each_that_stays_says_why(self):
        rule = Rule(keep_last=2, keep_within=11 * DAY, keep_tags=("g*",), unused_for=19 * DAY + 1)
        reasons = [one.reason for one in judged(NIGHTS, rule, NOW)]
        assert reasons == ["its tag fits g*", "used lately", "", "used lately", "one of the newest 2", "the newest"]

    def test_what_was_made_ahead_of_the_registrys_clock_was_made_lately(self):
        rows = versions(("a", -5, None), ("b", 0, None))
        assert staying(Rule(keep_within=1), rows) == ["a", "b"]
        assert staying(Rule(unused_for=1), rows) == ["a", "b"]

    def test_what_the_stores_clock_says_was_pulled_before_it_was_made_counts_from_when_it_was_made(self):
        rows = versions(("a", 1, 10), ("b", 0, None))
        assert staying(Rule(unused_for=7 * DAY), rows) == ["a", "b"]

    def test_a_tag_fits_however_its_characters_are_composed(self):
        rows = versions(("caf\u00e9-1", 50, None), ("x", 0, None))
        assert staying(Rule(keep_tags=("cafe\u0301-*",)), rows) == ["caf\u00e9-1", "x"]

    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.none() | st.integers(0, 60)), max_size=6),
        st.builds(
            Rule,
            st.none() | st.integers(1, 5),
            st.none() | st.integers(1, 60 * DAY),
            st.lists(st.sampled_from(["a", "b", "[bc]"]), max_size=2).map(tuple),
            st.none() | st.integers(1, 60 * DAY),
        ),
        st.sampled_from(["keep_last", "keep_within", "keep_tags", "unused_for"]),
    )
    def test_another_rule_never_takes_more(self, rows, rule, name):
        one_less = Rule(
            **{
                one: getattr(rule, one)
                for one in ("keep_last", "keep_within", "unused_for", "keep_tags")
                if one != name
            }
        )
        rows = versions(*rows)
        there = {one.version.version for one in judged(rows, rule, NOW) if not one.goes}
        fewer = {one.version.version for one in judged(rows, one_less, NOW) if not one.goes}
        assert fewer <= there
        assert len(judged(rows, rule, NOW)) == len(rows)
        assert not rows or rows[-1].version in fewer


class TestPeriods:
    @pytest.mark.parametrize(
        ("text", "long"), [("90m", 5400), ("12h", 43_200), ("30d", 30 * DAY), ("2w", 14 * DAY), ("5s", 5)]
    )
    def test_they_are_a_number_and_a_unit(self, text, long):
        assert seconds(text) == period(text, "x") == long

    @pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1 d", "1.5d", "30days", "1y", "0d", "\u0663d", "9999999d"])
    def test_what_is_none_is_refused_with_how_to_write_one(self, text):
        with pytest.raises(Invalid, match=r"--keep-within.*30d"):
            period(text, "--keep-within")


POLICY = f"""
- templates: golden-*
  keep_tags: '*'
- templates: [ci-*, {IDS}1]
  keep_last: 3
  keep_within: 2w
  keep_tags: [release-*, base]
- templates: '*'
  unused_for: 7d
"""


def template(name, number=9, domain="main"):
    return UsedTemplate(f"{IDS}{number}", name, domain, ())


class TestPolicies:
    def test_each_clause_is_read(self):
        assert read_policy(POLICY, "p") == (
            Clause(Rule(keep_tags=("*",)), ("golden-*",)),
            Clause(Rule(3, 14 * DAY, ("release-*", "base")), ("ci-*", f"{IDS}1")),
            Clause(Rule(unused_for=7 * DAY), ("*",)),
        )

    @pytest.mark.parametrize(
        ("one", "clause"),
        [
            (template("golden-1"), 0),
            (template("ci-mac"), 1),
            (template("other", 1), 1),
            (template("golden-2", 1), 0),
            (template("CI-mac"), 2),
        ],
    )
    def test_the_first_that_is_for_a_template_counts(self, one, clause):
        policy = read_policy(POLICY, "p")
        assert clause_for(policy, one) == policy[clause]

    @pytest.mark.parametrize(
        ("one", "clause"),
        [
            (template("golden", domain="team-a"), 0),
            (template("ci", domain="team-a"), 1),
            (template("golden", domain="team-b"), 1),
            (template("golden", domain="main"), 2),
            (template("golden", domain=""), None),
        ],
    )
    def test_a_clause_may_be_for_a_domain_or_for_some_templates_of_one(self, one, clause):
        policy = read_policy(
            """
            - {domain: team-a, templates: gold*, keep_tags: '*'}
            - {domain: team-*, keep_last: 3}
            - {domain: [main, other], keep_last: 1}
            """,
            "p",
        )
        assert clause_for(policy, one) == (None if clause is None else policy[clause])

    def test_there_may_be_none(self):
        assert clause_for(read_policy(POLICY, "p")[:2], template("other")) is None

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "not a list"),
            ("templates: '*'", "not a list"),
            ("[]", "not a list"),
            ("- 7", "clause 1 is not names"),
            ("- {templates: a, keep_lst: 3}", "clause 1: there is no 'keep_lst'; keep_last is the nearest"),
            (
                "- {templates: a, keep_last: 1}\n- {template: b}",
                "clause 2: there is no 'template'; templates is the nearest",
            ),
            ("- {keep_last: 3}", "clause 1 does not say which templates it is for, or which domain"),
            ("- {domain: 7, keep_last: 3}", "clause 1: domain: write a pattern"),
            ("- {domain: a}", "clause 1 has no rule"),
            ("- {templates: a, keep_tags: ' '}", "keep_tags: write a pattern"),
            ("- {templates: a, keep_last: 3, keep_last: 1}", "line 1: keep_last is there twice"),
            (
                "- templates: a\n  keep_last: 3\n- templates: b\n  keep_tags: c\n  keep_last: 3\n  keep_tags: d",
                "line 6: keep_tags",
            ),
            ("- {templates: a, keep_tags: {b: 1, b: 2}}", "line 1: b is there twice"),
            ("- {templates: a, keep_last: 3, ? [x, y] : 1}", "no YAML, in line 1"),
            (
                "- {templates: '*', keep_last: 1}\n- {templates: a, keep_last: 3}",
                "clause 2 is never used: clause 1 is for all",
            ),
            (
                "- {templates: '*', domain: b*, keep_last: 1}\n- {domain: '**', keep_last: 3}\n- {domain: c, keep_last: 1}",
                "clause 3 is never used: clause 2 is for all",
            ),
            ("- {templates: [], keep_last: 3}", "templates: write a pattern"),
            ("- {templates: [7], keep_last: 3}", "templates: write a pattern"),
            ("- {templates: a}", "clause 1 has no rule"),
            ("- {templates: a, keep_last: 0}", "keep_last: 0 is not a whole number"),
            ("- {templates: a, keep_last: yes}", "keep_last: True is not a whole number"),
            ("- {templates: a, keep_last: '3'}", "keep_last: '3' is not a whole number"),
            ("- {templates: a, keep_within: 30}", "keep_within: '30' is no period"),
            ("- {templates: a, unused_for: null}", "unused_for: 'None' is no period"),
            ("- {templates: a, keep_tags: {b: c}}", "keep_tags: write a pattern"),
            ("- {templates: *x, keep_last: 3}", "no YAML, in line 1"),
            ("- a: [", "no YAML"),
            ("[" * 1500, "no YAML"),
            ("- 2026-13-45", "no YAML"),
            ("#" * 1024**2 + "##", "longer than"),
        ],
    )
    def test_what_makes_no_sense_is_refused_with_its_place(self, text, told):
        with pytest.raises(PolicyInvalid) as refused:
            read_policy(text, "rules.yaml")
        assert str(refused.value).startswith("the policy rules.yaml: ")
        assert told in str(refused.value)
