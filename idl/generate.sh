#!/bin/sh
# Generates the Go of the .proto files, offline: the tool is a module in go.mod.
#
#	idl/generate.sh [DIR]     DIR holds go.mod and idl/*.proto; by default the repository
set -eu
cd "${1:-$(dirname "$0")/..}/idl"
for proto in *.proto; do
	go tool kitex -module github.com/gatepost/gatepost -type protobuf -gen-path gen "$proto"
done
