#!/bin/sh
# Generates gen/ from the .proto files, offline: the tool is a module in go.mod. `make idl` calls it; CI fails on a diff.
set -eu
cd "$(dirname "$0")"
for name in client status logic gate; do
	go tool kitex -module github.com/gatepost/gatepost -type protobuf -gen-path gen "$name.proto"
done
gofmt -l gen | while read -r file; do
	echo "generate.sh: $file is not formatted" >&2
	exit 1
done
