# Espalier: `make help` lists the targets.
#
# Outputs go to build/<config>/; build/espalier-train and build/espalier-deploy
# link to those of the default config. Sources are found by wildcard: a new
# file in its folder needs no line here.

CONFIG ?= release
ARCH   ?= $(shell uname -m)
V      ?= 0
Q      := $(if $(filter 1,$(V)),,@)
PREFIX ?= /usr/local

HOST_ARCH := $(shell uname -m)
ifeq ($(ARCH),$(HOST_ARCH))
CROSS  :=
TARGET := $(CONFIG)
else
CROSS  := $(ARCH)-linux-gnu-
TARGET := $(ARCH)-$(CONFIG)
endif
DEB_ARCH := $(if $(CROSS),:$(subst x86_64,amd64,$(subst aarch64,arm64,$(ARCH))))
B       := build/$(TARGET)
CC      := $(CROSS)gcc
AR      := $(CROSS)gcc-ar

# A 64-bit kernel may run a 32-bit system: the compiler knows.
ifneq ($(filter arm arm32 armhf armel armv%,$(ARCH))$(filter arm-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
$(error 32-bit ARM is not supported: install the 64-bit Raspberry Pi OS, or cross-compile with ARCH=aarch64)
endif

# libFuzzer is clang's.
ifeq ($(CONFIG),fuzz)
CC      := clang
AR      := ar
endif

WARN    := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter
CFLAGS_release := -O2 -g
CFLAGS_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -g -fsanitize=thread
CFLAGS_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -Wno-unknown-pragmas -Wno-unknown-warning-option
LDFLAGS_asan   := -fsanitize=address,undefined
LDFLAGS_tsan   := -fsanitize=thread
LDFLAGS_fuzz   := -fsanitize=fuzzer,address,undefined
CFLAGS  ?=
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -I. -pthread -fno-math-errno $(WARN) -MMD -MP $(CFLAGS_$(CONFIG)) $(CFLAGS)
LDFLAGS_ALL := -pthread $(LDFLAGS_$(CONFIG)) $(LDFLAGS)
COMMON_LIBS := -lcjson -lz -ljpeg -lsodium -lm
DEPLOY_LIBS := -lzmq -lsqlite3 $(COMMON_LIBS)
TRAIN_LIBS  := -ldnnl -lgomp $(COMMON_LIBS)

# ---- packages ---------------------------------------------------------------

DEPLOY_PACKAGES := libstb-dev$(DEB_ARCH) libjpeg62-turbo-dev$(DEB_ARCH) zlib1g-dev$(DEB_ARCH) \
	libcjson-dev$(DEB_ARCH) libsodium-dev$(DEB_ARCH) libzmq3-dev$(DEB_ARCH) libsqlite3-dev$(DEB_ARCH) \
	$(if $(CROSS),gcc-$(ARCH)-linux-gnu libc6-dev-$(subst aarch64,arm64,$(ARCH))-cross)
TRAIN_PACKAGES := libdnnl-dev
TEST_PACKAGES  := libcmocka-dev$(DEB_ARCH) sqlite3 python3 python3-numpy darknet gnuplot-nox
FUZZ_PACKAGES  := clang libclang-rt-14-dev
DEMO_PACKAGES  := gnuplot-nox sqlite3 python3
BENCH_TRAIN_PACKAGES := python3 python3-torch

# $(call packages,LIST): a stamp once every package of the list is installed.
define packages
	$(Q)mkdir -p $(@D)
	$(Q)tests/packages.sh $(if $(CROSS),--arch $(DEB_ARCH:%=%)) $(1)
	$(Q)touch $@
endef
DEPS := build/.packages$(if $(CROSS),-$(ARCH))
$(DEPS)-deploy: tests/packages.sh ; $(call packages,$(DEPLOY_PACKAGES))
$(DEPS)-train: tests/packages.sh  ; $(call packages,$(TRAIN_PACKAGES))
$(DEPS)-test: tests/packages.sh   ; $(call packages,$(TEST_PACKAGES))
$(DEPS)-fuzz: tests/packages.sh   ; $(call packages,$(FUZZ_PACKAGES))
$(DEPS)-demo: tests/packages.sh   ; $(call packages,$(DEMO_PACKAGES))
$(DEPS)-bench-train: tests/packages.sh ; $(call packages,$(BENCH_TRAIN_PACKAGES))

# ---- sources ----------------------------------------------------------------

COMMON_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard common/*.c))
TRAIN_OBJ  := $(patsubst %.c,$(B)/%.o,$(filter-out train/main.c,$(wildcard train/*.c train/*/*.c)))
SIMD_SRC   := $(wildcard deploy/kernels/*_simd.c)
DEPLOY_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out deploy/main.c $(SIMD_SRC),$(wildcard deploy/*.c deploy/*/*.c)))

