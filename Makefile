# make build   the static binary, bin/strongroom
# make demo    a real backup and a real restore, with QEMU on the other side
# make test    everything that must pass: format, vet, tests, race detector, real clients
# make bench   the figures of docs/PERFORMANCE.md, measured on this machine
# make soak    the random tests for longer
# make mutants a fault planted at every step taken for safety: which test notices it
# make fuzz    every fuzz target for FUZZTIME each
#
# demo, test and bench install the Debian packages they need; see .ci/tools.

export PATH := $(PATH):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
export CGO_ENABLED ?= 0

DEMO_DIR ?= $(if $(TMPDIR),$(TMPDIR),/tmp)
FUZZTIME ?= 20s
KILLS    ?= 200
SOAK     ?= 20

# The packages in which goroutines meet.
RACE = ./catalog/... ./dedup/... ./files/... ./internal/... ./maintenance/... ./metrics/... ./nbd/... ./server/... ./sftp/... ./tier/... ./volume/...

.PHONY: build demo test check unit race bench soak mutants fuzz clean

build:
	go build -o bin/strongroom ./cmd/strongroom

demo:
	@.ci/tools demo
	@echo "building bin/strongroom"
	@$(MAKE) --no-print-directory -s build
	@go run ./integration/demo -strongroom bin/strongroom -dir $(DEMO_DIR)

test:
	@.ci/tools test
	@$(MAKE) --no-print-directory check unit race

check:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...

# -count=1: the tests of the binary build it themselves, and go would call their
# result cached although the binary has changed.
unit:
	go test -count=1 -timeout 15m ./...

race:
	CGO_ENABLED=1 go test -race -timeout 15m $(RACE)

bench:
	@.ci/tools bench
	go run ./bench

soak:
	@.ci/tools test
	STRONGROOM_SOAK=$(SOAK) go test -timeout 2h ./volume/... ./internal/crashfs ./integration/powercut ./integration/bitrot ./integration/life
	STRONGROOM_KILLS=$(KILLS) go test -timeout 2h -count=1 -run TestKill -v ./integration

mutants:
	go vet -tags mutants ./...
	go run ./internal/mutant/run

fuzz:
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

clean:
	rm -rf bin
