#!/bin/sh
# predict: a bad image among good ones is named, the others are predicted; misuse is refused.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 "$(dirname "$0")/tiny_model.py" "$work"
predict() { $RUN "$BUILD/espalier-deploy" predict "$@" >"$work/out" 2>"$work/err"; }

echo 'not an image' >"$work/text.jpg"
rc=0
predict "$work/tiny.safetensors" --json "$work/a.ppm" "$work/text.jpg" "$work/missing.jpg" "$work/b.ppm" || rc=$?
[ $rc = 1 ] || { echo "status $rc, not 1"; exit 1; }
[ "$(grep -c '"probs"' "$work/out")" = 2 ] || { cat "$work/out"; exit 1; }
[ "$(grep -c '^espalier-deploy: ' "$work/err")" = 2 ] || { cat "$work/err"; exit 1; }
grep -q 'text.jpg' "$work/err" && grep -q 'missing.jpg' "$work/err" || { cat "$work/err"; exit 1; }

# misused PATTERN ARGUMENT...: status 2 and one line that has the pattern.
misused() {
    pattern=$1; shift
    rc=0
    predict "$@" || rc=$?
    [ $rc = 2 ] || { echo "status $rc, not 2: $*"; cat "$work/err"; exit 1; }
    [ "$(grep -c '^espalier-deploy: ' "$work/err")" = 1 ] && grep -q -- "$pattern" "$work/err" || { cat "$work/err"; exit 1; }
    [ ! -s "$work/out" ] || { cat "$work/out"; exit 1; }
}
model=$work/tiny.safetensors image=$work/a.ppm
misused plan "$model" "$image" --plan 7
misused plan "$model" "$image" --plan 0,1,1,0
misused 'cut' "$model" "$image" --cuts 1
misused 'decode' "$model" "$image" --decode slow
misused 'instruction set' "$model" "$image" --cpu-mask mmx
misused 'threads' "$model" "$image" --threads 0
misused '--top' "$model" "$image" --top 0
misused '--tpo' "$model" "$image" --tpo 3
rc=0; predict "$model" || rc=$?
[ $rc = 2 ] || { echo "no image: status $rc"; exit 1; }