# One object per kernel and instruction set.
ISAS_x86_64  := sse2 avx2 avx512
ISAS_aarch64 := neon
ISAS         := $(ISAS_$(ARCH))
ISA_sse2     :=
ISA_avx2     := -mavx2 -mfma
ISA_avx512   := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512
# Without it the compiler spills sums of the largest tile.
ISA_neon     := -fno-schedule-insns
# Sanitizers make unrolled tiles slow to compile beyond -O1.
SIMD_release := -O3
# Fuzzing runs the plain C kernels; clang would need minutes for these.
SIMD_fuzz    := -O0 -fno-sanitize=all
SIMD_OBJ := $(foreach isa,$(ISAS),$(patsubst %.c,$(B)/%.$(isa).o,$(SIMD_SRC)))
DEPLOY_OBJ += $(SIMD_OBJ)

define simd_rule
$(B)/%_simd.$(1).o: %_simd.c | $$(DEPS)-deploy
	@mkdir -p $$(@D)
	$(Q)$$(if $$(filter 0,$$(V)),echo "  CC    $$<  ($(1))";) $$(CC) $$(ALL_CFLAGS) $$(SIMD_$$(CONFIG)) $$(ISA_$(1)) -DISA=$(1) -DISA_$(1) -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call simd_rule,$(isa))))

