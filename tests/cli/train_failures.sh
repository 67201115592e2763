#!/bin/sh
# What can go wrong with data, network, disk and terminal: a line that says so,
# the right status, and nothing lost that was there.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"
trap 'umount "$work/disk" 2>/dev/null || :; chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
echo kept >m.st
stays() { [ "$(cat m.st)" = kept ] && [ ! -e m.st.txt ] || fail "the model that was there is gone"; }

# ---- data
mkdir -p few/train few/test less/train
for class in boar empty fox; do
    for split in train test; do
        mkdir few/$split/$class
        cp "$(find data/train/$class -name '*.jpg' | sort | head -n 1)" few/$split/$class
    done
done
refuses 2 'few has 3 images, fewer than a batch of 8' "$train" train few net.cfg -o m.st --hold-out 0
cp -r data/train/boar data/train/empty less/train
mkdir less/train/fox
cp -r data/test less
refuses 1 "class 'fox' has no images" "$train" train less net.cfg -o m.st
mkdir bytes
python3 - <<'P'
import random
r = random.Random(1)
record = lambda label: bytes([label]) + bytes(r.randrange(256) for _ in range(3072))
for b in range(1, 6):
    open('bytes/data_batch_%d.bin' % b, 'wb').write(b''.join(record(12 if (b, i) == (3, 5) else i % 10) for i in range(10)))
open('bytes/test_batch.bin', 'wb').write(b''.join(record(i) for i in range(10)))
P
sed 's/output=3/output=10/' net.cfg >ten.cfg
refuses 1 'data_batch_3.bin: image 5 has label 12; CIFAR-10 has 0 to 9' "$train" train bytes ten.cfg -o m.st
printf 'classes=3\ntrain=list\nvalid=list\nlabels=names\n' >lists.data
printf 'boar\nempty\nfox\n' >names
printf 'data/train/otter/1.jpg\n' >list
refuses 1 'list:1: none of the 3 labels' "$train" train lists.data net.cfg -o m.st
stays

# ---- a run that diverges: the step, the layer, advice; an earlier checkpoint stays, and is of numbers
sed 's/learning_rate=.05/learning_rate=1e6/; s/onecycle/constant/' net.cfg >wild.cfg
stops 1 'diverged in step 2, seen first in the output of layer [0-9]* (' "$train" train data wild.cfg -o m.st --threads 1 --checkpoint-every 1
hints 'lower learning_rate'
python3 - <<'P' || fail "the checkpoint is not of numbers"
import json, math, struct
data = open('m.st.checkpoint', 'rb').read()
n = struct.unpack('<Q', data[:8])[0]
header = json.loads(data[8:8 + n])
assert header['__metadata__']['step'] == '1'
for name, t in header.items():
    if name == '__metadata__' or name.startswith('velocity.'):
        continue
    a, b = t['data_offsets']
    values = struct.unpack('<%df' % ((b - a) // 4), data[8 + n + a:8 + n + b])
    assert all(map(math.isfinite, values)), name
P
stays
rm m.st.checkpoint

# ---- a log or an output that cannot be written: the model is there all the same
stops 1 'cannot write the log /dev/full' "$train" train data net.cfg -o n.st --epochs 1 --threads 1 --log /dev/full
[ -s n.st ] && [ -s n.st.txt ] && [ ! -e n.st.checkpoint ] || fail "the model was lost with its log"
grep -q '^ *2 ' out || fail "the table was lost with the log"
refuses 2 '--allocate-from is 0.5, not between --robust-from, 0.6, and 1' "$train" train data net.cfg -o m.st --allocate sensitivity --allocate-from .5
refuses 1 'nowhere/log' "$train" train data net.cfg -o m.st --log nowhere/log
stops 1 'standard output' sh -c '"$0" train data net.cfg -o o.st --epochs 1 --threads 1 >/dev/full' "$train"
cmp n.st o.st || fail "the model was lost with the table"
stays
if [ "$(id -u)" = 0 ]; then echo 'SKIP: a folder without the right to write: root may write anywhere'
else
    mkdir -m 500 shut
    refuses 1 'cannot write to the folder shut' "$train" train data net.cfg -o shut/m.st
fi

# ---- a full disk: the first checkpoint fits, the second does not fit beside it; with room, the run goes on
mkdir disk
options="--epochs 4 --threads 1 --seed 3 --checkpoint-every 10 --hold-out 30"
does "$train" train data net.cfg -o whole.st $options
stops 1 . "$train" train data wild.cfg -o size.st --threads 1 --checkpoint-every 1
pages=$((($(stat -c %s size.st.checkpoint) + 4095) / 4096))
if ! mount -t tmpfs -o size=$(((pages + 1) * 4096)) tmpfs disk 2>/dev/null; then
    echo 'SKIP: a full disk: no right to mount a small one'
    exit 0
fi
stops 1 'disk/m.st.checkpoint: No space left on device' "$train" train data net.cfg -o disk/m.st $options
hints 'm.st.checkpoint stays.*--resume'
[ "$(ls disk)" = m.st.checkpoint ] || fail "not the checkpoint alone: $(ls disk)"
mount -o remount,size=1m disk
does "$train" train data net.cfg -o disk/m.st $options --resume
grep -q 'resuming disk/m.st behind step 10 of 40' err || fail "not resumed where it stopped"
cmp whole.st disk/m.st || fail "resumed behind a full disk, but not to the same result"
# Full when the model itself is written: all steps are kept.
rm disk/*
mount -o remount,size=$(((pages + 1) * 4096)) disk
stops 1 'disk/m.st: No space left on device' "$train" train data net.cfg -o disk/m.st $options --checkpoint-every 100
hints 'm.st.checkpoint stays.*--resume'
[ "$(ls disk)" = m.st.checkpoint ] || fail "not the checkpoint alone: $(ls disk)"
mount -o remount,size=1m disk
does "$train" train data net.cfg -o disk/m.st $options --resume
cmp whole.st disk/m.st || fail "resumed behind a full disk, but not to the same result"
