# libpsg: make help
VERSION := $(shell sed -n 's/^.define PSG_VERSION_STRING "\(.*\)"/\1/p' include/psg/base.h)
SOVERSION := $(word 1,$(subst ., ,$(VERSION))).$(word 2,$(subst ., ,$(VERSION)))

CC ?= cc
AR ?= ar
CPPFLAGS ?=
CFLAGS ?= -O2 -g
LDFLAGS ?=
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DOCDIR ?= $(PREFIX)/share/doc/psg
MANDIR ?= $(PREFIX)/share/man
BUILD ?= build
PKG_CONFIG ?= pkg-config
ARGS ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 1)   # that run, test, bench and the sanitizers build with
V ?=
COMMA := ,

# Folders stand in commands, among them rm -rf, in rules, and in the files that programs find libpsg by: one word each,
# of characters that mean nothing there; and clean must not remove the tree.
FOLDERS := PREFIX LIBDIR INCLUDEDIR DOCDIR MANDIR DESTDIR BUILD
UNFIT := & | ; : < > ( ) * ? [ ] { } ' " ` ~ = \# \ $$ %
$(foreach folder,$(FOLDERS),$(if $(filter-out 1,$(words x$($(folder))x))$(strip $(foreach c,$(UNFIT),\
    $(findstring $(c),$($(folder))))),$(error $(folder) is "$($(folder))", must have no blanks and none of $(UNFIT))))
$(foreach folder,$(filter-out PREFIX DESTDIR,$(FOLDERS)),$(if $($(folder)),,$(error $(folder) is empty, must be a folder)))
$(if $(filter $(patsubst %/,%,$(abspath $(BUILD)))/%,$(CURDIR)/),$(error BUILD is "$(BUILD)", must not hold this tree))

# $(call say,WHAT,FILE): one short line in place of a command; V=1 shows the command.
say = $(if $(filter-out 0,$(V)),,@printf '  %-4s %s\n' '$(1)' '$(2)';)
compile = $(call say,CC,$<)$(CC) $(CPPFLAGS)
link = $(call say,LD,$@)$(CC) $(CFLAGS) $(LDFLAGS)
PARALLEL = --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(strip $(JOBS)))

LIBRARIES := lapacke openblas libsodium jansson zlib   # what calls before what is called, as archives need it
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla -pedantic
COMMON := -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -fno-math-errno -MMD -MP \
          -Iinclude -Isrc -Ikernels $(WARNINGS)
# Checks of array bounds and of the stack's end, but in kernels, where they cost up to 9 % of a small step (elsewhere
# under 1 %).  Those of bounds need optimisation, and CFLAGS may choose otherwise.
OPTIMISED = $(filter-out -O0,$(filter -O%,$(CFLAGS)))
HARDENING = -fstack-protector-strong $(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,\
            $(if $(OPTIMISED),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3))
PACKAGE_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
PACKAGE_LIBS = $(shell $(PKG_CONFIG) --libs $(LIBRARIES))

# $(call SANITIZE,address): what compiles for that sanitizer, which ends the program at its first finding.
SANITIZE = -O1 -g -fno-omit-frame-pointer -fsanitize=$(1) -fno-sanitize-recover=all