%.o: | $(DEPS)-deploy
$(TRAIN_OBJ) $(B)/train/main.o: | $(DEPS)-train
# The training backend's own loops: threads as oneDNN's, vectorised.
$(B)/train/ops_%.o: ALL_CFLAGS += -O3 -fopenmp -fno-trapping-math
# The references must not be contracted into fused multiply-adds.
$(B)/deploy/kernels/%_ref.o: ALL_CFLAGS += -ffp-contract=off
# Somebody else's header: its memory accesses are checked, its shifts are not ours to mend.
$(B)/common/image_stb.o: ALL_CFLAGS += -fno-sanitize=undefined
# Packed weights are kept only for the code that packed them.
PACKING := $(sort $(wildcard deploy/engine*.[ch] deploy/kernels/*.[ch]))
$(B)/deploy/packed.o: ALL_CFLAGS += -DPACKED_BUILD=$(firstword $(shell cat $(PACKING) | cksum))
$(B)/deploy/packed.o: $(PACKING)

$(B)/%.o: %.c | $(DEPS)-deploy
	@mkdir -p $(@D)
	$(Q)$(if $(filter 0,$(V)),echo "  CC    $<";) $(CC) $(ALL_CFLAGS) -c $< -o $@

define archive
$(1): $(2)
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(eval $(call archive,$(B)/libcommon.a,$(COMMON_OBJ)))
$(eval $(call archive,$(B)/libtrain.a,$(TRAIN_OBJ)))
$(eval $(call archive,$(B)/libdeploy.a,$(DEPLOY_OBJ)))

LINK = $(Q)$(if $(filter 0,$(V)),echo "  LINK  $@";) $(CC) $(LDFLAGS_ALL) $(filter %.o %.a,$^)
$(B)/espalier-train: $(B)/train/main.o $(B)/libtrain.a $(B)/libcommon.a
	$(LINK) -o $@ $(TRAIN_LIBS)
$(B)/espalier-deploy: $(B)/deploy/main.o $(B)/libdeploy.a $(B)/libcommon.a
	$(LINK) -o $@ $(DEPLOY_LIBS)

# The library for other programs: one object that defines espalier_* and
# nothing else, so that its names meet nobody's.
$(B)/libespalier.a: $(B)/deploy/espalier.o $(B)/libdeploy.a $(B)/libcommon.a
	$(Q)$(if $(filter 0,$(V)),echo "  LIB   $@";) $(CC) -r -nostdlib -o $(B)/espalier.o $^
	$(Q)$(CROSS)objcopy --wildcard --keep-global-symbol='espalier_*' $(B)/espalier.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(B)/espalier.o

# ---- what people type -------------------------------------------------------

.DEFAULT_GOAL := all
.PHONY: all train deploy deploy-static test check soak bench bench-accuracy bench-engines bench-pai bench-shift bench-link bench-start bench-slo bench-steady bench-methods bench-train bench-mca asan ubsan tsan fuzz fuzz-run demo install uninstall help clean tests-build tests-net FORCE

## all: build both programs (the default)
all: train deploy
## train: build build/espalier-train
train: $(B)/espalier-train
	$(Q)ln -sfn $(TARGET)/espalier-train build/espalier-train
## deploy: build build/espalier-deploy and libespalier.a with their own packages only; ARCH=aarch64 for a Pi
deploy: $(B)/espalier-deploy $(B)/libespalier.a
	$(if $(CROSS),,$(Q)ln -sfn $(TARGET)/espalier-deploy build/espalier-deploy)

# One file that needs nothing else, not even a C library. Debian has no static
# libcjson, so that it comes from Debian's source package.
CJSON := build/cjson/cJSON.c
$(CJSON): tests/source.sh
	$(Q)tests/source.sh cjson $(@D)
$(B)/cJSON.o: $(CJSON)
	@mkdir -p $(@D)
	$(Q)$(CC) -O2 -c $< -o $@
$(B)/deploy/main_local.o: deploy/main.c | $(DEPS)-deploy
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -DLOCAL_ONLY -c $< -o $@
$(B)/espalier-deploy-static: $(B)/deploy/main_local.o $(B)/libdeploy.a $(B)/libcommon.a $(B)/cJSON.o
	$(LINK) -static -o $@ -ljpeg -lz -lsodium -lm
	$(Q)$(CROSS)strip $@
## deploy-static: one stripped file without networking: predict, info, bench, profile, selftest; ARCH=aarch64 for a Pi
deploy-static: $(B)/espalier-deploy-static
	@echo "  $$(wc -c <$<) bytes: $<"

# ---- tests ------------------------------------------------------------------

# tests/<kind>/*.c: one program each. unit and kernels make up the fast part.
FAST_SRC := $(wildcard tests/unit/test_*.c tests/kernels/check_*.c)
SLOW_SRC := $(wildcard tests/grad/grad_*.c tests/golden/test_*.c tests/net/test_*.c)
FAST_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(FAST_SRC))
SLOW_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(SLOW_SRC))
FAST_SH  := $(wildcard tests/unit/*.sh)
SLOW_SH  := $(wildcard tests/cli/*.sh tests/golden/*.sh tests/net/*.sh)

$(B)/tests/%.o: tests/%.c | $(DEPS)-test $(DEPS)-deploy $(if $(CROSS),,$(DEPS)-train)
	@mkdir -p $(@D)
	$(Q)$(if $(filter 0,$(V)),echo "  CC    $<";) $(CC) $(ALL_CFLAGS) -c $< -o $@
# What several tests share: tests/*.c.
HELP_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard tests/*.c))
$(eval $(call archive,$(B)/libtests.a,$(HELP_OBJ)))
# A fuzz target's main() is libFuzzer's, or the one that replays the corpus.
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(FUZZ_SRC))
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(if $(filter fuzz,$(CONFIG)),,$(B)/tests/fuzz/replay.o) $(B)/libdeploy.a $(B)/libcommon.a
	$(LINK) -o $@ $(DEPLOY_LIBS)
# What a machine does to a program that writes, preloaded by test_soak.
$(B)/tests/libfaults.so: tests/preload/faults.c
	@mkdir -p $(@D)
	$(Q)$(if $(filter 0,$(V)),echo "  LINK  $@";) $(CC) -std=c11 -D_GNU_SOURCE -O1 -fPIC -shared -o $@ $< -ldl
$(B)/tests/net/test_soak: $(B)/tests/libfaults.so
$(B)/tests/%: $(B)/tests/%.o $(B)/libtests.a $(B)/libdeploy.a $(if $(CROSS),,$(B)/libtrain.a) $(B)/libcommon.a
	$(LINK) -o $@ -lcmocka $(DEPLOY_LIBS) $(if $(CROSS),,-ldnnl -lgomp)
.PRECIOUS: $(B)/tests/%.o

## check: the fast tests, under a minute
check: all $(FAST_BIN)
	$(Q)tests/run.sh $(B) $(FAST_BIN) $(FAST_SH)
## test: every test
test: all $(FAST_BIN) $(SLOW_BIN) $(FUZZ_BIN)
	$(Q)tests/run.sh $(B) $(FAST_BIN) $(SLOW_BIN) $(FUZZ_BIN) $(FAST_SH) $(SLOW_SH)
tests-net: all $(filter $(B)/tests/net/%,$(SLOW_BIN))
	$(Q)tests/run.sh $(B) $(filter $(B)/tests/net/%,$(SLOW_BIN))
## soak: 200 rounds of faults at random against a cluster of real processes, a quarter of an hour; SOAK_ROUNDS, SOAK_SEED
soak: deploy $(B)/tests/net/test_soak
	$(Q)SOAK_ROUNDS=$${SOAK_ROUNDS:-200} $(B)/tests/net/test_soak
## asan: build and test with the address and undefined-behaviour sanitizers
asan ubsan:
	$(Q)$(MAKE) --no-print-directory CONFIG=asan test
## tsan: build and run the fast tests and the network tests with the thread sanitizer
tsan: export TSAN_OPTIONS := suppressions=$(CURDIR)/tests/tsan.supp $(TSAN_OPTIONS)
tsan:
	$(Q)$(MAKE) --no-print-directory CONFIG=tsan check
	$(Q)$(MAKE) --no-print-directory CONFIG=tsan tests-net
## check-aarch64: cross-compile deploy and run its kernel and predict tests under qemu-aarch64
check-aarch64:
	$(Q)$(MAKE) --no-print-directory ARCH=aarch64 check-cross
CROSS_BIN := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/kernels/check_*.c tests/unit/test_engine*.c))
check-cross: deploy $(CROSS_BIN)
	$(Q)tests/packages.sh qemu-user
	$(Q)QEMU_LD_PREFIX=/ RUN="qemu-$(ARCH)" tests/run.sh $(B) $(CROSS_BIN) $(wildcard tests/cli/predict_*.sh tests/cli/info_*.sh tests/cli/static.sh)

## bench-train: training's images per second and memory beside PyTorch's, a quarter of an hour; BENCH=--help
bench-train: train $(DEPS)-bench-train
	$(Q)tests/bench/train/run.py $(BENCH)

## bench-accuracy: accuracy at every level by training method, from finished rows; RERUN=1 trains the missing ones
bench-accuracy:
	$(Q)tests/bench/accuracy.sh $(if $(RERUN),run)

## bench-pai: pruning at initialisation, whole channels against single weights, from finished rows; RERUN=1 trains the missing ones
bench-pai:
	$(Q)tests/bench/pai.py $(if $(RERUN),run)

## bench-shift: a portfolio's variants against sparse and conventional networks, from finished rows; RERUN=1 trains the missing ones
bench-shift:
	$(Q)tests/bench/shift.py $(if $(RERUN),run)

## bench-methods: every way to a smaller model side by side, from finished rows; RERUN=1 trains the missing ones
bench-methods:
	$(Q)tests/bench/methods.py $(if $(RERUN),run)

## bench-steady: latency while the clock moves, by the clock and not, from finished rows; RERUN=1 measures, as root; MODEL=FILE
bench-steady:
	$(Q)tests/bench/steady.py $(if $(RERUN),run)

## bench-slo: the policies under disturbances on an emulated cluster, as root; SLO=--help, SLO=--table for finished rows
bench-slo: $(if $(findstring --table,$(SLO)),,all $(DEPS)-demo)
	$(Q)tests/bench/slo_table.py $(SLO)

## bench-link: a device and a server on links of three rates, from finished rows; MODEL=FILE measures, as root
bench-link:
	$(Q)tests/bench/link.py $(if $(MODEL),run $(MODEL))

## bench: latency of the reference networks at every level, as shares of what the processor can do; then beside other engines
bench: deploy
	$(Q)tests/bench/networks.sh $(B)/espalier-deploy
	$(Q)$(MAKE) --no-print-directory bench-engines
## bench-engines: the reference networks beside XNNPACK, oneDNN, OpenBLAS and PyTorch, from Debian's packages; ENGINES=--help
$(B)/bench/engines/espalier: $(B)/tests/bench/engines/espalier.o $(B)/libdeploy.a $(B)/libcommon.a
	@mkdir -p $(@D)
	$(LINK) -o $@ $(DEPLOY_LIBS)
bench-engines: deploy $(B)/bench/engines/espalier
	$(Q)tests/bench/engines/run.py --build $(abspath $(B)) $(ENGINES)

## bench-start: from start to the first prediction, with and without a cache; from a 12-megapixel JPEG to a network's input
bench-start: all $(DEPS)-test
	$(Q)tests/bench/start.py $(B)
	$(Q)tests/bench/decode.py time

## bench-mca: the kernels' inner loops on the cores of the Pi 4 and the Pi 5, by llvm-mca; MIN=N also shows smaller loops
MCA_CC := aarch64-linux-gnu-gcc
bench-mca:
	$(Q)tests/packages.sh gcc-aarch64-linux-gnu libc6-dev-arm64-cross llvm-19 python3
	$(Q)tests/bench/mca.py $(MCA_CC) $(filter-out -MMD -MP -g,$(ALL_CFLAGS)) $(SIMD_release) $(ISA_neon) -DISA=neon -DISA_neon -- $(SIMD_SRC)

## fuzz: fuzz every entry point for untrusted bytes, FUZZ_SECONDS (60) each, with clang's libFuzzer
FUZZ_SECONDS ?= 60
fuzz: $(DEPS)-fuzz
	$(Q)$(MAKE) --no-print-directory CONFIG=fuzz fuzz-run
fuzz-run: $(FUZZ_BIN)
	$(Q)tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_BIN)

## demo: the main job on an embedded default, a table and two plots at the end
demo: all $(DEPS)-demo
	$(Q)tests/demo.sh build/demo

## install: copy the programs, the library and the systemd units to PREFIX (/usr/local); espalier-train only where it was built
SERVICES  := espalier-worker.service espalier-run.service
INSTALLED := bin/espalier-deploy bin/espalier-train lib/libespalier.a lib/pkgconfig/espalier.pc include/espalier.h \
	$(addprefix lib/systemd/system/,$(SERVICES)) lib/sysusers.d/espalier.conf
install: deploy
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib/pkgconfig lib/systemd/system lib/sysusers.d include)
	install -m 755 $(wildcard $(B)/espalier-deploy $(B)/espalier-train) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(B)/libespalier.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 deploy/espalier.h $(DESTDIR)$(PREFIX)/include
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBS@|$(COMMON_LIBS)|' deploy/espalier.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/espalier.pc
	for unit in $(SERVICES); do \
		sed 's|@PREFIX@|$(PREFIX)|' deploy/systemd/$$unit.in >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit 1; done
	install -m 644 deploy/systemd/espalier.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,$(INSTALLED))
## clean: remove build/
clean:
	rm -rf build
## help: this list
help:
	@sed -n 's/^## //p' Makefile | awk -F': ' '{printf "  %-14s %s\n", $$1, $$2}'

-include $(COMMON_OBJ:.o=.d) $(TRAIN_OBJ:.o=.d) $(DEPLOY_OBJ:.o=.d) $(B)/train/main.d $(B)/deploy/main.d $(B)/deploy/main_local.d \
	$(FAST_BIN:=.d) $(SLOW_BIN:=.d) $(FUZZ_BIN:=.d) $(B)/tests/fuzz/replay.d $(HELP_OBJ:.o=.d)
