"""s3reg: a registry for virtual-machine templates that keeps everything in object storage.

Start reading at `docs/design.md`; then `model` (what the registry is about), `store` (where bytes lie), `registry`
(what it does), `api` (who asks over HTTP), `client` (the node's half) and `cli`.
"""

__version__ = "0.1.0"
