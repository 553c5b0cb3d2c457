#!/bin/bash
# Inside the VM: everything that jobs need, and nothing secret. Run once, on a fresh clone of the base.
set -euo pipefail

# Updates would change what was baked, in the middle of a job.
sudo softwareupdate --schedule off
sudo systemsetup -setsleep Never >/dev/null

if ! command -v brew >/dev/null; then
  NONINTERACTIVE=1 /bin/bash -c "$(curl -fsSL https://raw.githubusercontent.com/Homebrew/install/HEAD/install.sh)"
fi
eval "$(/opt/homebrew/bin/brew shellenv)"
brew install --quiet git jq xcodes aria2
xcodes install "$XCODE" --experimental-unxip --select
sudo xcodebuild -license accept
sudo xcodebuild -runFirstLaunch

# What only this build needed would be stored, sent and pulled with it.
brew cleanup --prune=all -s
rm -rf ~/Library/Caches/* ~/.Trash/*
