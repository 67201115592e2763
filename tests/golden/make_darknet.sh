#!/bin/sh
# Makes tests/golden/darknet/*: needs Debian's darknet package and a built tree.
#   make build/release/tests/golden/test_darknet && tests/golden/make_darknet.sh
# For each case of test_darknet.c: the test writes the cfg and .weights that we
# export, and the input; Darknet runs them; its outputs are the golden values.
set -eu
here=$(dirname "$0") work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -I/usr/lib/darknet/include "$here/darknet_outputs.c" -L/usr/lib/darknet -ldarknet -Wl,-rpath,/usr/lib/darknet -o "$work/darknet_outputs"
mkdir -p "$here/darknet"
rm -f "$here"/darknet/*
"${BUILD:-build/release}/tests/golden/test_darknet" --export "$work"
for cfg in "$work"/*.cfg; do
    name=$(basename "$cfg" .cfg)
    case $name in layers-*) last= ;; *) last=last ;; esac
    "$work/darknet_outputs" "$cfg" "$work/$name.weights" "$work/$name.input" "$here/darknet/$name.output" $last >"$work/log" 2>&1 ||
        { cat "$work/log"; exit 1; }
    if grep -iE "unused|couldn't|cannot|unrecognized" "$work/log"; then echo "$name: Darknet complains"; exit 1; fi
    cp "$cfg" "$work/$name.weights" "$here/darknet/"
done
ls -l "$here/darknet"
