#!/bin/sh
# synth: what it prints, the files it makes, and what it refuses.
. "$(dirname "$0")/../lib.sh"

"$train" synth "$work/a" --images 80 --size 64 --seed 7 >"$work/out" 2>"$work/err"
[ "$(cat "$work/out")" = "$work/a/synth.data: 80 images, seed 7" ] || { cat "$work/out"; exit 1; }
[ "$(find "$work/a" -name '*.jpg' | wc -l)" = 80 ]
[ "$(ls "$work/a/train" | tr '\n' ' ')" = "badger boar cat deer empty fox hare pheasant " ]
[ "$(wc -l <"$work/a/train.list")" = 64 ]
while read -r path; do [ -s "$work/a/$path" ] || { echo "no $path"; exit 1; }; done <"$work/a/test.list"

"$train" synth "$work/b" --images 80 --size 64 --seed 7 --threads 1 >/dev/null 2>&1
diff -r "$work/a" "$work/b"
"$train" synth "$work/c" --images 80 --size 64 --seed 8 >/dev/null 2>&1
! cmp -s "$work/a/train/fox/000005.jpg" "$work/c/train/fox/000005.jpg"

refuses 2 'holds another dataset' "$train" synth "$work/a" --seed 8
diff -r "$work/a" "$work/b"
refuses 2 'is not empty' "$train" synth "$work"
refuses 2 "there is no class 'otter'" "$train" synth "$work/d" --classes fox,otter
refuses 2 'too few arguments' "$train" synth
refuses 2 "unknown option '--image'" "$train" synth "$work/d" --image 3
[ ! -e "$work/d" ]
refuses 1 'cannot' "$train" synth /proc/none --images 80
[ "$(id -u)" = 0 ] || { mkdir -m 500 "$work/shut"; refuses 1 'cannot' "$train" synth "$work/shut/x" --images 80; }
"$train" synth --help | grep -q 'default 6000'
