# Everything a developer types. Targets need Go (the version in go.mod or newer)
# and, for make test, what test/prepare.sh installs or names.

GO ?= go
BIN := bin/keyturn
# The commit that the binary reports; empty without git.
COMMIT = $(shell git describe --always --exclude='*' --abbrev=12 --dirty=+ 2>/dev/null)
export CGO_ENABLED ?= 1

.PHONY: run build test bench soak lint mutate generate clean

run: build ## build and run the demo
	./$(BIN) demo

build: ## build bin/keyturn
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X github.com/keyturn/keyturn/internal/cli.stamped=$(COMMIT)" -o $(BIN) ./cmd/keyturn

test: ## everything; PARTS="hermetic services" for some of it, test/run -list names them
	@GO="$(GO)" $(GO) run ./test/run $(PARTS)

bench: build ## against a bare server and pgbench; BENCH="-run read" for one row, "-json", "-h"
	./test/prepare.sh
	$(GO) run ./bench $(BENCH)

# How many seeded histories make soak runs for each engine that rotates, and the first seed; 100,000 take two cores six hours.
HISTORIES ?= 33334
FIRST ?= 0

soak: ## the long version of the tests; FIRST=100000 runs other histories, HISTORIES=1000 fewer. It prints the seeds of failures
	./test/prepare.sh
	$(GO) test -tags 'integration soak' -timeout 4h -count 1 ./...
	$(GO) test -run TestCrashes -timeout 48h -count 1 ./internal/engine/rotation ./internal/engine/aws ./internal/engine/database \
		-crashes $(HISTORIES) -first $(FIRST)

lint: ## gofmt, vet for every platform, staticcheck, the rules of the house; tidy modules, generated files, deploy/
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt -w these:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags integration ./...
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) vet ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) vet ./...
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	./bin/staticcheck -checks 'all,-ST1000,-ST1016,-ST1020,-ST1021,-ST1022,-ST1023' ./...
	$(GO) test ./internal/arch
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	@tree() { git status --porcelain; git diff | git hash-object --stdin; }; before=$$(tree); $(MAKE) -s generate; \
		[ "$$before" = "$$(tree)" ] || { echo "generated files were stale, and are written anew: commit them"; exit 1; }
	@if command -v terraform >/dev/null; then terraform fmt -check -recursive deploy/terraform; else echo "lint: terraform is not installed: the form of deploy/terraform was not checked"; fi

# The packages that make mutate changes. Only the package's own tests run, because its authors run these.
MUTATE = lease token policy rotate engine/database engine/rotation

mutate: ## change the code in small ways and list the changes that no test notices; MUTATE="token" for some packages
	cd tools && $(GO) build -o ../bin/gremlins github.com/go-gremlins/gremlins/cmd/gremlins
	@for p in $(MUTATE); do echo "=== $$p"; ./bin/gremlins unleash --workers 1 --timeout-coefficient 10 -S lct ./internal/$$p || exit 1; done

generate: ## generate files from the code
	$(GO) generate ./internal/plugins ./test/reference

clean:
	rm -rf bin
