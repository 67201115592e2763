#!/bin/sh
# Steady latency: a profile at several clocks, set through a cpufreq folder that
# a governor made of a few lines obeys; predict and run take the plan that the clock calls for;
# what cannot be is refused, and limits are given back.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"
does "$train" train data net.cfg -o m --epochs 1 --threads 1 --measure-plans 3

# The governor: the clock follows the limit of the most. (There is no slowing down here:
# times are made up below.)
cat >governor.py <<'P'
import os, sys, time
folder = sys.argv[1] + '/cpu0/cpufreq/'
open('governing', 'w').close()
while os.path.exists(folder):
    try:
        want = open(folder + 'scaling_max_freq').read()
        if want and want != open(folder + 'scaling_cur_freq').read():
            open(folder + 'new', 'w').write(want)
            os.replace(folder + 'new', folder + 'scaling_cur_freq')
    except FileNotFoundError:
        break
    time.sleep(.005)
P
clock() { echo "${1}000" >cpu/cpu0/cpufreq/new; mv cpu/cpu0/cpufreq/new cpu/cpu0/cpufreq/scaling_cur_freq; }
mkdir -p cpu/cpu0/cpufreq
echo 600000 >cpu/cpu0/cpufreq/scaling_min_freq
echo 1800000 >cpu/cpu0/cpufreq/scaling_max_freq
clock 1800
python3 governor.py cpu & governor=$!
until [ -e governing ]; do sleep .01; done
does "$deploy" profile m --frequencies 600,1200,1800 --cpufreq cpu --repeats 3 --threads 1 -o profile.json
[ "$(cat cpu/cpu0/cpufreq/scaling_min_freq) $(cat cpu/cpu0/cpufreq/scaling_max_freq)" = "600000 1800000" ] ||
    fail "the clock's limits are not as they were"
kill $governor
wait $governor 2>/dev/null || :
python3 - <<'P'
import json
p = json.load(open('profile.json'))
assert [c['mhz'] for c in p['clocks']] == [600, 1200, 1800] and p['nlevels'] == 3, p['clocks']
assert all(t > 0 for c in p['clocks'] for t in c['frame_ms'])
# As if frames took what a clock has them take: 2 ms of work at 1800 MHz, .5 and .2 of it at the other levels.
for c in p['clocks']:
    c['frame_ms'] = [2 * 1800 / c['mhz'] * share for share in (1, .5, .2)]
p['ms'] = [[[own] * 3 for own in (1, .5, .2)] for _ in p['ms']]
json.dump(p, open('made.json', 'w'))
P

image=$(find data -name '*.jpg' | head -n 1)
levels() { # MHZ: the levels that predict takes
    clock "$1"
    does "$deploy" predict m "$image" --steady made.json --cpufreq cpu --threads 1 --json
    python3 -c "import json; p = json.load(open('out')); print(p['mhz'], round(p['expected_ms'], 1), *p['levels'])"
}
[ "$(levels 1800)" = "1800 2 $(python3 -c "import json; print(*[0] * json.load(open('made.json'))['nblocks'])")" ] ||
    fail "at the fastest clock not level 0: $(levels 1800)"
[ "$(levels 900 | cut -d' ' -f1-2)" = "900 2" ] || fail "half the clock, not half the work: $(levels 900)"
[ "$(levels 900 | cut -d' ' -f3-)" != "$(levels 1800 | cut -d' ' -f3-)" ] || fail "the plan does not follow the clock"

# A pipeline on this device: one stage, so a level throughout.
mkdir frames
for i in 1 2 3 4; do cp "$image" frames/$i.jpg; done
"$deploy" worker --listen 'tcp://127.0.0.1:*' --address-file address --threads 1 >worker.out 2>&1 & worker=$!
until [ -s address ]; do
    kill -0 $worker || fail "no worker: $(cat worker.out)"
    sleep .02
done
printf '[worker]\nname=here\naddress=%s\n' "$(cat address)" >cluster.cfg
for mhz in 1800 900; do
    clock $mhz
    does "$deploy" run cluster.cfg m frames --steady made.json --cpufreq cpu --results $mhz.sqlite --json
    cp out $mhz.out
done
kill $worker
python3 - <<'P'
import json
levels = {mhz: {json.loads(l)['levels'] for l in open('%s.out' % mhz)} for mhz in ('1800', '900')}
assert levels == {'1800': {'0'}, '900': {'1'}}, levels
P

refuses 2 'rising' "$deploy" profile m --frequencies 1200,600 --cpufreq cpu
refuses 2 'takes MHz' "$deploy" profile m --frequencies fast --cpufreq cpu
refuses 1 'nonexistent' "$deploy" profile m --frequencies 600 --cpufreq nonexistent
refuses 2 'chooses the plan' "$deploy" predict m "$image" --steady made.json --cpufreq cpu --plan 1
refuses 2 'chooses the plan' "$deploy" run cluster.cfg m frames --steady made.json --policy exact --slo-ms 5
does "$deploy" profile m --repeats 1 --threads 1 -o plain.json
refuses 2 'not measured at several clocks' "$deploy" predict m "$image" --steady plain.json --cpufreq cpu
refuses 1 'cannot read' "$deploy" predict m "$image" --steady made.json --cpufreq cpu --throttled nothing
printf '[worker]\nname=far\naddress=tcp://10.0.0.9:7700\n' >far.cfg
refuses 2 'follows the clock of this device' "$deploy" run far.cfg m frames --steady made.json --cpufreq cpu
