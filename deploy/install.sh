#!/bin/sh
# Make or refresh a virtual environment: install.sh VENV EXTRAS [PIP-OPTION ...]
# The one way this project is installed: the Makefile, the Dockerfiles and CI all call it, from the repository's root.
set -eu
venv=$1 extras=$2 python=${PYTHON:-python3.11}
shift 2

say() {
    echo "install.sh: $*" >&2
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

wanted=$(version_of "$python")
if [ -z "$wanted" ]; then
    say "$python does not run; install Python 3.11, or name one: PYTHON=/path/to/python3.11"
    exit 1
fi
found=$(version_of "$venv/bin/python")
if [ "$found" != "$wanted" ]; then
    if [ -f "$venv/pyvenv.cfg" ]; then
        say "$venv has Python ${found:-that does not run}; it is made again with Python $wanted"
    elif [ -e "$venv" ] && [ -n "$(ls -A "$venv")" ]; then
        say "$venv exists and is no virtual environment; move it, or name another folder"
        exit 1
    fi
    "$python" -m venv --clear "$venv"
fi
exec "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@" ".[$extras]"
