#!/bin/sh
# Progress: a bar that fits its terminal, lines elsewhere, and a whole log.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"
python3 - "$train" <<'P' || fail "the bar is not what it should be"
import fcntl, os, pty, re, struct, sys, termios, time

def on_terminal(columns, epochs):
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
        os.execv(sys.argv[1], [sys.argv[1]] + ('train data net.cfg -o p%d.st --hold-out 30 --threads 1 --epochs %d' %
                                               (columns, epochs)).split())
    began, text = time.monotonic(), b''
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    assert os.waitpid(pid, 0)[1] == 0, text
    return text.decode(), time.monotonic() - began

text, seconds = on_terminal(80, 60)
def bars_of(text): # messages take the place of a bar, too
    lines = [d.split('\n')[0].rstrip('\r') for d in text.split('\r\x1b[K')[1:]]
    return [l for l in lines if not l.startswith('espalier-train: ')]

drawn = bars_of(text)
train = [d for d in drawn if d.startswith('train ')]
assert 1 <= len(train) <= 6 * seconds + 1, (len(train), seconds)
assert all(len(d) <= 79 for d in drawn), max(drawn, key=len)
shape = re.compile(r'train \[([#.]+)\] +\d+% (eta|in) [\d:]+  loss=[\d.]+ acc=[\d.]+ lr=[\d.e-]+ img/s=\d+')
bars = [shape.match(d) for d in train]
assert all(bars), train[0]
done = [m.group(1).count('#') for m in bars]
assert done == sorted(done) and '.' not in bars[-1].group(1) and bars[-1].group(2) == 'in', done
narrow, _ = on_terminal(30, 4)
assert bars_of(narrow) and all(len(d) <= 29 for d in bars_of(narrow)), narrow
P
does "$train" train data net.cfg -o m.st --hold-out 30 --threads 1 --log m.jsonl
! grep -q "$(printf '\033')" err || fail "terminal codes in a file"
grep -q '^train: 100% in=[0-9:]* loss=' err || fail "no line at the end"
python3 - <<'P' || fail "the log is not whole"
import json
lines = [json.loads(l) for l in open('m.jsonl')]
kinds = [l['kind'] for l in lines]
assert kinds[0] == 'begin' and kinds[-1] == 'done' and set(kinds) == {'begin', 'step', 'epoch', 'done'}
begin, done = lines[0], lines[-1]
assert begin['steps'] == 40 and begin['steps_per_epoch'] == 10 and begin['seed'] == 1 and begin['robust'] == 'sandwich'
assert [l['step'] for l in lines if l['kind'] == 'step'] == list(range(1, 41))
epochs = [l for l in lines if l['kind'] == 'epoch']
assert [(l['epoch'], l['step']) for l in epochs] == [(1, 10), (2, 20), (3, 30), (4, 40)]
assert all(set(l['held_out']) == {'0', '1', '2'} for l in epochs[:3]), epochs
assert len(done['uniform']) == 3 and len(done['random_plans']) == 24
P
# The page about the model says what the log says.
python3 - <<'P' || fail "m.st.txt is not what it should be"
import json, re
page, done = open('m.st.txt').read(), [json.loads(l) for l in open('m.jsonl')][-1]
table = re.findall(r'^ +(\d)  +[\d.]+%  +[\d.]+ M +([\d.]+)%  +([\d.]+) k +[\d.]+%  +([\d.]+)%$', page, re.M)
assert [t[3] for t in table] == ['%.2f' % (100 * a) for a in done['uniform']], page
accuracy = [p['accuracy'] for p in done['random_plans']]
found = re.search(r'accuracy ([\d.]+)% on average, ([\d.]+)% at worst', page)
assert found.groups() == ('%.2f' % (100 * sum(accuracy) / 24), '%.2f' % (100 * min(accuracy))), page
# 27x8 + 72x16 + 16x16 + 16x3 weights, 2x8 + 2x16 + 2x16 of batch norm, 3 biases; half the channels
assert table[0][2] == '%.2f' % ((216 + 1152 + 256 + 48 + 80 + 3) / 1000), table
assert table[1][2] == '%.2f' % ((27*4 + 36*8 + 8*8 + 8*3 + 40 + 3) / 1000), table
assert '162 training images, 30 more held out' in page and 'seed      1' in page and 'm.jsonl' in page
P
