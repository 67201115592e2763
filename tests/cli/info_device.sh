#!/bin/sh
# info without a model: what the processor has; under an emulator, what that emulates.
. "$(dirname "$0")/../lib.sh"

# has_exactly PROCESSOR KERNELS COMMAND...: its features, and the kernels that it runs.
has_exactly() {
    processor=$1 kernels=$2; shift 2
    does "$@" info --json
    grep -q "^{\"processor\":\"$processor\",\"kernels\":\"$kernels\",\"threads\":[0-9]*}\$" "$work/out" ||
        fail "not '$processor' with '$kernels' from: $*"
    does "$@" info
    grep -q "^processor: $processor; runs the $kernels kernels, " "$work/out" || fail "not '$processor': $*"
}

if [ -n "$RUN" ]; then
    has_exactly 'neon dotprod fp16' neon $RUN -cpu max "$deploy"
    has_exactly neon neon $RUN -cpu cortex-a72 "$deploy"
    has_exactly 'neon dotprod fp16' neon $RUN -cpu neoverse-n1 "$deploy"
    exit
fi
flag() { grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | grep -qw "$1"; }
case $(uname -m) in
x86_64)
    features=sse2 kernels=sse2
    if flag avx2 && flag fma; then
        features="$features avx2" kernels=avx2
        if flag avx512f && flag avx512bw && flag avx512dq && flag avx512vl; then
            features="$features avx512" kernels=avx512
        fi
    fi ;;
aarch64)
    features=neon kernels=neon
    ! flag asimddp || features="$features dotprod"
    ! flag asimdhp || features="$features fp16" ;;
*) skip "nothing is known of $(uname -m)" ;;
esac
has_exactly "$features" "$kernels" "$deploy"
refuses 2 'none is given' "$deploy" info --variant 1
# A network that is not trained yet has layers all the same.
does "$deploy" info --json "$(dirname "$0")/../../cfg/resnet20.cfg"
grep -q '"size":3,"stride":2,"pad":1,"conv_groups":1' "$work/out" || fail "no geometry of convolutions"