# ---- library: plain sources once, kernels once a real type and instruction set ----
SOURCES := $(filter-out src/mpi/%,$(wildcard src/*/*.c src/ops/*/*.c))
KERNELS := $(filter-out kernels/table.c,$(wildcard kernels/*.c))
ARCH := $(shell $(CC) -dumpmachine 2>/dev/null | sed 's/-.*//')
SYSTEM_LIBS := -lm -pthread   # glibc's -lm brings its vector functions, libmvec
# Instruction sets to compile for: a library for other processors has baseline.
ISAS := baseline $(if $(filter x86_64,$(ARCH)),avx2 avx512)
$(if $(ISAS),,$(error ISAS is empty, must name one of baseline, avx2 and avx512))
$(if $(filter-out baseline avx2 avx512,$(ISAS)),$(error ISAS is "$(ISAS)", must be of baseline, avx2 and avx512))
VECTOR_baseline := -DPSG_VECTOR_BYTES=16
VECTOR_avx2 := -DPSG_VECTOR_BYTES=32 -mavx2 -mfma
VECTOR_avx512 := -DPSG_VECTOR_BYTES=64 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mprefer-vector-width=512
REAL_f32 := -DPSG_REAL_IS_F64=0
REAL_f64 := -DPSG_REAL_IS_F64=1
VARIANTS := $(foreach isa,$(sort $(ISAS)),f32_$(isa) f64_$(isa))

KERNEL_OBJECTS := $(foreach v,$(VARIANTS),$(KERNELS:kernels/%.c=$(BUILD)/kernels/%.$(v).o))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/kernels/table.o $(KERNEL_OBJECTS)
STATIC := $(BUILD)/libpsg.a
SHARED := $(BUILD)/libpsg.so.$(VERSION)
CMAKE_FILES := $(BUILD)/psgConfig.cmake $(BUILD)/psgConfigVersion.cmake

.PHONY: all run test bench dp-attack dp-audit dp-mutants crash differential law accountant mutations fuzz mpi-test mpi-run doc \
        install uninstall abi asan tsan ubsan variants cross-aarch64 coverage format lint clean dist deb help
.DELETE_ON_ERROR:

# libpsg-mpi, where there is an MPI compiler (MPICC=none: without).
MPICC ?= mpicc
MPI := $(shell command -v $(firstword $(MPICC)) 2>/dev/null)
MPI_STATIC := $(BUILD)/libpsg-mpi.a
MPI_SHARED := $(BUILD)/libpsg-mpi.so.$(VERSION)
MPI_FILES := $(if $(MPI),$(MPI_STATIC) $(MPI_SHARED) $(BUILD)/psg-mpi.pc)

all: $(STATIC) $(SHARED) $(BUILD)/psg.pc $(CMAKE_FILES) $(MPI_FILES)  ## build the static and the shared library

$(BUILD)/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(compile) $(HARDENING) $(CFLAGS) $(INSTRUMENT) $(COMMON) -ffp-contract=off $(PACKAGE_CFLAGS) -c $< -o $@

# What the table was made for: another choice makes it anew.
.PHONY: force
$(BUILD)/kernels/isas: force
	@mkdir -p $(@D)
	@echo "$(sort $(ISAS))" | cmp -s - $@ || echo "$(sort $(ISAS))" >$@

$(BUILD)/kernels/table.o: kernels/table.c $(BUILD)/kernels/isas
	$(compile) $(HARDENING) $(CFLAGS) $(COMMON) $(ISAS:%=-DPSG_HAS_%) -c $< -o $@

# The vector width belongs to kernels alone, and they name what they fuse (kernels/vector.h); link-time optimisation of
# them ends gcc 12 with an internal error and would gain nothing, as they are called through a table.
KERNEL_CFLAGS = $(CFLAGS) -O3 $(if $(findstring -flto,$(CFLAGS)),-fno-lto)
define KERNEL_RULE
$(BUILD)/kernels/%.$(1).o: kernels/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$< $(1))$$(CC) $$(CPPFLAGS) $$(KERNEL_CFLAGS) $$(COMMON) -Wno-psabi \
	    -ffp-contract=off -fno-trapping-math -DPSG_SUFFIX=$(1) $$(REAL_$(firstword $(subst _, ,$(1)))) \
	    $$(VECTOR_$(lastword $(subst _, ,$(1)))) -c $$< -o $$@
endef
$(foreach v,$(VARIANTS),$(eval $(call KERNEL_RULE,$(v))))

.PHONY: objects
objects: $(OBJECTS)

$(STATIC): $(OBJECTS)
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(SHARED): $(OBJECTS)
	$(link) -shared -Wl,-soname,libpsg.so.$(SOVERSION) -Wl,-z,relro,-z,now,-z,defs -o $@ $^ \
	    $(PACKAGE_LIBS) $(SYSTEM_LIBS)
	@ln -sf $(@F) $(BUILD)/libpsg.so.$(SOVERSION)
	@ln -sf $(@F) $(BUILD)/libpsg.so

MPI_COMPILE = $(call say,MPI,$<)$(MPICC) $(CPPFLAGS) $(CFLAGS) -std=c11 -D_GNU_SOURCE -MMD -MP -Wall -Wextra -Iinclude

$(BUILD)/src/mpi/mpi.o: src/mpi/mpi.c | needed
	@mkdir -p $(@D)
	$(MPI_COMPILE) $(HARDENING) -fPIC -fvisibility=hidden -Isrc/mpi -c $< -o $@

$(MPI_STATIC): $(BUILD)/src/mpi/mpi.o
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(MPI_SHARED): $(BUILD)/src/mpi/mpi.o $(SHARED)
	$(call say,LD,$@)$(MPICC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libpsg-mpi.so.$(SOVERSION) -Wl,-z,relro,-z,now \
	    -o $@ $< -L$(BUILD) -lpsg
	@ln -sf $(@F) $(BUILD)/libpsg-mpi.so.$(SOVERSION)
	@ln -sf $(@F) $(BUILD)/libpsg-mpi.so

# Fortran's run-time archive, which OpenBLAS's wants, prints numbers by libquadmath where there is one.  pkg-config puts
# what a package names before what its requirements name, hence the name of the function that libgfortran.a will want.
FORTRAN_LIBS = $(if $(wildcard $(shell $(CC) -print-file-name=libquadmath.a)),\
                 -Wl$(COMMA)-u$(COMMA)quadmath_snprintf -lquadmath)

# What programs find libpsg by; made anew each time, as PREFIX may differ from the last call's.  pkg-config moves what
# stands below prefix with it.
BELOW_PREFIX = $(patsubst $(PREFIX:/=)/%,$${prefix}/%,$(1))
FILL_IN = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(call BELOW_PREFIX,$(LIBDIR))|' \
          -e 's|@INCLUDEDIR@|$(call BELOW_PREFIX,$(INCLUDEDIR))|' \
          -e 's|@INCLUDE_FROM_LIB@|$(shell realpath -m -s --relative-to=$(LIBDIR) $(INCLUDEDIR))|' \
          -e 's|@VERSION@|$(VERSION)|' -e 's|@SOVERSION@|$(SOVERSION)|' -e 's|@LIBRARIES@|$(strip $(LIBRARIES))|' \
          -e 's|@SYSTEM_LIBS@|$(strip $(SYSTEM_LIBS) $(FORTRAN_LIBS))|' \
          -e 's|@POINTER_BYTES@|$(shell echo __SIZEOF_POINTER__ | $(CC) -E -P -)|'

.PHONY: $(BUILD)/psg.pc $(BUILD)/psg-mpi.pc $(CMAKE_FILES)
$(BUILD)/psg.pc: psg.pc.in
$(BUILD)/psg-mpi.pc $(CMAKE_FILES): $(BUILD)/%: src/install/%.in
$(BUILD)/psg.pc $(BUILD)/psg-mpi.pc $(CMAKE_FILES):
	@mkdir -p $(@D)
	@$(FILL_IN) $< > $@

# ---- what is not there is installed by run and test; all and install list it and stop ----
export CC CXX PKG_CONFIG
NEED_BUILD := cmd:$(firstword $(CC))=$(if $(findstring clang,$(CC)),clang,gcc) header:stdio.h=libc6-dev \
              cmd:$(firstword $(PKG_CONFIG))=pkg-config pkg:openblas=libopenblas-dev \
              pkg:lapacke=liblapacke-dev pkg:libsodium=libsodium-dev pkg:jansson=libjansson-dev pkg:zlib=zlib1g-dev
NEED_TEST := pkg:cmocka=libcmocka-dev cmd:nm=binutils
DATA := /usr/share/datasets/fashion-mnist
NEED_RUN := file:$(DATA)/train-images-idx3-ubyte.gz=dataset-fashion-mnist

.PHONY: needed
needed:
	@DEPS=no .ci/need $(NEED_BUILD)
$(OBJECTS) $(BUILD)/psg.pc $(CMAKE_FILES): | needed

run:  ## train on Fashion-MNIST with differential privacy (installs what is missing)
	@.ci/need $(NEED_BUILD) $(NEED_RUN)
	@$(MAKE) $(PARALLEL) $(BUILD)/bench/fashion_mnist
	$(BUILD)/bench/fashion_mnist --folder $(BUILD)/run $(ARGS)

test:  ## run all tests (installs what is missing)
	@.ci/need $(NEED_BUILD) $(NEED_TEST) $(NEED_RUN)
	@.ci/need cmd:$(firstword $(CXX))=g++ || true
	@$(MAKE) $(PARALLEL) all $(BUILD)/test/all
	@sh test/run.sh $(BUILD)

bench:  ## build and run the benchmarks: make bench ARGS="--help"
	@.ci/need $(NEED_BUILD) $(NEED_RUN)
	@$(MAKE) $(PARALLEL) $(BUILD)/bench/psg-bench
	$(BUILD)/bench/psg-bench $(ARGS)

dp-attack:  ## try to break the clip bound: make dp-attack ARGS="--seconds 600 --seed 7"
	@.ci/need $(NEED_BUILD)
	@$(MAKE) $(PARALLEL) $(BUILD)/test/attack/attack
	$(BUILD)/test/attack/attack $(ARGS)

# One mechanism on the processes of an MPI program: bits, failures, a rank that is killed.
MPI_TEST := $(BUILD)/test/mpi/train
$(MPI_TEST): test/mpi/train.c $(MPI_STATIC) $(STATIC)
	@mkdir -p $(@D)
	$(MPI_COMPILE) -MF $@.d -o $@ $< $(MPI_STATIC) $(STATIC) $(PACKAGE_LIBS) $(SYSTEM_LIBS)

MPI_COUNTS := $(BUILD)/test/mpi/counts
$(MPI_COUNTS): test/mpi/counts.c $(MPI_STATIC)
	@mkdir -p $(@D)
	$(MPI_COMPILE) -MF $@.d -Isrc/mpi -o $@ $< $(MPI_STATIC)

RANKS ?= 2
mpi-run:  ## the training of make run on RANKS processes of this machine (MPIRUN_FLAGS; ARGS of the program)
	@.ci/need $(NEED_BUILD) $(NEED_RUN) cmd:mpicc=libopenmpi-dev cmd:mpirun=openmpi-bin
	@$(MAKE) $(PARALLEL) $(BUILD)/bench/fashion_mnist_ranks
	mpirun -n $(RANKS) $(MPIRUN_FLAGS) $(BUILD)/bench/fashion_mnist_ranks --folder $(BUILD)/ranks $(ARGS)

mpi-test:  ## libpsg-mpi on 1 to 4 ranks of this machine
	@.ci/need $(NEED_BUILD) cmd:mpicc=libopenmpi-dev cmd:mpirun=openmpi-bin
	@$(MAKE) $(PARALLEL) $(MPI_TEST) $(MPI_COUNTS)
	@$(MPI_COUNTS)
	@sh test/mpi/run.sh $(MPI_TEST)

crash:  ## kill a private run and fail its system calls: make crash ARGS="--kills 1000 --seed 7"
	@.ci/need $(NEED_BUILD)
	@$(MAKE) $(PARALLEL) $(CRASH_PROGRAMS)
	$(BUILD)/test/crash/crash $(ARGS)

dp-audit:  ## what releases tell of a record: make dp-audit ARGS="--audit noise --n 1000000000 --fresh"
	@.ci/need $(NEED_BUILD)
	@$(MAKE) $(PARALLEL) $(BUILD)/test/audit/dp_audit
	$(BUILD)/test/audit/dp_audit $(ARGS)

dp-mutants:  ## plant known faults of private training; each must fail its tests (ARGS="NAME": that one alone)
	@.ci/need $(NEED_BUILD) $(NEED_TEST)
	@MAKE="$(MAKE)" JOBS=$(JOBS) sh test/mutants/plant.sh $(BUILD) $(ARGS)

# ---- tests: every test/test_*.c is a program, the other test/*.c but MAINS are shared by all.  test/cases holds what
# ops are tried at, for tests and benchmarks ----
TESTS := $(patsubst test/%.c,$(BUILD)/test/%,$(wildcard test/test_*.c))
CASES := $(patsubst %.c,$(BUILD)/%.o,$(wildcard test/cases/*.c))
MAINS := test/isa.c test/differential.c test/law.c test/mutations.c test/faults.c
TEST_SUPPORT := $(patsubst test/%.c,$(BUILD)/test/%.o,$(filter-out test/test_%.c $(MAINS),$(wildcard test/*.c))) $(CASES)
there_is = $(shell command -v $(firstword $(1)) 2>/dev/null)
CLANGXX ?= clang++
HPP_TESTS := $(patsubst %,$(BUILD)/test/test_hpp_%,$(if $(call there_is,$(CXX)),cxx17 cxx20) \
               $(if $(findstring -flto,$(CFLAGS))$(findstring -fsanitize,$(CFLAGS)),,\
                 $(if $(call there_is,$(CLANGXX)),clang17 clang20)))
PROGRAM_FLAGS = $(CFLAGS) -std=c11 -D_GNU_SOURCE -MMD -MP -Wall -Wextra -Iinclude

.PHONY: $(BUILD)/test/all
$(BUILD)/test/all: $(TESTS) $(HPP_TESTS) $(BUILD)/test/isa $(BUILD)/bench/psg-bench $(BUILD)/bench/fashion_mnist
	@$(if $(HPP_TESTS),,echo "psg.hpp: not run, there is no C++ compiler (CXX=$(CXX))")

$(BUILD)/test/%.o: test/%.c
	@mkdir -p $(@D)
	$(compile) $(PROGRAM_FLAGS) -Isrc -Ikernels -DPSG_GOLDEN_DIR='"test/golden"' -DPSG_CASES_DIR='"test/cases"' \
	    $(PACKAGE_CFLAGS) -c $< -o $@

$(BUILD)/test/isa: $(BUILD)/test/isa.o $(STATIC)
	$(link) -o $@ $^ $(PACKAGE_LIBS) $(SYSTEM_LIBS)

# Tests whose system calls go through test/faults.c, where they may fail.
FAULTY := $(patsubst %,$(BUILD)/test/test_%,file file_edges ledger_calls npy_faults safetensors_faults csv_bad idx)
FAULTY_CALLS := open stat fstat lstat flock fchmod ftruncate write pread fsync rename close unlink mmap
$(FAULTY): $(BUILD)/test/faults.o
$(FAULTY): WRAP := $(addprefix -Wl$(COMMA)--wrap=,$(FAULTY_CALLS))

$(BUILD)/test/test_wrong_products: WRAP := $(addprefix -Wl$(COMMA)--wrap=,cblas_sgemm cblas_dgemm cblas_ssyrk cblas_dsyrk \
                                             psg_kernel_gemm)

$(BUILD)/test/test_fork: WRAP := -Wl,--wrap=madvise
$(BUILD)/test/test_scattering: $(BUILD)/bench/scattering.o

# Calls of every public function, made from the headers.
PUBLIC_HEADERS := $(filter-out include/psg/mpi.h,$(wildcard include/psg/*.h include/psg/ops/*.h))
$(BUILD)/test/null_calls.c: test/null_calls.awk $(PUBLIC_HEADERS)
	@mkdir -p $(@D)
	awk -f $< $(PUBLIC_HEADERS) >$@

$(BUILD)/test/null_calls.o: $(BUILD)/test/null_calls.c
	$(compile) $(PROGRAM_FLAGS) -c $< -o $@

$(BUILD)/test/test_null: $(BUILD)/test/null_calls.o

# One program against today's headers and against those without the last field of each struct that grows.
OLDER := $(BUILD)/test/growth/older
$(OLDER)/words.txt: test/growth/older_headers.sh test/growth/older_headers.awk $(PUBLIC_HEADERS)
	sh $< $(OLDER)

$(BUILD)/test/growth/today.o: test/growth/growth_program.c test/growth/growth_program.h $(PUBLIC_HEADERS)
	@mkdir -p $(@D)
	$(compile) $(PROGRAM_FLAGS) -DGROWTH_PROGRAM=growth_today -c $< -o $@

$(BUILD)/test/growth/older.o: test/growth/growth_program.c test/growth/growth_program.h $(OLDER)/words.txt
	$(compile) -I$(OLDER) $(PROGRAM_FLAGS) -DGROWTH_PROGRAM=growth_older -c $< -o $@

$(BUILD)/test/test_growth: $(BUILD)/test/growth/today.o $(BUILD)/test/growth/older.o

# The page of recipes, which its test includes: each of them must be tested.  The test is a host as the page describes them,
# built with -Ofast and, where the compiler is gcc and nothing watches threads, with OpenMP.
RECIPE_FLAGS := -Ofast -Werror=unused-function
RECIPE_FLAGS += $(if $(findstring clang,$(CC))$(findstring sanitize=thread,$(CFLAGS)),,-fopenmp)

$(BUILD)/test/recipes.inc: bench/examples/recipes.md
	@mkdir -p $(@D)
	@awk '/^```c$$/ { inside = 1; text = ""; next } \
	    /^```/ && inside { inside = 0; print text ~ /omp\.h/ ? "#ifdef _OPENMP\n" text "#endif" : text } \
	    inside { text = text $$0 "\n" }' $< >$@

$(BUILD)/test/test_recipes.o: test/test_recipes.c $(BUILD)/test/recipes.inc
	$(compile) $(PROGRAM_FLAGS) $(RECIPE_FLAGS) -Isrc -I$(BUILD)/test $(PACKAGE_CFLAGS) -c $< -o $@

$(BUILD)/test/test_recipes: MORE_LIBS := $(RECIPE_FLAGS)

$(BUILD)/test/test_%: $(BUILD)/test/test_%.o $(TEST_SUPPORT) $(STATIC)
	$(link) $(WRAP) -o $@ $(filter %.o,$^) $(STATIC) $(shell $(PKG_CONFIG) --libs cmocka) \
	    $(PACKAGE_LIBS) $(MORE_LIBS) $(SYSTEM_LIBS)

# psg.hpp by CXX and, where there is one, by CLANGXX, which takes no archive of another compiler's passes.
HPP_FLAGS = $(CFLAGS) $(LDFLAGS) -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -Iinclude
define HPP_RULE
$(BUILD)/test/test_hpp_$(1)$(3): test/test_hpp.cpp $(STATIC)
	@mkdir -p $$(@D)
	$$(call say,CXX,$$< $(1) C++$(3))$(2) -std=c++$(3) $$(CPPFLAGS) $$(HPP_FLAGS) -MMD -MP -MF $$@.d -MT $$@ \
	    -o $$@ $$< $(STATIC) $$(PACKAGE_LIBS) $$(SYSTEM_LIBS)
endef
$(foreach s,17 20,$(eval $(call HPP_RULE,cxx,$(CXX),$(s)))$(eval $(call HPP_RULE,clang,$(CLANGXX),$(s))))

$(BUILD)/test/differential: $(BUILD)/test/differential.o $(CASES) $(STATIC)
	$(link) -o $@ $^ $(PACKAGE_LIBS) $(SYSTEM_LIBS)

# The attack on the clip bound, and the audits of the private step: public headers only; short runs of them are tests.
ATTACK := $(patsubst test/%.c,$(BUILD)/test/%.o,$(filter-out test/attack/main.c,$(wildcard test/attack/*.c)))
AUDIT := $(patsubst test/%.c,$(BUILD)/test/%.o,$(filter-out test/audit/dp_audit.c,$(wildcard test/audit/*.c)))
PUBLIC := $(ATTACK) $(AUDIT) $(BUILD)/test/attack/main.o $(BUILD)/test/audit/dp_audit.o

$(PUBLIC): $(BUILD)/test/%.o: test/%.c
	@mkdir -p $(@D)
	$(compile) $(PROGRAM_FLAGS) -O2 -Itest $(PACKAGE_CFLAGS) -c $< -o $@

$(BUILD)/test/attack/attack: $(BUILD)/test/attack/main.o $(ATTACK) $(STATIC)
$(BUILD)/test/audit/dp_audit: $(BUILD)/test/audit/dp_audit.o $(AUDIT) $(STATIC)
$(BUILD)/test/attack/attack $(BUILD)/test/audit/dp_audit:
	$(link) -o $@ $^ $(PACKAGE_LIBS) $(SYSTEM_LIBS)

$(BUILD)/test/test_attack_smoke: $(ATTACK)
$(BUILD)/test/test_ledger_faults: $(patsubst %,$(BUILD)/test/crash/%.o,crash_run crash_plan interpose published)

# Crashes: the driver, its victim (public headers only), and the system calls that fail, which are no part of the library.
CRASH := $(patsubst %,$(BUILD)/test/crash/%.o,crash_run crash_plan process published)
CRASH_PROGRAMS := $(BUILD)/test/crash/crash $(BUILD)/test/crash/victim $(BUILD)/test/crash/libcrash.so

$(BUILD)/test/crash/%.o: test/crash/%.c
	@mkdir -p $(@D)
	$(compile) $(PROGRAM_FLAGS) -fPIC $(PACKAGE_CFLAGS) -c $< -o $@

$(BUILD)/test/crash/crash: $(patsubst %,$(BUILD)/test/crash/%.o,crash call_faults kills recorded shared watch)
$(BUILD)/test/crash/victim: $(BUILD)/test/crash/victim.o
$(BUILD)/test/crash/crash $(BUILD)/test/crash/victim: $(CRASH) $(STATIC)
	$(link) -o $@ $(filter %.o,$^) $(STATIC) $(PACKAGE_LIBS) $(SYSTEM_LIBS)

$(BUILD)/test/crash/libcrash.so: $(BUILD)/test/crash/interpose.o $(BUILD)/test/crash/crash_plan.o
	$(link) -shared -o $@ $^

$(BUILD)/test/test_dp_audit: $(AUDIT)

$(BUILD)/test/law $(BUILD)/test/mutations: $(BUILD)/test/%: $(BUILD)/test/%.o $(TEST_SUPPORT) $(STATIC)
	$(link) -o $@ $^ $(shell $(PKG_CONFIG) --libs cmocka) $(PACKAGE_LIBS) $(SYSTEM_LIBS)

law:  ## every sample of drawn batches against itself alone (ARGS="--seconds 600 --seed 7")
	@.ci/need $(NEED_BUILD) $(NEED_TEST)
	@$(MAKE) $(PARALLEL) $(BUILD)/test/law
	$(BUILD)/test/law $(ARGS)

accountant:  ## bracket random settings of the accountant (ARGS="--settings 5000")
	@.ci/need $(NEED_BUILD) $(NEED_TEST)
	@$(MAKE) $(PARALLEL) $(BUILD)/test/test_accountant_bounds
	$(BUILD)/test/test_accountant_bounds $(or $(ARGS),--settings 500)

mutations:  ## random mutations of all case lines (ARGS="--count 100000 --seed 7")
	@.ci/need $(NEED_BUILD) $(NEED_TEST)
	@$(MAKE) $(PARALLEL) $(BUILD)/test/mutations
	$(BUILD)/test/mutations $(ARGS)

# ---- fuzzers: the library and test/fuzz under sanitizers, with libFuzzer where a clang has it ----
# clang has it where a fuzzer links.  Each engine has objects of its own; the programs are of the one that ran last.
HAS_LIBFUZZER = $(shell echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
                  clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null && echo yes)
fuzz: ENGINE = $(if $(HAS_LIBFUZZER),libfuzzer,driver)
fuzz: FUZZ_OBJECTS = $(BUILD)/fuzz/$(ENGINE)
fuzz:  ## random calls and files under sanitizers (ARGS="--seconds 600 --seed 7 --only blocks")
	@.ci/need $(NEED_BUILD) $(NEED_TEST) $(firstword $(NEED_RUN))
	@engine=$(ENGINE); [ "$$(cat $(BUILD)/fuzz/engine 2>/dev/null)" = $$engine ] || rm -f $(BUILD)/fuzz/fuzz_*; \
	mkdir -p $(BUILD)/fuzz; echo $$engine >$(BUILD)/fuzz/engine; \
	$(MAKE) $(PARALLEL) fuzzers BUILD=$(FUZZ_OBJECTS) FUZZ=$(BUILD)/fuzz HARDENING= \
	    $$([ $$engine = driver ] || echo CC=clang) \
	    CFLAGS="$(call SANITIZE,address$(COMMA)undefined) $$([ $$engine = driver ] || echo -fsanitize=fuzzer-no-link)" \
	    FUZZ_MAIN=$$([ $$engine = driver ] && echo $(FUZZ_OBJECTS)/test/fuzz/driver.o || echo -fsanitize=fuzzer) && \
	OPENBLAS_NUM_THREADS=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    sh test/fuzz/run.sh $(BUILD)/fuzz $$engine $(ARGS)

FUZZ ?= $(BUILD)/fuzz
# FUZZ_MAIN: the driver's object, or the flag that brings libFuzzer's main.
FUZZERS := $(patsubst test/fuzz/%.c,$(FUZZ)/%,$(wildcard test/fuzz/fuzz_*.c))
FUZZ_SHARED := $(patsubst %.c,$(BUILD)/%.o,\
                 $(filter-out test/fuzz/fuzz_%.c test/fuzz/driver.c,$(wildcard test/fuzz/*.c)))
FUZZ_SHARED += $(BUILD)/bench/table_lines.o
.PHONY: fuzzers
fuzzers: $(FUZZERS)
$(FUZZERS): $(FUZZ)/%: $(BUILD)/test/fuzz/%.o $(FUZZ_SHARED) $(filter %.o,$(FUZZ_MAIN)) $(TEST_SUPPORT) $(STATIC)
	$(link) -o $@ $(filter %.o,$^) $(filter -f%,$(FUZZ_MAIN)) $(STATIC) $(shell $(PKG_CONFIG) --libs cmocka) \
	    $(PACKAGE_LIBS) $(SYSTEM_LIBS)

PYTHON ?= python3
differential: $(BUILD)/test/differential  ## compare with PyTorch (a PYTHON that has it) on random cases
	$(PYTHON) test/differential.py --driver $< $(ARGS)

# ---- benchmarks (measure) and the training programs (train): public headers only ----
# Both have models and what a machine is (shared) and pages (pages).  The naive loops are compiled for each real type.
BENCH_FOLDERS := bench/measure bench/train bench/shared bench/pages
BENCH_INCLUDES := $(BENCH_FOLDERS:%=-I%) -Itest
vpath %.c $(BENCH_FOLDERS)
PAGES := $(patsubst %,$(BUILD)/bench/%.o,html html_style plot plot_frame plot_heat plot_rows plot_scale png text_file)
TRAINING := $(patsubst %,$(BUILD)/bench/%.o,dataset diagnostics diagnostics_page earlier_runs evaluation fashion_mnist \
                image_models privacy_curve progress report_page run_folder run_results scattering step_times trainer \
                training_options training_plan)
BENCH_SHARED := $(patsubst %,$(BUILD)/bench/%.o,bench_support model blocks machine resident) $(PAGES)
NAIVE := $(BUILD)/bench/naive.f32.o $(BUILD)/bench/naive.f64.o
MPI_TRAINING := $(BUILD)/bench/fashion_mnist_ranks
BENCH := $(filter-out $(BUILD)/bench/naive.o,\
           $(patsubst bench/measure/%.c,$(BUILD)/bench/%.o,$(wildcard bench/measure/*.c))) $(NAIVE) \
         $(BUILD)/bench/table_lines.o
CASE_TABLES := $(wildcard test/cases/*.txt)

$(BUILD)/bench/table_lines.c: bench/measure/table_lines.awk $(CASE_TABLES)
	@mkdir -p $(@D)
	$(call say,GEN,$@)awk -f $< $(CASE_TABLES) >$@

$(BUILD)/bench/table_lines.o: $(BUILD)/bench/table_lines.c
	$(compile) $(PROGRAM_FLAGS) $(BENCH_INCLUDES) -c $< -o $@

$(NAIVE): $(BUILD)/bench/naive.%.o: bench/measure/naive.c
	@mkdir -p $(@D)
	$(compile) $(PROGRAM_FLAGS) -O3 -DBENCH_REAL_IS_F64=$(if $(filter f64,$*),1,0) -c $< -o $@

$(BUILD)/bench/scattering.o: CFLAGS += -O3
$(BUILD)/bench/probe_fma.o: CFLAGS += -ffp-contract=fast

$(BUILD)/bench/%.o: %.c
	@mkdir -p $(@D)
	$(compile) $(PROGRAM_FLAGS) $(BENCH_INCLUDES) $(PACKAGE_CFLAGS) -c $< -o $@

$(patsubst %,$(BUILD)/test/%.o,test_bench_options test_training_options test_plot test_html test_peer_results test_scattering \
    fuzz/network): override CPPFLAGS += $(BENCH_INCLUDES)
$(BUILD)/test/test_training_options: $(patsubst %,$(BUILD)/bench/%.o,training_options training_plan image_models model blocks)
$(BUILD)/test/test_plot $(BUILD)/test/test_html: $(PAGES)
$(BUILD)/test/test_peer_results: $(BUILD)/bench/peer_results.o
$(BUILD)/test/test_bench_options: $(filter-out $(BUILD)/bench/bench.o,$(BENCH)) $(BENCH_SHARED)

$(BUILD)/bench/psg-bench: $(BENCH) $(BENCH_SHARED) $(CASES) $(STATIC)
	$(link) -o $@ $^ $(PACKAGE_LIBS) $(SYSTEM_LIBS)

$(BUILD)/bench/fashion_mnist: $(TRAINING) $(BENCH_SHARED) $(STATIC)
	$(link) -o $@ $^ $(PACKAGE_LIBS) $(SYSTEM_LIBS)

$(MPI_TRAINING): bench/train/fashion_mnist_ranks.c $(filter-out %/fashion_mnist.o,$(TRAINING)) $(BENCH_SHARED) $(MPI_STATIC) \
                 $(STATIC)
	$(MPI_COMPILE) -MF $@.d $(BENCH_INCLUDES) -o $@ $^ $(PACKAGE_LIBS) $(SYSTEM_LIBS)

# ---- sanitizers: the same tests, in build folders of their own ----
asan: SANITIZER := address
tsan: SANITIZER := thread
ubsan: SANITIZER := undefined
asan tsan ubsan:  ## tests under a sanitizer (TESTS_RUN="dp tape": those alone; TESTS_SKIP; MUTATIONS="--seconds 60": too; ISAS)
	@.ci/need $(NEED_BUILD) $(NEED_TEST) $(NEED_RUN)
	PSG_SKIP_INSTALL_TEST=yes PSG_TEST_ISAS= OPENBLAS_NUM_THREADS=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    TSAN_OPTIONS=suppressions=$(CURDIR)/test/tsan.supp \
	    $(MAKE) $(PARALLEL) sanitized BUILD=$(BUILD)/$@ HARDENING= \
	    CFLAGS="$(call SANITIZE,$(SANITIZER))"

TESTS_TO_RUN = $(filter-out $(TESTS_SKIP:%=$(BUILD)/test/test_%),\
                 $(if $(TESTS_RUN),$(TESTS_RUN:%=$(BUILD)/test/test_%),$(TESTS) $(HPP_TESTS)))
.PHONY: sanitized
sanitized: $(TESTS_TO_RUN) $(BUILD)/test/isa $(if $(MUTATIONS),$(BUILD)/test/mutations)
	@PSG_TESTS="$(TESTS_TO_RUN)" sh test/run.sh $(BUILD)
	$(if $(MUTATIONS),$(BUILD)/test/mutations $(MUTATIONS))

variants:  ## other flags, compilers and C libraries, with a few tests each (ARGS="lto clang": those alone)
	@.ci/need $(NEED_BUILD) $(NEED_TEST)
	-@.ci/need cmd:clang=clang cmd:musl-gcc=musl-tools
	@MAKE="$(MAKE)" JOBS=$(JOBS) sh test/variants.sh $(BUILD) $(ARGS)

NEED_CROSS := cmd:aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu cmd:qemu-aarch64-static=qemu-user-static \
              cmd:pkg-config=pkg-config
cross-aarch64:  ## build for aarch64 and run the tests under qemu (ARGS="law norm": those alone; ARGS=--long: all)
	@.ci/need $(NEED_CROSS)
	@MAKE="$(MAKE)" JOBS=$(JOBS) sh test/cross_aarch64.sh $(BUILD)/aarch64 $(ARGS)

# ---- coverage: of the library's sources as they are written (-O0); test/README.md ----
COVERED ?= src/accountant src/dp src/gradient src/io src/optim src/base/file.c
COVERAGE_TESTS := $(filter-out $(patsubst %,$(BUILD)/test/test_%,activation attention% attributes cases embedding% \
                    golden loss matmul mutations norm% op_% ops_% pooling processors recurrent shape% unfold),$(TESTS))

coverage:  ## branches that no test takes, of folders or files (COVERED="src/dp"; by default those of the guarantees)
	@.ci/need $(NEED_BUILD) $(NEED_TEST)
	@PSG_SKIP_INSTALL_TEST=yes PSG_TEST_ISAS= $(MAKE) $(PARALLEL) covered BUILD=$(BUILD)/coverage HARDENING= \
	    INSTRUMENT="-O0 --coverage -fprofile-update=atomic" LDFLAGS=--coverage

.PHONY: covered
covered: $(COVERAGE_TESTS) $(BUILD)/test/isa
	@find $(BUILD) -name '*.gcda' -delete
	@PSG_TESTS="$(COVERAGE_TESTS)" sh test/run.sh $(BUILD)
	@sh test/coverage.sh $(BUILD) $(COVERED)

# ---- manual pages, of the comments in the public headers ----
MAN := $(BUILD)/man/man3
MAN_SCRIPTS := $(patsubst %,src/install/%.awk,headers roff man)
SYMBOLS := src/install/libpsg.so.$(SOVERSION).symbols
MAN_DATE = $(shell date -u -d @$${SOURCE_DATE_EPOCH:-$$(stat -c %Y $(PUBLIC_HEADERS) | sort -n | tail -n 1)} +%F)

doc: $(MAN)/psg.h.3 $(MAN)/psg.hpp.3  ## manual pages, of the comments in the public headers

$(MAN)/psg.h.3: $(MAN_SCRIPTS) $(SYMBOLS) $(PUBLIC_HEADERS) include/psg/mpi.h
	@rm -rf $(MAN) && mkdir -p $(MAN)
	$(call say,MAN,$(MAN))LC_ALL=C awk $(MAN_SCRIPTS:%=-f %) -v folder=$(MAN) -v version=$(VERSION) \
	    -v date=$(MAN_DATE) -v symbols=$(SYMBOLS) $(PUBLIC_HEADERS) include/psg/mpi.h

$(MAN)/psg.hpp.3: src/install/roff.awk src/install/hpp.awk include/psg/psg.hpp $(MAN)/psg.h.3
	@LC_ALL=C awk -f src/install/roff.awk -f src/install/hpp.awk -v page=$@ -v version=$(VERSION) -v date=$(MAN_DATE) \
	    include/psg/psg.hpp

# ---- installation ----
DOC_PAGES := src/ops src/dp src/mpi bench test
EXAMPLES := $(filter-out %.csv,$(wildcard bench/examples/*.*)) bench/examples/Makefile
CONVNET := $(wildcard bench/examples/convnet/*.*)
install: all doc  ## install under DESTDIR and PREFIX
	install -d $(addprefix $(DESTDIR),$(LIBDIR)/pkgconfig $(LIBDIR)/cmake/psg $(INCLUDEDIR)/psg/ops \
	    $(DOCDIR)/examples/convnet $(MANDIR)/man3)
	install -m 644 include/psg/*.h include/psg/*.hpp $(DESTDIR)$(INCLUDEDIR)/psg
	install -m 644 include/psg/ops/*.h $(DESTDIR)$(INCLUDEDIR)/psg/ops
	install -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)
	install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/libpsg.so.$(SOVERSION)
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/libpsg.so
	install -m 644 $(BUILD)/psg.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	$(if $(MPI),$(INSTALL_MPI),@echo "libpsg-mpi: not built, there is no $(MPICC)")
	install -m 644 $(CMAKE_FILES) $(DESTDIR)$(LIBDIR)/cmake/psg
	install -m 644 README.md CHANGELOG.md LICENSE $(DESTDIR)$(DOCDIR)
	for page in $(DOC_PAGES); do \
	    install -m 644 $$page/README.md $(DESTDIR)$(DOCDIR)/$${page##*/}.md || exit; done
	install -m 644 $(EXAMPLES) $(DESTDIR)$(DOCDIR)/examples
	install -m 644 $(CONVNET) $(DESTDIR)$(DOCDIR)/examples/convnet
	install -m 644 $(MAN)/*.3 $(DESTDIR)$(MANDIR)/man3
	@$(if $(DESTDIR),,sh src/install/loader.sh installed $(LIBDIR))

INSTALL_MPI = install -m 644 $(MPI_STATIC) $(DESTDIR)$(LIBDIR) && install -m 755 $(MPI_SHARED) $(DESTDIR)$(LIBDIR) && \
	ln -sf $(notdir $(MPI_SHARED)) $(DESTDIR)$(LIBDIR)/libpsg-mpi.so.$(SOVERSION) && \
	ln -sf $(notdir $(MPI_SHARED)) $(DESTDIR)$(LIBDIR)/libpsg-mpi.so && \
	install -m 644 $(BUILD)/psg-mpi.pc $(DESTDIR)$(LIBDIR)/pkgconfig

# Libraries of another soname stay, and pages and files that are not this tree's.
LIBRARY_NAMES = $(1).a $(1).so $(1).so.$(SOVERSION) $(1).so.$(VERSION)
uninstall: doc  ## remove what install put there
	rm -rf $(DESTDIR)$(INCLUDEDIR)/psg $(DESTDIR)$(LIBDIR)/cmake/psg
	rm -f $(addprefix $(DESTDIR)$(DOCDIR)/,README.md CHANGELOG.md LICENSE $(addsuffix .md,$(notdir $(DOC_PAGES))) \
	    $(EXAMPLES:bench/%=%) $(CONVNET:bench/%=%))
	@rmdir $(addprefix $(DESTDIR)$(DOCDIR),/examples/convnet /examples) $(DESTDIR)$(DOCDIR) 2>/dev/null || true
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,$(call LIBRARY_NAMES,libpsg) $(call LIBRARY_NAMES,libpsg-mpi) \
	    pkgconfig/psg.pc pkgconfig/psg-mpi.pc)
	for page in $(MAN)/*.3; do rm -f $(DESTDIR)$(MANDIR)/man3/$${page##*/} || exit; done
	@$(if $(DESTDIR),,sh src/install/loader.sh removed $(LIBDIR))

MPI_SYMBOLS := src/install/libpsg-mpi.so.$(SOVERSION).symbols
abi: $(SHARED) $(MPI_FILES)  ## what the sonames have promised (RECORD=yes: write down new names; BASE=OLD.so: compare types)
	@RECORD=$(RECORD) BASE=$(BASE) sh src/install/abi.sh $< $(SYMBOLS)
	@$(if $(MPI),RECORD=$(RECORD) BASE= sh src/install/abi.sh $(MPI_SHARED) $(MPI_SYMBOLS))

NEED_DEB := cmd:dpkg-buildpackage=dpkg-dev cmd:dh=debhelper file:/usr/share/doc/build-essential=build-essential
deb:  ## Debian packages of the committed (or unpacked) tree, in the build folder's deb
	@.ci/need $(NEED_BUILD) $(NEED_DEB)
	@MAKE="$(MAKE)" sh src/install/deb.sh $(VERSION) $(SOVERSION) $(BUILD)

# ---- housekeeping ----
C_FILES = $(wildcard include/psg/*.h include/psg/*.hpp include/psg/ops/*.h src/*/*.[ch] src/ops/*/*.[ch] kernels/*.[ch] \
          bench/*/*.[ch] test/*.[ch] test/*/*.[ch])
format:  ## reformat all C files with clang-format
	clang-format -i $(C_FILES)

lint:  ## static analysis with cppcheck
	cppcheck --quiet --std=c11 --enable=warning,portability --error-exitcode=1 --inline-suppr \
	    --suppress=missingInclude --suppress=unknownMacro -Iinclude -Isrc -Ikernels src

DISTDIR ?= .
dist:  ## a source archive of the committed (or unpacked) tree, the same bytes each time
	@sh src/install/dist.sh $(VERSION) $(BUILD) $(DISTDIR)

clean:  ## remove the build folder
	rm -rf $(BUILD)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9 -]*:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PREFIX LIBDIR INCLUDEDIR DOCDIR MANDIR DESTDIR, CC CPPFLAGS CFLAGS LDFLAGS AR PKG_CONFIG,"
	@echo "           BUILD (folder), V=1 (whole commands), JOBS, ARGS (of run, bench and the longer tests), DISTDIR"

-include $(OBJECTS:.o=.d) $(BUILD)/src/mpi/mpi.d $(wildcard $(BUILD)/test/*.d $(BUILD)/test/*/*.d $(BUILD)/bench/*.d)
.PRECIOUS: $(BUILD)/test/%.o $(BUILD)/bench/%.o
