# Sourced by ./quickstart and ./test: find a Python that is new enough, make a virtual environment, install into it.

export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
  echo "error: $*" >&2
  exit 1
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Print a Python of 3.11 or newer: $KDEDGE_PYTHON, else the first one found, the tested version before newer ones.
find_python() {
  local name
  if [ -n "${KDEDGE_PYTHON:-}" ]; then
    new_enough "$KDEDGE_PYTHON" || fail "KDEDGE_PYTHON=$KDEDGE_PYTHON is not a Python of 3.11 or newer."
    echo "$KDEDGE_PYTHON"
    return
  fi
  for name in python3.11 python3.12 python3.13 python3 python; do
    if new_enough "$name"; then
      echo "$name"
      return
    fi
  done
  fail "kdedge needs Python 3.11 or newer, found $(python3 --version 2>&1 || echo none);" \
    "install one, or name it: KDEDGE_PYTHON=/path/to/python3.11 $0"
}

# Make the virtual environment $1, unless it is there, and install kdedge with the extra $2 into it, unless that is done.
prepare() {
  local venv=$1 extra=$2 python state
  state="$PWD $extra $(cat pyproject.toml constraints.txt | cksum)"
  if [ -f "$venv/.kdedge" ] && [ "$(cat "$venv/.kdedge")" = "$state" ] && [ -x "$venv/bin/kdedge" ]; then
    return
  fi
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    discard "$venv"
    python=$(find_python)
    echo "Making $venv with $("$python" --version) ..." >&2
    "$python" -m venv "$venv" || fail "$python -m venv failed; on Debian and Ubuntu it needs: apt install python3-venv"
  fi
  echo "Installing kdedge[$extra] into $venv; the first time this fetches PyTorch, which takes a while ..." >&2
  "$venv/bin/python" -m pip install --quiet --upgrade pip
  "$venv/bin/python" -m pip install --quiet -c constraints.txt -e ".[$extra]"
  echo "$state" >"$venv/.kdedge"
}

# Remove the virtual environment $1, and nothing that is not one.
discard() {
  if [ -f "$1/pyvenv.cfg" ]; then
    rm -rf "$1"
  elif [ -e "$1" ]; then
    fail "$1 exists and is not a virtual environment; remove it or name another place."
  fi
}
