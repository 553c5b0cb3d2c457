"""The command line: `main` ends every error's journey, `node` and `server` have the commands, `output` the two voices."""
