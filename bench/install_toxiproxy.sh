#!/bin/sh
# toxiproxy for the bench's slow lines, outside the repository: ~/.cache/s3reg/bin/toxiproxy. Needs Go; does nothing where it
# is already there.
set -eu
version=v2.5.0
bin="$HOME/.cache/s3reg/bin"

if ! command -v go >/dev/null 2>&1; then
    echo "toxiproxy needs Go: install it from your distribution or https://go.dev/dl, then repeat" >&2
    exit 1
fi
if [ -x "$bin/toxiproxy" ] && go version -m "$bin/toxiproxy" 2>/dev/null | grep -q "github.com/Shopify/toxiproxy/v2[[:space:]]*$version"; then
    exit 0
fi
mkdir -p "$bin"
building=$(mktemp -d "$bin/.building.XXXXXX")
trap 'rm -rf "$building"' EXIT
trap 'exit 130' INT TERM
GOBIN="$building" go install "github.com/Shopify/toxiproxy/v2/cmd/server@$version"
mv "$building/server" "$bin/toxiproxy"
