"""Every route by every sort of credential, with and without access rights: what is let through, and what changes nothing."""

import re

import pytest

from access.house import ALL, EVERY_ACTION, OPEN, House
from access.refusal import REFUSED
from access.routes import BY_PARAMETER, ROUTES
from access_kit import Closed, basic, bearer, through_nginx
from s3reg.api import create_app
from s3reg.settings import Settings

EVERYTHING = EVERY_ACTION
ACCESS = re.compile(r"/(api/)?v1/apikey|/admin/.*/group/|/transfer/v1/(keys|groups|access)")
"""What only access control knows."""
MODES = {"authorization": True, "any credential": False}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")
WITHOUT = {
    "none": {},
    "another root token": basic("x" * 32),
    "a root token of another user": None,
    "nobody's login": bearer({"userName": "victim", "sessionId": "1", "token": "t"}),
    "no credential's spelling": {"Authorization": "Bearer !"},
    "another scheme": {"Authorization": 'Digest username="root"'},
}


def spelled(rule):
    """A route as the table spells it."""
    return re.sub(r"<[^>]*>", "<>", rule.rule)


def served(app):
    """Every method of every route, as in the table; HEAD is its GET."""
    return {f"{method} {spelled(rule)}" for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD"}}


@pytest.fixture(scope="module", params=list(MODES))
def house(request, tmp_path_factory):
    return House(tmp_path_factory.mktemp("house"), authorization=MODES[request.param])


def test_every_route_is_in_the_table(tmp_path):
    assert served(Closed(tmp_path / "store").app) == set(ROUTES)


def ask(house, method, route, asker, headers):
    """The call, its answer, and what was written."""
    house.begin()
    call = route.call(house, asker)
    prepared = house.store.changed.copy()
    answer = house.closed.http.open(method=method, headers=headers, **call.options())
    return call, answer, house.store.changed[len(prepared) :]


def variants(route):
    """(name, groups' permissions, templates, domains, answer) of each sort of asker; groups None: in none."""
    needs, action = frozenset(route.needs), route.action
    right = tuple(dict.fromkeys(("list", action))) if action else ()
    hidden = route.hidden if action else route.ok
    listed = route.ok if action in {None, "list"} else 403
    yield "everything", (ALL, None, ()), route.ok
    for lacking in sorted(needs):
        yield f"all but {lacking}", (ALL - {lacking}, None, ()), 403
    yield "no template", (ALL, (), ()), hidden
    yield "may list", (ALL, ((OPEN, ("list",)),), ()), listed
    yield "right", (needs, ((OPEN, right),), ()), route.ok
    yield "by domain", (ALL, (), (("main", right),)), route.ok
    yield "other domain", (ALL, (), (("far", EVERYTHING),)), (route.elsewhere or hidden if action else hidden)
    yield "no group", None, 403 if needs else hidden
    if action and action != "list":
        rest = tuple(name for name in EVERYTHING if name != action)
        yield f"all but {action}", (ALL, ((OPEN, rest),), ()), 403


def cells(house, route):
    """(name, headers, asker, answer) of every credential."""
    public = route.ok if route.public else None
    for name, headers in WITHOUT.items():
        proof = basic(house.closed.token, "admin") if headers is None else headers
        yield name, proof, "nobody", public or 401
    for name, (headers, asker) in {"expired": house.expired, "revoked": house.revoked}.items():
        yield name, headers, asker, public or 401
    yield "root", house.closed.root, "root", route.ok
    yield "root without a user", basic(house.closed.token, ""), "root", route.ok
    for kind in (house.key, house.certificate):
        for name, group, wanted in variants(route):
            headers, asker = kind(*([] if group is None else [house.group(*group)]))
            yield (
                f"{kind.__name__}: {name}",
                headers,
                asker,
                wanted if house.closed.settings["authorization"] else route.ok,
            )


CASES = {**{spelled: (spelled.partition(" ")[0], route) for spelled, route in ROUTES.items()}, **BY_PARAMETER}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_call_is_let_through_for_those_who_may_make_it_and_for_nobody_else(house, case):
    method, route = CASES[case]
    house.begin()
    asked = list(cells(house, route))
    house.keep()
    wrong = []
    for name, headers, asker, wanted in asked:
        for verb in [method, "HEAD"] if method == "GET" and not case.endswith("/objects/<>") else [method]:
            # From elsewhere each time: who has failed before is not listened to while others fail too.
            call, answer, written = ask(house, verb, route, asker, {**headers, "X-Forwarded-For": house.stranger()})
            told = f"{verb} {name}: {answer.status_code} instead of {wanted}: {answer.text[:200]}"
            if answer.status_code != wanted:
                wrong.append(told)
            elif wanted >= 400 and written:
                wrong.append(f"{verb} {name}: refused, and {written} was written")
            elif wanted == 401 and verb != "HEAD" and not call.path.startswith("/transfer"):
                if answer.data != REFUSED:
                    wrong.append(told)
            elif wanted == 403 and verb != "HEAD" and name.partition("all but ")[2] not in answer.text:
                wrong.append(f"{told} does not name what lacks")
    assert wrong == []
    house.begin()
    assert house.unchanged(), "something was written that the store did not note"


@pytest.mark.parametrize("house", ["any credential"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_access_control_nobody_is_asked_and_what_it_keeps_is_not_there(house, case):
    method, route = CASES[case]
    path = case.partition(" ")[2]
    app = create_app(Settings(store=str(house.closed.folder)), house.store)
    for headers in ({}, basic("x" * 20), {"Authorization": "Bearer !"}, through_nginx(b"x")):
        house.begin()
        call = route.call(house, "everyone")
        answer = app.test_client().open(method=method, headers=headers, **call.options())
        if path.startswith("/tap/"):
            assert answer.status_code == 404
        elif ACCESS.match(call.path):
            assert answer.status_code == 501, answer.text
        else:
            assert answer.status_code == route.ok, answer.text
