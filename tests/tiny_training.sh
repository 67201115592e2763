# A dataset that is quickly drawn and a network that is quickly trained, for
# the tests of training; sourced behind lib.sh, it changes to $work:
#   data/    192 training images of three classes
#   net.cfg  three blocks, three levels, batches of 16
cd "$work"
cat >net.cfg <<'C'
[net]
width=16
height=16
channels=3
batch=16
subdivisions=2
learning_rate=.05
policy=onecycle
epochs=4
label_smoothing=.1
flip=1
pad_crop=2
[prune]
levels=1,.5,.25
align=2
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=relu
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=relu
[convolutional]
batch_normalize=1
filters=16
size=1
activation=relu
[avgpool]
[connected]
output=3
activation=linear
[softmax]
C
does "$train" synth data --images 240 --size 64 --classes fox,boar,empty --threads 1
