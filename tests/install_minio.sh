#!/bin/sh
# MinIO for the tests, outside the repository: ~/.cache/s3reg/bin/minio. Needs Go; does nothing where it is already there.
# Not a release: conditional writes are right since 2025-09, and releases with binaries have ended.
set -eu
version=v0.0.0-20260212201848-7aac2a2c5b7c
bin="$HOME/.cache/s3reg/bin"

if ! command -v go >/dev/null 2>&1; then
    echo "make minio needs Go: install it from your distribution or https://go.dev/dl, then repeat" >&2
    exit 1
fi
if [ -x "$bin/minio" ] && go version -m "$bin/minio" 2>/dev/null | grep -q "github.com/minio/minio[[:space:]]*$version"; then
    exit 0
fi
mkdir -p "$bin"
# A build is a few minutes of every core. Built aside, so that an interrupted one leaves no half program.
building=$(mktemp -d "$bin/.building.XXXXXX")
trap 'rm -rf "$building"' EXIT
trap 'exit 130' INT TERM
GOBIN="$building" go install "github.com/minio/minio@$version"
mv "$building/minio" "$bin/minio"
