"""For `store check` on a directory: its signed links, opened against this API without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from s3reg import crypto
from s3reg.api import objects, render
from s3reg.api.wiring import Wiring
from s3reg.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3reg.store.check import Opener
    from s3reg.store.files import FilesStore


def opener(store: FilesStore) -> Opener:
    """Does HTTP on the store's links, signed with a secret for this trial only. Nothing of a registry is written."""
    store.sign_with(crypto.new_secret())
    app = Flask(__name__, static_folder=None)
    app.extensions["s3reg"] = Wiring(Settings(), store, prepared=True)
    render.install_errors(app)
    app.register_blueprint(objects.blueprint)

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        # A client for each call: the trials call from many threads.
        with app.test_client() as http, http.open(url, method=method, headers=dict(headers), data=body) as answer:
            return answer.status_code, dict(answer.headers), answer.data

    return send
