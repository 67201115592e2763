#!/bin/sh
# plot: pictures of every kind, the data behind them, and what it does without gnuplot.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"
does "$train" train data net.cfg -o m.st --hold-out 30 --measure-plans 5 --threads 1 --log m.jsonl
does "$train" train data net.cfg -o bare.st --hold-out 0 --epochs 1 --threads 1
does "$deploy" profile m.st --repeats 3 -o dev.json
tail -c 20 m.jsonl | head -c 9 >cut # a line that is still being written does not disturb
cat m.jsonl cut >now.jsonl

does "$train" plot now.jsonl m.st --profile dev.json -o all.png
[ "$(cat out)" = all.png ]
"$train" eval data m.st --split train --levels all --json >eval.jsonl 2>/dev/null
python3 - <<'P' || fail "the data of the picture are not what they should be"
import json, re
blocks = {m.group(1): [list(map(float, l.split())) for l in m.group(2).split('\n')]
          for m in re.finditer(r'\$(\w+) << EOD\n(.*?)\nEOD', open('all.gp').read(), re.S)}
log = [json.loads(l) for l in open('m.jsonl')]
steps = [l for l in log if l['kind'] == 'step']
assert log[0]['steps_per_epoch'] == 10 and len(blocks['steps0']) == len(steps) == 40
for (epoch, loss, accuracy), s in zip(blocks['steps0'], steps):
    assert abs(epoch - s['step'] / 10) < 1e-4 and abs(loss - s['loss']) < 1e-4 and abs(accuracy - 100 * s['accuracy']) < 1e-2
looks = [l for l in log if l['kind'] == 'epoch' and l['held_out']]
for level in '012':
    assert [round(a, 2) for _, a in blocks['looks0_' + level]] == [round(100 * l['held_out'][level], 2) for l in looks]
profile, done = json.load(open('dev.json'))['ms'], log[-1]
cost = [json.loads(l)['multiply_adds'] for l in open('eval.jsonl')]
for level, row in enumerate(blocks['uniform0']):
    ms = sum(block[level][level if b else 0] for b, block in enumerate(profile))
    want = [100 * cost[level], 100 * done['uniform'][level], ms, level]
    assert all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(row, want)), (row, want)
assert len(blocks['uniform0']) == 3
for row, plan in zip(blocks['random0'], done['random_plans']):
    incoming = [max(l, plan['level'][b - 1] if b else 0) for b, l in enumerate(plan['link'])]
    ms = sum(block[plan['level'][b]][incoming[b]] for b, block in enumerate(profile))
    assert abs(row[1] - 100 * plan['accuracy']) < 1e-3 and abs(row[2] - ms) <= 1e-3 * ms, (row, ms)
assert len(blocks['random0']) == 5
P
[ "$(head -c 4 all.png | tail -c 3)" = PNG ] || fail "not a PNG"
does "$train" plot m.jsonl m.jsonl -o "it's_two.svg"
grep -q '</svg>' "it's_two.svg" || fail "not an SVG"
does "$train" plot m.st -o one.pdf
[ "$(head -c 4 one.pdf)" = %PDF ] || fail "not a PDF"
[ -z "$(ls | grep tmp || :)" ] || fail "a temporary file was left behind"

# Without gnuplot: data and script, how to get it, and the old picture.
cp all.png kept.png
mkdir nothing
refuses 1 'gnuplot is not installed: all.gp' env PATH="$work/nothing" "$train" plot m.jsonl -o all.png
hints 'apt-get install gnuplot-nox'
cmp all.png kept.png
grep -q 'steps0' all.gp && ! grep -q 'uniform0' all.gp || fail "the script is not the new one"

refuses 2 '.png, .svg or .pdf' "$train" plot m.st -o all.jpg
refuses 2 '.png, .svg or .pdf' "$train" plot m.st -o all
refuses 1 'nowhere.jsonl' "$train" plot nowhere.jsonl -o new.png
refuses 1 'net.cfg' "$train" plot net.cfg -o new.png
refuses 1 'bare.st holds no accuracy' "$train" plot bare.st -o new.png
refuses 2 'needs a model file' "$train" plot m.jsonl --profile dev.json -o new.png
refuses 1 'm.jsonl is not valid JSON' "$train" plot m.st --profile m.jsonl -o new.png
sed 's/"nlevels":[[:space:]]*3/"nlevels":2/' dev.json >two.json
refuses 1 'two.json is not a profile' "$train" plot m.st --profile two.json -o new.png
printf '{"kind":"begin","steps_per_epoch":10}\n{"kind":"step","step":"x"}\n' >bad.jsonl
refuses 1 'bad.jsonl:2: not a line of a training log' "$train" plot bad.jsonl -o new.png
head -n 1 m.jsonl >empty.jsonl
refuses 1 'empty.jsonl holds no training step' "$train" plot empty.jsonl -o new.png
refuses 1 'nowhere/new.gp' "$train" plot m.jsonl -o nowhere/new.png
[ ! -e new.png ] && [ ! -e new.gp ] || fail "something came from a failure"
