#!/bin/sh
# 32-bit ARM is refused by name, before anything is compiled.
. "$(dirname "$0")/../lib.sh"
unset MAKEFLAGS MAKELEVEL
for arch in arm armv7l armhf; do
    status_of make -C "$(dirname "$0")/../.." --no-print-directory -n ARCH=$arch deploy
    [ $rc = 2 ] || fail "status $rc for $arch"
    grep -q '32-bit ARM is not supported: install the 64-bit Raspberry Pi OS' "$work/err" || fail "no reason for $arch"
    [ ! -s "$work/out" ] || fail "commands for $arch"
done
# A compiler for it is told, too, on a 64-bit kernel.
printf '#!/bin/sh\necho arm-linux-gnueabihf\n' >"$work/cc"
chmod +x "$work/cc"
status_of make -C "$(dirname "$0")/../.." --no-print-directory -n CC="$work/cc" deploy
[ $rc = 2 ] && grep -q '32-bit ARM is not supported' "$work/err" || fail "a 32-bit compiler is let through"
