# Everything a developer types. Targets need Go (the version in go.mod or newer)
# and, for make test, what test/prepare.sh installs or names.

GO ?= go
BIN := bin/keyturn
# What the binary says that it is of; empty without git.
COMMIT = $(shell git describe --always --exclude='*' --abbrev=12 --dirty=+ 2>/dev/null)
# The packages with tests that need real services; the others have been tested without them.
INTEGRATION = $(shell grep -rl '^//go:build.*integration' --include=*_test.go . | xargs -n1 dirname | sort -u)
export CGO_ENABLED ?= 1

.PHONY: run build test bench soak lint generate clean

run: build ## build and run the demo
	./$(BIN) demo

build: ## build bin/keyturn
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X github.com/keyturn/keyturn/internal/cli.stamped=$(COMMIT)" -o $(BIN) ./cmd/keyturn

test: ## everything: vet, hermetic tests, real services, recorded API behaviour
	./test/prepare.sh
	$(GO) vet ./...
	$(GO) test -race -shuffle=on -timeout 10m ./...
	$(GO) test -run 'TestManyLeases|TestDeadTarget' -timeout 15m ./test/inprocess -leases 1000000 -dead 100000
	$(GO) test -run 'TestCrashAtEveryCommit|TestUnknownCommits' ./test/inprocess -every 1
	$(GO) test -run 'TestCrashes$$' -timeout 10m ./internal/engine/rotation -crashes 1000
	$(GO) test -run 'TestCrashes' -timeout 10m ./internal/engine/aws -crashes 1000
	$(GO) vet -tags integration ./...
	$(GO) test -tags integration -timeout 15m $(INTEGRATION)
	./test/conformance.sh

bench: build ## against a bare server and pgbench; BENCH="-run read" for one row, "-json", "-h"
	./test/prepare.sh
	$(GO) run ./bench $(BENCH)

soak: ## the long version of the tests
	./test/prepare.sh
	$(GO) test -tags 'integration soak' -timeout 4h -count 1 ./...

lint: ## gofmt, vet for every platform, staticcheck, the rules of the house
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt -w these:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags integration ./...
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) vet ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) vet ./...
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	./bin/staticcheck -checks 'all,-ST1000,-ST1016,-ST1020,-ST1021,-ST1022,-ST1023' ./...
	$(GO) test ./internal/arch

generate: ## what is generated from the code
	$(GO) generate ./internal/plugins ./test/reference

clean:
	rm -rf bin
