#!/usr/bin/env bash
# The one entry point. It makes .venv on the first call; `bash run_all.sh help` tells the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(pwd -P)
venv=$root/.venv
stamp=$venv/.cicy4-setup
torch=torch==2.13.0  # the wheel of this version, for a CPU or for CUDA, is the platform's own choice

usage() {
  cat <<'TEXT'
usage: bash run_all.sh [--profile smoke|quick|paper] [--only NAME...] [--run NAME] [-p PARAMETER VALUE]
                       [--jobs N | --scheduler ADDRESS] [--cell-timeout SECONDS]
                             run the notebooks into results/<run>/; again: go on
       bash run_all.sh status [--run NAME]
                             how far every run is
       bash run_all.sh report [--run NAME]
                             results/<run>/index.html: every table and figure of a run, for a browser
       bash run_all.sh doctor
                             whether this machine can do the work, line by line
       bash run_all.sh scheduler [--host HOST] [--port PORT]
                             a Dask scheduler, for --scheduler ADDRESS
       bash run_all.sh test [--long]
                             lint and tests (--long: also those that take minutes)
       bash run_all.sh help  this text; bash run_all.sh --help: the options of the first line
TEXT
}

refuse() {
  printf 'bash run_all.sh: %s\n' "$1" >&2
  usage >&2
  exit 2
}

# A Python that this project runs on and that can make environments; 3.11 is the one tested most.
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
find_python() {
  local candidate
  # An environment without pip, from another program or from a call that was stopped, gets it.
  is_moved || "$venv/bin/python" -c 'import pip' >/dev/null 2>&1 ||
    "$venv/bin/python" -m ensurepip >/dev/null 2>&1 || true
  if ! is_moved && "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    if "$venv/bin/python" -c "$supported"; then
      echo "$venv/bin/python"
      return
    fi
    echo "bash run_all.sh: $venv is made for $("$venv/bin/python" --version), and 3.11, 3.12" \
      "or 3.13 is needed; delete it" >&2
    return 1
  fi
  for candidate in python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c "import ensurepip, venv; $supported" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  echo "bash run_all.sh: Python 3.11, 3.12 or 3.13 with its venv module is needed" \
    "(on Debian and Ubuntu: the package python3-venv)" >&2
  return 1
}

# Whether .venv was made here and then moved or copied: its commands are those of its old place.
is_moved() {
  [ -f "$stamp" ] || return 1
  case $(sed -n 's/^command = .* -m venv / /p' "$venv/pyvenv.cfg") in
    "" | *" $venv") return 1 ;;
  esac
}

# What an installation depends on: the pins, the package's metadata and where the clone lies.
fingerprint() {
  "$1" - "$root" "$torch" <<'PY'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
files = b"".join((root / name).read_bytes() for name in ("requirements.txt", "pyproject.toml"))
print(hashlib.sha256(files + "".join(sys.argv[1:]).encode()).hexdigest(), "%d.%d" % sys.version_info[:2])
PY
}

setup() {
  local python=$1 wanted
  wanted=$(fingerprint "$python")
  if is_set_up; then
    return
  fi
  if command -v flock >/dev/null; then # another call may be at it
    exec 9>"$venv.lock"
    flock 9
  fi
  is_set_up || install "$python" "$wanted"
  exec 9>&-
}

is_set_up() { # and its Python, which is that of the system, is still there
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null
}

install() {
  local python=$1 wanted=$2
  echo "Setting up $venv (some minutes, once) ..."
  rm -f "$stamp"
  if [ "$python" != "$venv/bin/python" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
  fi
  local pip=("$venv/bin/python" -m pip -qq --disable-pip-version-check)
  "${pip[@]}" install --require-hashes --requirement requirements.txt
  "${pip[@]}" install "$torch"
  "${pip[@]}" install --no-deps --no-build-isolation --editable "$root"
  echo "$wanted" >"$stamp"
}

# The program that tests compare canonical forms with; without it they compare a little less.
setup_tests() {
  if "$1" -c 'import pynauty' 2>/dev/null; then
    return
  fi
  "$1" -m pip -qq --disable-pip-version-check install --require-hashes \
    --requirement tests/requirements.txt 2>/dev/null ||
    echo "bash run_all.sh test: pynauty could not be built (a C compiler and Python's headers" \
      "are needed); one comparison is skipped" >&2
}

job=run
case ${1-} in
  "" | -p | --*) ;;
  status) job=status && shift ;;
  report) job=report && shift ;;
  scheduler) job=scheduler && shift ;;
  doctor) job=doctor && shift ;;
  test) job=test && shift ;;
  help | -h) usage && exit 0 ;;
  *) refuse "there is no command '$1'" ;;
esac

marks='not long'
if [ "$job" = test ]; then
  case "$*" in
    "") ;;
    --long) marks='' ;;
    *) refuse "test takes no option but --long, not '$*'" ;;
  esac
fi

python=$(find_python)
if [ "$job" != test ]; then
  # A mistake in the arguments is told at once, before anything is installed.
  "$python" -c 'from cicy_utils.batch.__main__ import check; check()' "$job" "$@"
  case " $* " in *" --help "* | *" -h "*) exit 0 ;; esac
fi
setup "$python"
python=$venv/bin/python

case $job in
  test)
    setup_tests "$python"
    "$python" -m ruff check .
    "$python" -m ruff format --check .
    # A process for each core, and in each of them no threads that wait for the other's.
    OMP_NUM_THREADS=1 exec "$python" -m pytest -m "$marks" \
      --numprocesses auto --maxprocesses 4 --dist loadfile
    ;;
  *) exec "$python" -m cicy_utils.batch "$job" "$@" ;;
esac
