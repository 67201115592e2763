#!/bin/sh
# Importance learnt with the weights: a model like any other; a run that is
# stopped while the mask is soft, and behind it, and resumed ends with the same bytes; its log
# tells how the order came about; options that contradict it are refused.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"

options="--soft-mask --seed 7 --threads 1 --epochs 6 --robust-from .3 --hold-out 32 --checkpoint-every 2 --measure-plans 3"
does "$train" train data net.cfg -o a $options --log a.jsonl
python3 - <<'P'
import json
lines = [json.loads(line) for line in open('a.jsonl')]
masks = [line for line in lines if line['kind'] == 'mask']
steps = max(line['step'] for line in lines if line['kind'] == 'step')
# plain up to .3 of the steps, soft up to half of the rest; at the ends of epochs, and where it ends
begin = int(.3 * steps)
end = begin + (steps - begin) // 2
assert [m['step'] for m in masks] == [20, 30, end], (masks, begin, end)
assert all(a['temperature'] > b['temperature'] for a, b in zip(masks, masks[1:])), masks
assert sum(m['entered_narrowest'] for m in masks) > 0, 'nothing was learnt: %s' % masks
assert lines[0]['soft_mask'] == 1
P
does "$deploy" info a
does "$deploy" predict a --plan 2 "$(ls data/valid/*.jpg data/test/*/*.jpg data/valid/*/*.jpg 2>/dev/null | head -n 1)"

does "$train" train data net.cfg -o plain $(echo $options | sed 's/--soft-mask//')
! cmp -s a plain || fail "with and without a soft mask, one result"

# Killed behind a checkpoint of the soft part, and once more later.
for step in 22 24 50; do
    "$train" train data net.cfg -o b $options --log b.jsonl $([ ! -e b.checkpoint ] || echo --resume) >out 2>err & pid=$!
    while kill -0 $pid 2>/dev/null; do
        grep -q "\"step\":$step," b.jsonl 2>/dev/null && { kill -KILL $pid 2>/dev/null || :; break; }
    done
    wait $pid 2>/dev/null || :
done
if [ -e b.checkpoint ]; then does "$train" train data net.cfg -o b $options --log b.jsonl --resume; fi
cmp a b || fail "killed and resumed, but not to the same result"
cut -d, -f1-3 a.jsonl | grep '"mask"' >a.masks
cut -d, -f1-3 b.jsonl | grep '"mask"' >b.masks
cmp a.masks b.masks || fail "the log of all runs together is not that of one"

refuses 2 'soft-mask learns from pruned passes' "$train" train data net.cfg -o c --soft-mask --robust none
refuses 2 'soft-mask goes without' "$train" train data net.cfg -o c --soft-mask --order-every 1
refuses 2 'soft-mask goes without' "$train" train data net.cfg -o c --soft-mask --robust-groups .5
sed 's/activation=relu/activation=logistic/' net.cfg >logistic.cfg
refuses 2 'activation, logistic, is not 0 at 0' "$train" train data logistic.cfg -o c --soft-mask
[ ! -e c ] && [ ! -e c.checkpoint ] || fail "a refused run left something"
