#!/usr/bin/env python3
"""A portfolio from sparse training on CIFAR-10: variants against the sparse
networks that they were made of, against training each on its own, and what
switching between them costs.

    tests/bench/shift.py         print the tables from finished rows
    tests/bench/shift.py run     train what is missing, then print
    tests/bench/shift.py list    the rows

Paper: DNNShifter, arXiv 2309.06973: variants made up to 93 times faster than by
training, 5.14 times smaller and 1.67 times faster than the sparse networks at
256 times sparsity (1.10 times smaller at 16 times), switching overhead 11.9
times and memory 3.8 times lower.

Environment, besides rows.py's: SPARSITIES.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rows

SPARSITIES = os.environ.get('SPARSITIES', '.75,.9375,.984375,.99609375')  # 4, 16, 64, 256 times
TIMES = {'dense': 1, '0.75': 4, '0.9375': 16, '0.984375': 64, '0.996094': 256}


def jobs():
    for network, share in [('vgg16-cifar', .5), ('resnet20', .5), ('resnet20', 0), ('resnet20', 1), ('vgg16-cifar', 0)]:
        job = {'network': network, 'seed': 1, 'share': share}
        yield dict(job, kind='portfolio')
        if share == .5:
            yield dict(job, kind='own')


def name_of(table, job):
    return f'{table.work}/{job["network"]}-{job["share"]}-{job["seed"]}'


def run_portfolio(table, job):
    """One row per variant, and `bench`'s figures of all of them."""
    network, name = job['network'], name_of(table, job)
    portfolio = name + '.portfolio'
    command = [rows.TRAIN, 'shift', rows.DATA, rows.one_level(network, table.work), '-o', portfolio, '--sparsities',
               SPARSITIES, '--epochs', str(rows.epochs_of(network)), '--channel-share', str(job['share']),
               '--seed', str(job['seed']), '--hold-out', rows.HOLD_OUT, '--threads', rows.THREADS]
    variants = [json.loads(l) for l in rows.run(command + ['--json'], name + '.json').splitlines()]
    bench = [rows.DEPLOY, 'bench', portfolio, '--threads', '1', '--repeats', '30', '--switches', '30', '--json']
    kept = [json.loads(l) for l in rows.run(bench + ['--cache', name + '.cache']).splitlines()]
    loaded = [json.loads(l) for l in rows.run(bench).splitlines()]
    sparse_mib = 0
    out = []
    for v, k, l in zip(variants, kept, loaded):
        sparse = f'{portfolio}.rounds/{v["variant"]}.safetensors'
        model = f'{name}-{v["variant"]}.safetensors'
        rows.run([rows.DEPLOY, 'prune', portfolio, '--variant', v['variant'], '--plan', '0', '-o', model])
        whole = json.loads(rows.run([rows.DEPLOY, 'bench', sparse, '--threads', '1', '--seconds', '3', '--json']))
        sparse_mib += whole['engine_bytes'] / 2**20
        size, sparse_size = rows.sizes(model), rows.sizes(sparse)
        out.append(dict(
            job, variant=v['variant'], times=TIMES.get(v['variant']), epochs=rows.epochs_of(network),
            test=rows.test_accuracy(portfolio, f'{name}-{v["variant"]}.test', v['variant']),
            sparse_test=rows.test_accuracy(sparse, f'{name}-{v["variant"]}.sparse-test'),
            folded_bytes=size['folded_bytes'], sparse_folded_bytes=sparse_size['folded_bytes'], bytes=size['bytes'],
            sparse_zlib_bytes=sparse_size['zlib_bytes'], multiply_adds=v['multiply_adds'], parameters=v['parameters'],
            ms=rows.milliseconds(model), sparse_ms=whole['levels'][0]['min_ms'], making_s=round(v['seconds'], 3),
            train_s=round(rows.seconds(f'{portfolio}.rounds/{v["variant"]}.jsonl')),
            switch_us=k['switch_us'], first_ms=k['first_ms'], frame_ms=k['frame_ms'], load_ms=k['load_ms'],
            resident_mib=round(k['resident_mib'], 1), command=rows.said(command)))
    for row in out:
        row.update(all_loaded_mib=round(max(l['resident_mib'] for l in loaded), 1), all_sparse_mib=round(sparse_mib, 1))
        table.add(row)


