# make demo      build bin/homing and run a whole world on this machine
# make test      install what the tests need, run everything, print seconds per suite
#
# The other targets are for working on Homing itself; see each.

GO := $(shell sh deploy/scripts/find-go)
ifeq ($(filter /%,$(firstword $(GO))),)
$(error $(GO))
endif
export PATH := $(patsubst %/,%,$(dir $(GO))):$(PATH)

.PHONY: demo build test test-kafka test-postgres test-restart test-dns-peers lab generate geo lint bench fuzz soak sim test-mutants clean

# Arguments of the demo: make demo ARGS="--fresh"
demo: build
	@echo
	@echo 'In other terminals:  export PATH=$(CURDIR)/bin:$$PATH'
	@echo
	@exec bin/homing demo $(ARGS)

build:
	@mkdir -p bin
	"$(GO)" build -trimpath -o bin/homing ./cmd/homing

# Chosen suites only: make test SUITES="vet unit"
test:
	@deploy/test/run $(SUITES)

# The store on real PostgreSQL servers (Debian: apt-get install postgresql patroni
# etcd-server): quorum commit, failover, killed servers, full disks; moving a region
# between engines. Part of "make test".
test-postgres:
	@deploy/test/run postgres

# Copying over real brokers: part of "make test". Apache Kafka's jars come by name
# from Maven and stay in ~/.m2.
test-kafka:
	@deploy/test/run kafka

# Disasters in a whole world of real processes, in network namespaces joined by a
# network in user space; needs root. Chosen ones: make lab SCENARIOS="switchover"
SCENARIOS ?= $(basename $(notdir $(wildcard deploy/lab/scenarios/*.txt)))
lab: build
	"$(GO)" build -trimpath -o bin/lab ./deploy/lab
	bin/lab run $(ARGS) $(SCENARIOS:%=deploy/lab/scenarios/%.txt)

# Generated files come from nothing but the tree, so the result is the same
# everywhere; make test fails when it would change.
generate:
	"$(GO)" run ./region/homingv1/generate
	"$(GO)" generate ./...

# The embedded country database anew, from the Debian packages tor-geoipdb and
# tzdata: for a release, because it comes from more than the tree.
geo:
	"$(GO)" run ./dns/geo/generate/country -out dns/geo/country.mmdb

lint:
	@deploy/test/run gofmt vet staticcheck

# One benchmark after the other, each for a second: BENCH=regexp PKG=./region/...
BENCH ?= .
PKG ?= ./...
bench:
	"$(GO)" test -run '^$$' -bench '$(BENCH)' -benchtime 1s -p 1 $(PKG)

# Every fuzz test for FUZZTIME each, one after the other.
FUZZTIME ?= 10s
fuzz:
	@deploy/test/fuzz $(FUZZTIME)

# The system tests again and again for SOAKTIME, until one fails.
SOAKTIME ?= 1h
soak:
	@deploy/test/soak $(SOAKTIME)

# All logic processes go and come under 10,000 connections; ulimit -n 20000 or more.
test-restart:
	HOMING_RESTART_USERS=10000 "$(GO)" test -count=1 -v -run '^TestRestart$$' ./cmd/homing/bench

# The smart DNS beside other DNS software: dig, delv, kdig, unbound, NSD and Knot (Debian:
# bind9-dnsutils knot-dnsutils unbound nsd knot), and four name servers' answers where
# HOMING_FERRET names a copy of github.com/dns-groot/FerretDataset. What is skipped is
# said. Part of "make test", but for FerretDataset.
test-dns-peers:
	"$(GO)" test -count=1 -v -run '^Test(RFC8906|Unbound.*|Ferret|Dig|Delv|Rollover|Kdig|RealSecondary|SignedSecondary|Incremental.*|TransferredZoneVerifies|FloodOnTheWire|SpoofedFlood)$$' ./dns/authority
	"$(GO)" test -count=1 -v -run '^TestTenDNSNodes$$' ./cmd/homing/node

# Disasters from seeds: make sim SEEDS=10000. 2,000 are part of "make test".
SEEDS ?= 500
sim: build
	bin/homing sim --seeds $(SEEDS)

# The simulator again and again, each time with one line of the code made wrong: each
# has to be noticed.
test-mutants:
	HOMING_MUTANTS=1 "$(GO)" test -count=1 -timeout 30m -v -run '^TestMutants' ./cmd/homing/sim

clean:
	rm -rf bin
