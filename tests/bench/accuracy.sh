#!/bin/sh
# Accuracy at every level on CIFAR-10: a table of training methods, seeds and
# networks of each width trained on their own.
#
#   tests/bench/accuracy.sh              print the table from finished rows
#   tests/bench/accuracy.sh run [JOBS]   train what is missing, JOBS rows at once
#                                        (default 2, one thread each), then print
#   tests/bench/accuracy.sh list         the rows, in the order they are run
#
# A row is a job that resumes where it was cut off; when done it is one line of
# tests/bench/results/accuracy.jsonl. Images: 45,000 train, 5,000 are held out
# (the same for every seed), and the 10,000 of the test split are only used for
# the figures in the rows. Needs data/cifar10 (data/cifar10.sh).
set -eu
cd "$(dirname "$0")/../.."
results=tests/bench/results/accuracy.jsonl
work=build/bench/accuracy
train=${TRAIN:-build/espalier-train}
export OMP_WAIT_POLICY=passive

# Methods without the others.
alone="--robust-from 0 --robust-weight 1"
drop="--robust drop --robust-plans 1 --distill 0"
# name | network | epochs | keep of its filters | seeds | random plans | options of train, or "= ROW options": from that row's model
rows() {
    cat <<ROWS
plain          | resnet20      | 15 | 1    | 1 2 3 | 0   | --robust none --order none
default        | resnet20      | 15 | 1    | 1 2 3 | 100 | --robust sandwich
own-.5         | resnet20      | 15 | .5   | 1 2 3 | 0   | --robust none --order none
own-.25        | resnet20      | 15 | .25  | 1 2 3 | 0   | --robust none --order none
own-.875       | resnet20      | 15 | .875 | 1 2 3 | 0   | --robust none --order none
own-.75        | resnet20      | 15 | .75  | 1 2 3 | 0   | --robust none --order none
own-.625       | resnet20      | 15 | .625 | 1 2 3 | 0   | --robust none --order none
own-.375       | resnet20      | 15 | .375 | 1 2 3 | 0   | --robust none --order none
plain-l1       | resnet20      | 15 | 1    | 1     | 0   | = plain --robust none --order l1
plain-l2       | resnet20      | 15 | 1    | 1     | 0   | = plain --robust none --order l2
plain-bn-gamma | resnet20      | 15 | 1    | 1     | 0   | = plain --robust none --order bn-gamma
plain-taylor   | resnet20      | 15 | 1    | 1     | 0   | = plain --robust none --order taylor
plain-random   | resnet20      | 15 | 1    | 1     | 0   | = plain --robust none --order random
allocate       | resnet20      | 15 | 1    | 1     | 100 | --robust sandwich --allocate sensitivity
plain          | vgg16-cifar   | 4  | 1    | 1     | 0   | --robust none --order l1
default        | vgg16-cifar   | 4  | 1    | 1     | 100 | --robust sandwich
own-.5         | vgg16-cifar   | 4  | .5   | 1     | 0   | --robust none --order none
slice          | resnet20      | 15 | 1    | 1     | 100 | $alone $drop
group          | resnet20      | 15 | 1    | 1     | 100 | $alone $drop --robust-cuts 0 --robust-groups 1
slice-group    | resnet20      | 15 | 1    | 1     | 100 | $alone $drop --robust-groups .5
random-channel | resnet20      | 15 | 1    | 1     | 100 | $alone $drop --robust-channels random
reorder        | resnet20      | 15 | 1    | 1     | 100 | $alone $drop --order-every 1
sandwich       | resnet20      | 15 | 1    | 1     | 100 | $alone --robust sandwich --robust-cuts 0 --robust-link 0
sandwich-slice | resnet20      | 15 | 1    | 1     | 100 | $alone --robust sandwich
plain-start    | resnet20      | 15 | 1    | 1     | 100 | --robust-weight 1 $drop
ROWS
}

fail() { echo "accuracy.sh: $1" >&2; exit 1; }

# One line per job: row|network|epochs|keep|seed|plans|options
jobs_of() {
    rows | awk -F'|' '{
        for (i = 1; i <= NF; i++) gsub(/^ +| +$/, "", $i)
        n = split($5, seeds, " ")
        for (s = 1; s <= n; s++) printf "%d|%s|%s|%s|%s|%s|%s|%s\n", s, $1, $2, $3, $4, seeds[s], $6, $7
    }' | sort -s -t'|' -k1,1n | cut -d'|' -f2-
}

finished() { [ -f "$results" ] && grep -q "^{\"row\":\"$1\",\"network\":\"$2\",\"seed\":$3," "$results"; }

# The network with a share of its filters; on its own it needs no levels.
narrow() {
    awk -F= -v keep="$2" '
        /^levels=/ { print "levels=1"; next }
        /^filters=/ { printf "filters=%d\n", $2 * keep + .5; next }
        { print }' "$1" >"$3"
}

