#!/bin/sh
# Makes the virtual environment FOLDER hold exactly what LOCK says. Usage: [PYTHON=python3.11] requirements/install.sh FOLDER LOCK
#
# A stamp in the folder names the lock that was installed to the end. A folder without the right stamp, because its lock changed
# or because an install was interrupted, is made anew: half an environment fails later and in worse words.
set -eu

folder=$1 lock=$2
python=${PYTHON:-python3}
stamp=$folder/.installed

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$python is older than Python 3.11: name a newer one, such as: make setup PYTHON=python3.11" >&2
    exit 1
}
# Comments say where a package comes from; they do not change what is installed.
wanted="$("$python" --version) $(grep -v '^ *#' "$lock" | sha256sum | cut -d ' ' -f 1)"
[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0

started=$(date +%s)
echo "$folder: installing $lock" >&2
rm -rf "$folder"
"$python" -m venv "$folder"

log=$folder/install.log
install() {
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock" "$@" 2>"$log"
}
if ! install; then
    # PyTorch's CPU builds (`+cpu`) are not on the main index, so that a configured index may or may not have them.
    if grep -Eq '(No matching distribution found for|Cannot install) torch==' "$log"; then
        echo "$folder: torch's CPU build is not on the configured index; trying PyTorch's own" >&2
        install --extra-index-url https://download.pytorch.org/whl/cpu || { cat "$log" >&2; exit 1; }
    else
        cat "$log" >&2
        exit 1
    fi
fi
echo "$wanted" >"$stamp"
echo "$folder: ready after $(($(date +%s) - started)) s" >&2
