#!/bin/bash
# Run Python code of this checkout on an emulated 64-bit ARM:  tools/arm64.sh FOLDER ARGUMENTS...
#
#   tools/arm64.sh ~/arm64 tools/bits.py --check --dtype float32     # do its bits differ from those kept in tests/bits.json?
#   tools/arm64.sh ~/arm64 -m pytest tests/test_special_values.py
#
# For Debian 12 and its relatives, with qemu-user-static installed. The first run puts Debian's Python for arm64 and the
# wheels into FOLDER; nothing is installed elsewhere. What it compiles is kept there too: emulated, that takes minutes.
set -eu
folder=$(realpath -m "$1")
shift
root=$(dirname "$(dirname "$(realpath "$0")")")

if [ ! -e "$folder/ready" ]; then
    mkdir -p "$folder"/{lists/partial,cache/archives/partial,debs,system,wheels,packages}
    options=(-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::status=/dev/null)
    options+=(-oDir::State::Lists="$folder/lists" -oDir::Cache="$folder/cache")
    apt-get "${options[@]}" update
    (
        cd "$folder/debs"
        apt-get "${options[@]}" download libc6 libgcc-s1 libstdc++6 libgomp1 python3.11 python3.11-minimal \
            libpython3.11-minimal libpython3.11-stdlib libssl3 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 \
            libsqlite3-0 libcrypt1 libncursesw6 libtinfo6 libreadline8 libuuid1
    )
    for file in "$folder"/debs/*.deb; do dpkg -x "$file" "$folder/system"; done
    python3 -m pip download --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        --only-binary=:all: -d "$folder/wheels" numba numpy ml_dtypes mpmath pytest hypothesis
    for file in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$file" "$folder/packages"; done
    touch "$folder/ready"
fi

export PYTHONPATH="$root:$folder/packages" FASTACT_CACHE_DIR="$folder/compiled" PYTHONDONTWRITEBYTECODE=1
cd "$root"
exec qemu-aarch64-static -L "$folder/system" "$folder/system/usr/bin/python3.11" "$@"