run_row() {
    row=$1 network=$2 epochs=$3 keep=$4 seed=$5 plans=$6 options=$7
    finished "$row" "$network" "$seed" && return 0
    mkdir -p "$work"
    name=$work/$network-$row-$seed cfg=cfg/$network.cfg
    case $row in own-*)
        cfg=$name.cfg
        narrow "cfg/$network.cfg" "$keep" "$cfg" ;;
    esac
    case $options in "= "*)
        from=${options#= }
        options="--epochs 0 --from $work/$network-${from%% *}-$seed.safetensors ${from#* }" ;;
    *) options="--epochs $epochs $options" ;;
    esac
    case $row in
    default) ;; # with the accuracy model that it would have in the field
    *) options="$options --measure-plans 0" ;;
    esac
    model=$name.safetensors
    command="$train train data/cifar10.data $cfg -o $model --seed $seed --hold-out 5000 --threads 1 $options"
    if [ ! -f "$model" ]; then
        resume=
        [ -f "$model.checkpoint" ] && resume=--resume
        $command $resume --log "$name.log" >"$name.out" 2>&1 || { tail -n 3 "$name.out" >&2; fail "row $row, seed $seed"; }
    fi
    random=
    [ "$plans" = 0 ] || random="--random-plans $plans"
    if [ ! -f "$name.test" ]; then
        "$train" eval data/cifar10.data "$model" --split test --levels all $random --threads 1 --json >"$name.part" 2>/dev/null ||
            fail "row $row, seed $seed: its accuracy on the test images"
        mv "$name.part" "$name.test"
    fi
    seconds=$(sed -n 's/.*"kind":"epoch".*"seconds":\([0-9.]*\).*/\1/p' "$name.log" 2>/dev/null | awk '{s += $1} END {printf "%d", s}')
    line=$(awk -v head="{\"row\":\"$row\",\"network\":\"$network\",\"seed\":$seed,\"epochs\":$epochs" \
        -v tail="\"train_s\":${seconds:-0},\"command\":\"$(echo "$command" | sed "s|^[^ ]*|espalier-train|")\"}" '
        BEGIN { n = 0 }
        { split($0, part, "\"accuracy\":"); accuracy = part[2] + 0
          split($0, part, "\"multiply_adds\":"); cost = part[2] + 0 }
        !n || (!plans && cost < c[n - 1]) { # the levels come first, each with less work; then random plans
            top = top sep sprintf("%.2f", 100 * accuracy); work = work sep cost; sep = ","
            a[n] = 100 * accuracy; c[n++] = cost; next }
        { # against the uniform levels, at the same multiply-adds
          i = 1
          while (i < n - 1 && c[i] > cost) i++
          uniform = a[i] + (a[i - 1] - a[i]) * (cost - c[i]) / (c[i - 1] - c[i])
          gap = 100 * accuracy - uniform
          sum += gap; mean += 100 * accuracy
          if (!plans++ || gap < worst) worst = gap }
        END { printf "%s,\"test\":[%s],\"multiply_adds\":[%s]", head, top, work
              if (plans) printf ",\"random\":{\"plans\":%d,\"mean\":%.2f,\"mean_gap\":%.2f,\"worst_gap\":%.2f}", plans, mean / plans, sum / plans, worst
              printf ",%s\n", tail }' "$name.test")
    mkdir -p "$(dirname "$results")"
    echo "$line" | flock "$work/lock" tee -a "$results"
}

print_table() {
    [ -s "$results" ] || fail "no finished rows in $results; begin with: $0 run"
    awk '
    function value(key,    part) { split($0, part, "\"" key "\":"); return part[2] }
    {
        split(value("row"), q, "\""); row = q[2]
        split(value("network"), q, "\""); key = q[2] " " row
        split(value("test"), list, /[][]/); n = split(list[2], top, ",")
        if (!(key in seeds)) { order[++rows] = key; width[key] = n }
        seeds[key]++
        for (i = 1; i <= n; i++) sum[key, i] += top[i]
        if ($0 ~ /"random"/) { gap[key] += value("mean_gap"); w = value("worst_gap") + 0
                               if (!(key in worst) || w < worst[key]) worst[key] = w }
        seconds[key] += value("train_s")
    }
    END {
        printf "%-32s %5s  %s  %s\n", "top-1 on the test images", "seeds", "     1   .875    .75   .625     .5   .375    .25", "random plans: mean, worst against uniform"
        for (r = 1; r <= rows; r++) {
            key = order[r]
            printf "%-32s %5d ", key, seeds[key]
            for (i = 1; i <= width[key]; i++) printf " %6.2f", sum[key, i] / seeds[key]
            if (key in gap) printf "   %+.2f %+.2f", gap[key] / seeds[key], worst[key]
            printf "\n"
        }
    }' "$results"
}

case ${1:-} in
"") print_table ;;
list) jobs_of ;;
row) shift; run_row "$@" ;;
run)
    [ -x "$train" ] || fail "no $train; make"
    [ -d data/cifar10 ] || fail "no data/cifar10; data/cifar10.sh fetches it"
    jobs_of | tr '|\n' '\0\0' | xargs -0 -n 7 -P "${2:-2}" "$0" row
    print_table ;;
*) echo "usage: $0 [run [JOBS] | list]" >&2; exit 2 ;;
esac
