#!/bin/bash
# Run Python code of this checkout on an emulated Windows, with Wine:  tools/windows.sh FOLDER ARGUMENTS...
#
#   tools/windows.sh ~/windows tools/bits.py --check --dtype float32     # do its bits differ from those in tests/bits.json?
#   tools/windows.sh ~/windows -m pytest tests/test_threads.py
#
# FOLDER/python must hold CPython 3.11 for Windows: unpack python.org's "Windows embeddable package (64-bit)" there. Wine
# is Debian's wine64, say. The first run puts wheels into FOLDER; nothing is installed elsewhere. What it compiles is
# kept there too.
set -eu
folder=$(realpath -m "$1")
shift
root=$(dirname "$(dirname "$(realpath "$0")")")
export WINEPREFIX="$folder/wine" WINEDEBUG="${WINEDEBUG--all}" WINEDLLOVERRIDES="mscoree,mshtml="

if [ ! -e "$folder/ready" ]; then
    [ -e "$folder/python/python.exe" ] || { echo "$folder/python/python.exe is missing: see $0" >&2; exit 2; }
    rm -f "$folder"/python/python*._pth # with it, PYTHONPATH is not looked at
    packages="$folder/python/Lib/site-packages"
    mkdir -p "$folder"/{wheels,wine} "$packages"
    python3 -m pip download --python-version 3.11 --platform win_amd64 --only-binary=:all: -d "$folder/wheels" \
        numba numpy ml_dtypes mpmath pytest hypothesis colorama
    for file in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$file" "$packages"; done
    cat > "$packages/sitecustomize.py" << 'END'
"""Wine's C runtime lacks two functions that NumPy calls when it is imported."""
import ctypes

library, kernel = ctypes.WinDLL("ucrtbase"), ctypes.WinDLL("kernel32")
for name, instructions in (("crealf", "660f6ec1c3"), ("cimagf", "48c1e920660f6ec1c3")):  # the argument is in RCX
    code = bytes.fromhex(instructions)
    place = ctypes.cast(getattr(library, name), ctypes.c_void_p)
    kernel.VirtualProtect(place, ctypes.c_size_t(len(code)), 0x40, ctypes.byref(ctypes.c_ulong()))
    ctypes.memmove(place, code, len(code))
END
    wine winecfg -v win10
    touch "$folder/ready"
fi

windows() { echo "Z:${1//\//\\}"; } # the path as Windows has it
PYTHONPATH=$(windows "$root")
FASTACT_CACHE_DIR=$(windows "$folder/compiled")
export PYTHONPATH FASTACT_CACHE_DIR PYTHONDONTWRITEBYTECODE=1
cd "$root"
wine "$folder/python/python.exe" "$@" 2>&1 | cat # Wine has no handles for some kinds of file
exit "${PIPESTATUS[0]}"
