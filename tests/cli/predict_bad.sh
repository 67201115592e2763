#!/bin/sh
# predict: a bad image among good ones is named, the others are predicted; misuse is refused.
. "$(dirname "$0")/../lib.sh"
/usr/bin/python3 "$(dirname "$0")/tiny_model.py" "$work"

echo 'not an image' >"$work/text.jpg"
status_of $RUN "$deploy" predict "$work/tiny.safetensors" --json "$work/a.ppm" "$work/text.jpg" "$work/missing.jpg" "$work/b.ppm"
[ $rc = 1 ] || fail "status $rc, not 1"
[ "$(grep -c '"probs"' "$work/out")" = 2 ] || fail "not two results"
[ "$(grep -c '^espalier-deploy: ' "$work/err")" = 2 ] || fail "two bad images, and not two lines"
grep -q 'text.jpg' "$work/err" && grep -q 'missing.jpg' "$work/err" || fail "two bad images, and not two lines"

model=$work/tiny.safetensors image=$work/a.ppm
refuses 2 plan $RUN "$deploy" predict "$model" "$image" --plan 7
refuses 2 plan $RUN "$deploy" predict "$model" "$image" --plan 0,1,1,0
refuses 2 'cut' $RUN "$deploy" predict "$model" "$image" --cuts 1
refuses 2 'decode' $RUN "$deploy" predict "$model" "$image" --decode slow
refuses 2 'instruction set' $RUN "$deploy" predict "$model" "$image" --cpu-mask mmx
refuses 2 'threads' $RUN "$deploy" predict "$model" "$image" --threads 0
refuses 2 '--top' $RUN "$deploy" predict "$model" "$image" --top 0
refuses 2 '--tpo' $RUN "$deploy" predict "$model" "$image" --tpo 3
refuses 2 'too few' $RUN "$deploy" predict "$model"
