#!/bin/sh
# Make or refresh a virtual environment: install.sh VENV EXTRAS [PIP-OPTION ...]
# The one way this project is installed: the Makefile, the Dockerfiles and CI all call it, from the repository's root.
set -eu
venv=$1 extras=$2
shift 2
[ -x "$venv/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$venv"
exec "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@" ".[$extras]"
