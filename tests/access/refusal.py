"""What whoever is not let in is answered, to the byte."""

REFUSED = b'{"status":"FAIL","message":"Authentication Required"}'


def refused(answer):
    """Whether it is that."""
    return (answer.status_code, answer.data) == (401, REFUSED)


def knock(closed, headers, **more):
    """The status of a call that any credential may make."""
    answer = closed.http.get("/registry/vm", headers=headers, **more)
    assert answer.status_code != 401 or answer.data == REFUSED, answer.text
    return answer.status_code
