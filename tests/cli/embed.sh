#!/bin/sh
# A program that embeds the runtime: built with what `make install` puts there, and nothing else.
. "$(dirname "$0")/../lib.sh"
here=$(dirname "$0")
/usr/bin/python3 "$here/tiny_model.py" "$work"
does make -s install "CONFIG=$(basename "$BUILD")" "PREFIX=$work/usr"
for file in bin/espalier-deploy lib/libespalier.a lib/pkgconfig/espalier.pc include/espalier.h; do
    [ -s "$work/usr/$file" ] || fail "$file is not installed"
done
case $BUILD in
*/asan) flags=-fsanitize=address,undefined ;;
*) flags= ;;
esac

# The header stands alone, in C and in C++.
does ${CC:-gcc} -std=c99 -Wall -Wextra -Werror -pedantic -fsyntax-only -x c "$work/usr/include/espalier.h"
does ${CC:-gcc} -Wall -Wextra -Werror -fsyntax-only -x c++ "$work/usr/include/espalier.h"

# Its names are its own.
nm -g --defined-only "$work/usr/lib/libespalier.a" | awk 'NF == 3 && $3 !~ /^(espalier_|__odr_asan|__asan)/' >"$work/names"
[ ! -s "$work/names" ] || { head "$work/names"; fail "the library defines these, too"; }

libs=$(sed -n "s|\${prefix}|$work/usr|g; s/^Libs: //p" "$work/usr/lib/pkgconfig/espalier.pc")
does ${CC:-gcc} -O1 -Wall -Wextra -Werror $flags "-I$work/usr/include" "$here/../embed/example.c" -o "$work/example" $libs
does "$work/example" "$work/tiny.safetensors" "$work/a.ppm"
cp "$work/out" "$work/example.out"

# It says what predict says, level by level.
for level in 0 1; do
    does "$deploy" predict "$work/tiny.safetensors" "$work/a.ppm" --json --top 1 --plan $level
    /usr/bin/python3 - "$work" $level <<'P' || fail "level $level differs from predict: $(cat "$work/example.out")"
import json, sys
folder, level = sys.argv[1:]
top = json.load(open(folder + '/out'))['top'][0]
line = open(folder + '/example.out').read().splitlines()[int(level)]
number, rest = line.split(' ', 1)
label, prob = rest.rsplit(' ', 1)
assert number == level and label == top['label'] and abs(float(prob) - top['prob']) < 2e-6, (line, top)
P
done
[ "$(wc -l <"$work/example.out")" = 2 ] || fail "not a line for each level"
