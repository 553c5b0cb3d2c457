#!/bin/bash
# One bake, on the Mac that bakes: base → clone → provisioned → pushed → pulled back → pruned. Safe to repeat.
#
# S3REG_REGISTRY and what proves who asks (S3REG_REGISTRY_API_KEY_ID, S3REG_REGISTRY_API_KEY, S3REG_CA_BUNDLE) come from the
# environment. bash 3.2, the one of macOS, is enough.
set -euo pipefail
cd "$(dirname "$0")"

base=${BASE:-15.1-base}
template=${TEMPLATE:-macos-ci}
keep=${KEEP:-10}
tag=${TAG:-$(date -u +%Y%m%d-%H%M)}
next=$template-next
drill=$(mktemp -d)
trap 'rm -rf "$drill"' EXIT

# What a bake that was killed left behind. Anka's own program: it knows what runs.
anka delete --yes "$next" 2>/dev/null || true

s3reg pull --shrink "$base"
packer init .
packer build -var "base=$base" -var "name=$next" .

# A version more of the template: it builds on what the registry has of the base, and of last night's.
if s3reg show "$template" name >/dev/null 2>&1; then
  s3reg push "$next" --tag "$tag" --remote-vm "$template" --base "$base" --description "baked from $base"
else
  # The first time: a template of its own.
  s3reg vm clone "$next" "$template"
  s3reg push "$template" --tag "$tag" --base "$base" --description "baked from $base"
fi

# Does it come back, whole? Into a library of its own, so that every byte comes from the store; each chunk is checked.
s3reg --library "$drill" pull "$template" --tag "$tag"

# Nodes pull the newest tag at night (deploy/s3reg-node.sh). What was good enough to release is retagged by hand, and kept.
s3reg prune "$template" --keep-last "$keep" --keep-tag 'release-*' --unused-for 14d --yes
anka delete --yes "$next"
