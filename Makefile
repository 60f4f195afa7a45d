# Everything that people and CI do here. `make help` lists it.

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PLAYGROUND ?= .playground
FUZZTIME ?= 10s
BENCH ?= .
PACKAGES ?= ./...
SUITE ?= trixie

SYSTEMS := linux/amd64 linux/arm64 darwin/arm64

SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.DEFAULT_GOAL := help
.PHONY: help deps build images test haproxy test-haproxy test-debian check fmt generate golden bench bench-reload fuzz demo demo-down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing with apt-get (as root or with sudo); starts no daemon
	@.ci/deps

build: ## build the one static binary, bin/paasta
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/paasta ./paasta/cmd/paasta

images: build ## the platform's own images, paasta and paasta-agent, on the engine of DOCKER_HOST
	docker/images/build '$(VERSION)'

test: deps ## everything: unit, property, integration and end-to-end tests, as CI runs them (HAPROXY=3.2: with that version)
	@HAPROXY='$(HAPROXY)' .ci/test $(PACKAGES)

haproxy: ## bring Debian's HAProxy VERSION=3.2 into .cache, without installing it; without VERSION, list what there is
	@.ci/haproxy '$(if $(filter file,$(origin VERSION)),served,$(VERSION))'

test-haproxy: deps ## what starts HAProxy, with each version of the matrix
	@.ci/matrix

test-debian: ## make demo, demo-down and test on another Debian (SUITE=trixie, RUN='make demo'), from a fresh clone
	@.ci/debian $(SUITE) $(if $(RUN),'$(RUN)')

check: ## format, lint, it builds for every system, and generated files are fresh
	@for system in $(SYSTEMS); do \
		echo "go build for $$system" && GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0 go build ./... || exit 1; \
	done
	go run $(GOLANGCI) run ./...
	go run $(GOLANGCI) fmt --diff ./...
	@.ci/fresh

fmt: ## format the code as check wants it
	go run $(GOLANGCI) fmt ./...

generate: ## write generated files anew
	go generate ./...

golden: ## write golden files anew; review the diff
	go test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n 1 dirname | sort -u) -update

bench: deps ## benchmarks, as a table (BENCH=regexp, PACKAGES=./...)
	@.ci/bench '$(BENCH)' $(PACKAGES)

bench-reload: deps build ## what reloads do to connections, on this kernel (FULL=1: a million requests each)
	$(SUDO) env "PATH=$$PATH" bin/paasta smartstack bench-reload $(if $(FULL),--full) --picture bin/reload-latency.svg

fuzz: ## every fuzz target for FUZZTIME (10s)
	@.ci/fuzz $(FUZZTIME)

demo: ## a playground, a service, two deploys under load; leaves it running
	@.ci/deps playground
	@$(MAKE) --no-print-directory build
	$(SUDO) env "PATH=$$PATH" bin/paasta demo --dir $(PLAYGROUND) \
		--remove-with "make demo-down$(if $(filter-out .playground,$(PLAYGROUND)), PLAYGROUND=$(PLAYGROUND))"

demo-down: ## remove everything that demo made
	@test -x bin/paasta || $(MAKE) --no-print-directory build
	$(SUDO) env "PATH=$$PATH" bin/paasta demo --dir $(PLAYGROUND) --down

clean: ## remove what build made
	rm -rf bin .cache
