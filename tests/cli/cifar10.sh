#!/bin/sh
# data/cifar10.sh: archives of both kinds unpacked whole or not at all, and
# data/cifar10.data for either.
. "$(dirname "$0")/../lib.sh"
here=$(pwd)

mkdir -p "$work/in/repo/data"
cd "$work/in"
for split in train test; do
    while read -r class; do
        mkdir -p "$split/$class"
        for i in 1 2 3; do printf 'P5 2 2 255\nabcd' >"$split/$class/000$i.pgm"; done
    done <"$here/data/cifar10.labels"
done
tar -czf folders.tar.gz train test
tar -cf nine.tar --exclude=train/frog train test
mkdir cifar-10-batches-bin
head -c 30730 /dev/zero >cifar-10-batches-bin/test_batch.bin
for b in 1 2 3 4 5; do head -c 30730 /dev/zero >cifar-10-batches-bin/data_batch_$b.bin; done
tar -czf binary.tar.gz cifar-10-batches-bin
tar -czf other.tar.gz nine.tar

# As in a checkout of its own, so that the default folder is not the real one.
cp "$here/data/cifar10.sh" "$here/data/cifar10.data" "$here/data/cifar10.labels" repo/data/
sh=repo/data/cifar10.sh
refuses 1 'has 9 classes in train/' $sh --from nine.tar
refuses 1 'holds neither' $sh --from other.tar.gz
refuses 1 'cannot unpack' $sh --from "$here/data/cifar10.sh"
refuses 1 'is no file' $sh --from nothing.tar
[ "$(ls repo/data | wc -l)" = 3 ] || { ls repo/data; exit 1; }
$sh --from folders.tar.gz 2>/dev/null | grep -q 'is ready'
[ "$(find repo/data/cifar10 -type f | wc -l)" = 60 ]
refuses 1 'is there already' $sh --from folders.tar.gz
$sh --from binary.tar.gz "$work/binary" >/dev/null
[ "$(ls "$work/binary" | wc -l)" = 6 ]

# What the trainer says of each tells that it was read: the folders train, the records are all of one class.
cd repo
cat >net.cfg <<'C'
[net]
width=8
height=8
channels=3
batch=4
pad_crop=1
learning_rate=.01
[convolutional]
filters=4
size=3
pad=1
activation=relu
[avgpool]
[connected]
output=10
activation=linear
[softmax]
C
does "$train" train data/cifar10.data net.cfg -o m.safetensors --epochs 1 --hold-out 10 --robust none
[ -s m.safetensors ]
rm -r data/cifar10
mv "$work/binary" data/cifar10
refuses 1 "9 classes have no images" "$train" train data/cifar10.data net.cfg -o n.safetensors
[ ! -e n.safetensors ]
