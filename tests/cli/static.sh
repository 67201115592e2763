#!/bin/sh
# make deploy-static: one small file that needs nothing else, and computes what the other one does.
. "$(dirname "$0")/../lib.sh"
here=$(dirname "$0")
case $BUILD in
*/aarch64-release) cross=aarch64-linux-gnu- arch=aarch64 ;;
*/release) cross= arch=$(uname -m) ;;
*) skip "the sanitizers need shared libraries" ;;
esac
unset MAKEFLAGS MAKELEVEL
status_of make -C "$here/../.." --no-print-directory build/cjson/cJSON.c
[ $rc = 0 ] || skip "libcjson's source cannot be fetched: $(tail -n 1 "$work/err")"
does make -C "$here/../.." --no-print-directory ARCH=$arch deploy-static
static=$BUILD/espalier-deploy-static
does ${cross}strip -o "$work/stripped" "$deploy"
for file in "$static" "$work/stripped"; do
    size=$(wc -c <"$file")
    [ "$size" -lt 3000000 ] || fail "$file: $size bytes, not below 3000000"
done
LC_ALL=C ${cross}readelf -l "$static" >"$work/out"
! grep -q INTERP "$work/out" || fail "it needs libraries"

/usr/bin/python3 "$here/tiny_model.py" "$work"
alone="env -i ${RUN:+$(command -v "$RUN")} $static"
for plan in 0 1; do
    for program in "$RUN $deploy" "$alone"; do
        does $program predict "$work/tiny.safetensors" "$work/a.ppm" --plan $plan --json
        sed 's/,"label".*//' "$work/out" >>"$work/probs-$plan"
    done
    [ "$(sort -u "$work/probs-$plan" | wc -l)" = 1 ] || fail "predicts otherwise: $(cat "$work/probs-$plan")"
done
does $alone selftest
does $alone info "$work/tiny.safetensors"
does $alone bench "$work/tiny.safetensors" --seconds .01
does $alone profile "$work/tiny.safetensors" --repeats 1
refuses 2 "no command 'worker'" $alone worker