def run_own(table, job):
    """The architecture of each variant trained from the beginning: the conventional way."""
    for row in table.find(**dict(job, kind='portfolio')):
        name = f'{name_of(table, job)}-{row["variant"]}'
        if table.has(**dict(job, variant=row['variant'])):
            continue
        if row['variant'] == 'dense':
            continue
        with open(name + '-own.cfg', 'w') as file:
            file.write(rows.header(name + '.safetensors')['__metadata__']['cfg'])
        command = rows.train(name + '-own.cfg', name + '-own.safetensors', job['network'], job['seed'], [])
        table.add(dict(job, variant=row['variant'], times=row['times'], epochs=rows.epochs_of(job['network']),
                       test=rows.test_accuracy(name + '-own.safetensors', name + '-own.test'),
                       train_s=round(rows.seconds(name + '-own.safetensors.log')), command=command))


def run_row(table, job):
    (run_own if job['kind'] == 'own' else run_portfolio)(table, job)


def show(table):
    runs = []
    for r in table.find(kind='portfolio'):
        key = {k: r[k] for k in ('network', 'seed', 'share')}
        if key not in runs:
            runs.append(key)
    for key in runs:
        print(f'{key["network"]}, seed {key["seed"]}, share of pruning by whole channels {key["share"]}, '
              f'{table.find(kind="portfolio", **key)[0]["epochs"]} epochs')
        print(f'{"variant":9} {"sparsity":>8} {"test":>7} {"sparse":>7} {"own":>7} {"MB":>7} {"smaller":>8} {"ms":>8} {"faster":>7} '
              f'{"made, s":>8} {"own, s":>8} {"ratio":>7} {"switch, us":>10} {"first, ms":>9} {"load, ms":>8} {"MiB":>7}')
        made = trained = 0
        for r in table.find(kind='portfolio', **key):
            own = table.find(kind='own', variant=r['variant'], **key)
            own_test = f'{own[0]["test"]:7.2f}' if own else f'{"":7}'
            own_s = f'{own[0]["train_s"]:8d} {own[0]["train_s"] / r["making_s"]:7.1f}' if own else f'{"":16}'
            if own:
                made, trained = made + r['making_s'], trained + own[0]['train_s']
            print(f'{r["variant"]:9} {str(r["times"]) + "x":>8} {r["test"]:7.2f} {r["sparse_test"]:7.2f} {own_test} '
                  f'{r["folded_bytes"] / 1e6:7.2f} {r["sparse_folded_bytes"] / r["folded_bytes"]:8.2f} {r["ms"]:8.3f} '
                  f'{r["sparse_ms"] / r["ms"]:7.2f} {r["making_s"]:8.2f} {own_s} {r["switch_us"]:10.2f} {r["first_ms"]:9.3f} '
                  f'{r["load_ms"]:8.2f} {r["resident_mib"]:7.1f}')
        found = table.find(kind='portfolio', **key)
        mean = sum(r['resident_mib'] for r in found) / len(found)
        print(f'memory: {found[0]["all_loaded_mib"]:.1f} MiB with all variants loaded, {found[0]["all_sparse_mib"]:.1f} with their sparse '
              f'networks, {mean:.1f} on average with one at work: {found[0]["all_loaded_mib"] / mean:.2f} and '
              f'{found[0]["all_sparse_mib"] / mean:.2f} times less (paper: 3.8)')
        slowest = min(r['load_ms'] * 1e3 / r['switch_us'] for r in found)
        settled = min(r['load_ms'] / max(r['first_ms'] - r['frame_ms'] + r['switch_us'] / 1e3, 1e-6) for r in found)
        print(f'switching: at least {slowest:.0f} times cheaper than loading; with what the first frame costs more, {settled:.1f} times')
        print(f'sparse training: {sum(r["train_s"] for r in found)} s' +
              (f'; variants made {trained / made:.1f} times faster than by training each (paper: 93)' if made else '') + '\n')


rows.main('shift', jobs, run_row, show)
