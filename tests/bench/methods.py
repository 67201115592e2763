#!/usr/bin/env python3
"""Every way to a smaller model, on one network and CIFAR-10: pruning at
initialisation, a portfolio of variants, a soft mask, and the ordered channels of the main
path; beside the network as it is.

    tests/bench/methods.py         print the table from finished rows
    tests/bench/methods.py run     train what is missing, then print
    tests/bench/methods.py list    the rows

The rows of pruning at initialisation and of portfolios are those of pai.py and
shift.py; `run` trains the others.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rows

WAYS = {'ordered': [], 'soft-mask': ['--soft-mask'], 'alone': []}
RATIOS = [.75, .5, .25]
OTHERS = 'pai', 'shift'


def jobs():
    for network in 'resnet20', 'vgg16-cifar':
        for way in 'soft-mask', 'ordered':
            yield {'network': network, 'seed': 1, 'way': way}
        # A network of that width and no other: what one model for all ratios is to come up to.
        for ratio in RATIOS:
            yield {'network': network, 'seed': 1, 'way': 'alone', 'ratio': ratio}


def narrow(network, ratio, work):
    """The cfg of the network at one ratio of its channels, the last layer's apart."""
    path = f'{work}/{network}-{ratio}.cfg'
    with open(f'cfg/{network}.cfg') as file:
        lines = file.read().replace('levels=', '#').splitlines()
    counts = [i for i, l in enumerate(lines) if l.startswith(('filters=', 'output='))]
    last = max(counts)
    for i in counts:
        name, value = lines[i].split('=')
        if i != last:
            lines[i] = f'{name}={max(1, round(int(value) * ratio))}'
    text = '\n'.join('levels=1' if l.startswith('#1') else l for l in lines)
    with open(path, 'w') as file:
        file.write(text + '\n')
    return path


def run_row(table, job):
    network, way = job['network'], job['way']
    name = f'{table.work}/{network}-{way}{job.get("ratio", "")}-{job["seed"]}'
    model = name + '.safetensors'
    cfg = narrow(network, job['ratio'], table.work) if way == 'alone' else f'cfg/{network}.cfg'
    command = [rows.TRAIN, 'train', rows.DATA, cfg, '-o', model, '--seed', str(job['seed']), '--hold-out', rows.HOLD_OUT,
               '--threads', rows.THREADS, '--epochs', str(rows.epochs_of(network)), '--measure-plans', '0'] + WAYS[way]
    if way == 'alone':
        command += ['--robust', 'none', '--order', 'none']
    if not os.path.exists(model):
        resume = ['--resume'] if os.path.exists(model + '.checkpoint') else []
        rows.run(command + ['--log', model + '.log'] + resume)
    levels = [json.loads(l) for l in rows.run([rows.TRAIN, 'eval', rows.DATA, model, '--split', 'test', '--levels', 'all',
                                               '--threads', rows.THREADS, '--json'], name + '.test').splitlines()]
    bench = json.loads(rows.run([rows.DEPLOY, 'bench', model, '--threads', '1', '--seconds', '2', '--switches', '1000',
                                 '--json']))
    table.add(dict(job, epochs=rows.epochs_of(network), ratios=[l['ratio'] for l in bench['levels']],
                   test=[round(100 * l['accuracy'], 2) for l in levels], multiply_adds=[l['multiply_adds'] for l in bench['levels']],
                   ms=[l['min_ms'] for l in bench['levels']], switch_us=bench.get('switch_us', {}).get('median'),
                   bytes=rows.sizes(model)['bytes'], resident_mib=round(bench['engine_bytes'] / 2**20, 2),
                   train_s=round(rows.seconds(model + '.log')), command=rows.said(command)))


def line(name, share, test, megabytes, mega_madds, ms, switch, mib, seconds, epochs):
    number = lambda value, form: format(value, form) if value is not None else '-'.rjust(int(form.split('.')[0]))
    print(f'{name:34} {number(share, "6.1f")} {number(test, "8.2f")} {number(megabytes, "7.3f")} {number(mega_madds, "9.2f")} '
          f'{number(ms, "8.3f")} {number(switch, "10.2f")} {number(mib, "9.2f")} {number(seconds, "8.0f")} {epochs:6}')


def show(table):
    others = {name: rows.Table(name).rows for name in OTHERS}
    for network in 'resnet20', 'vgg16-cifar':
        own = table.find(network=network)
        pai = [r for r in others['pai'] if r['network'] == network]
        shift = [r for r in others['shift'] if r['network'] == network and r['kind'] == 'portfolio']
        if not own and not pai and not shift:
            continue
        print(f'{network}\n{"way":34} {"work,%":>6} {"test,%":>8} {"MB":>7} {"Mmadds":>9} {"ms":>8} {"switch, us":>10} {"held, MiB":>9} '
              f'{"made, s":>8} {"epochs":>6}')
        whole = max([r['multiply_adds'][0] for r in own if r['way'] != 'alone'] + [r.get('multiply_adds_before', 0) for r in pai])
        for r in own:
            for i, ratio in enumerate(r['ratios']):
                name = f'alone, width {r["ratio"]}' if r['way'] == 'alone' else f'{r["way"]}, level {i}'
                line(name, 100 * r['multiply_adds'][i] / whole, r['test'][i], r['bytes'] / 1e6, r['multiply_adds'][i] / 1e6,
                     r['ms'][i], r['switch_us'] if len(r['ratios']) > 1 else None, r['resident_mib'], r['train_s'], r['epochs'])
        for r in pai:
            work = r.get('multiply_adds', whole)
            name = 'as it is' if r['kind'] == 'dense' else f'at initialisation, {r["method"]} {r["density"]:g}'
            if r['kind'] == 'unstructured':
                name = f'  single weights, {r["method"]} {r["density"]:g}'
            line(name, 100 * work / whole, r['test'], r['bytes'] / 1e6, work / 1e6, r['ms'], None, None,
                 r['train_s'] + r.get('prune_s', 0), r['epochs'])
        for r in shift:
            line(f'portfolio, {r["variant"]}', 100 * r['multiply_adds'] / whole, r['test'], r['bytes'] / 1e6,
                 r['multiply_adds'] / 1e6, r['ms'], r['switch_us'], r['resident_mib'], r['train_s'] + r['making_s'], r['epochs'])
        soft, ordered = ([r for r in own if r['way'] == way] for way in ('soft-mask', 'ordered'))
        alone = {r['ratio']: r['test'][0] for r in own if r['way'] == 'alone'}
        for r in soft + ordered:
            gaps = [r['test'][i] - alone[ratio] for i, ratio in enumerate(r['ratios']) if ratio in alone]
            if gaps:
                print(f'{r["way"]}: {sum(gaps) / len(gaps):+.2f} points on average against networks trained for one ratio alone '
                      f'({len(gaps)} ratios; target for soft-mask: -0.5)')
        print('held: by the process with packed weights; of a portfolio all of it, with one variant at work\n')


rows.main('methods', jobs, run_row, show, OTHERS)
