"""What a load balancer asks."""

import faults
from s3reg.api import create_app
from s3reg.errors import StoreUnavailable


def test_a_process_lives_and_is_ready_over_a_store_that_answers(http):
    for path in ("/livez", "/readyz", "/livez/", "//readyz"):
        # The path goes in as the server would give it: a client's URL parser would take // for a host.
        answer = http.get("/", environ_overrides={"PATH_INFO": path})
        assert (answer.status_code, answer.json["status"]) == (200, "OK"), path


def test_readiness_follows_the_store_and_life_does_not(settings, store):
    class Flaky(faults.Wrapped):
        down = True

        def _call(self, call, act):
            if self.down:
                raise StoreUnavailable(store=self.location, reason="no route to host")
            return act()

    flaky = Flaky(store)
    http = create_app(settings, flaky).test_client()
    assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, 503)
    flaky.down = False
    assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, 200)
    flaky.down = True
    assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, 503)


def test_readiness_costs_one_look_at_the_store(settings, store):
    counting = faults.Counting(store)
    http = create_app(settings, counting).test_client()
    http.get("/readyz")
    counting.calls.clear()
    http.get("/readyz")
    assert counting.calls == [faults.Call("stat", ("format.json",))]


def test_a_store_that_lost_its_format_is_not_ready(http, store):
    assert http.get("/readyz").status_code == 200
    store.delete(["format.json"])
    assert http.get("/readyz").status_code == 503


def test_a_browser_is_told_what_this_is(http):
    answer = http.get("/")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert "/transfer/v1/openapi.json" in answer.text
