# Generated code of the .proto files. Needs BIN, the directory of the environment's commands; SETUP, if given, is made first.
# A .proto file lies inside the package that owns it and is imported by its path there ("innkeeper_sdk/proto/…"), so the code
# generated beside it imports absolutely. A new file, directory or provider needs no change here. What comes out:
#   *_pb2.py, *_pb2.pyi            messages; types by mypy-protobuf, whose enums, oneofs and field names mypy can check
#   *_pb2_grpc.py, *_pb2_grpc.pyi  files with services; a stub of a grpc.aio channel has the type …AsyncStub (in annotations only)
#   <provider>/messages.binpb      a provider's messages and all they import, for the host to read without importing it
#                                  (not if there is a manifest that names no messages)
# Everything is first generated apart: a faulty .proto file changes nothing, and files whose .proto file is gone are found.

PROTO_TREES = $(wildcard sdk/src plugins/*/src)
PROTO_OWNED = -name '*_pb2.py' -o -name '*_pb2.pyi' -o -name '*_pb2_grpc.py' -o -name '*_pb2_grpc.pyi' -o -name messages.binpb
PROTOC = $(BIN)/python -m grpc_tools.protoc --plugin=$(BIN)/protoc-gen-mypy --plugin=$(BIN)/protoc-gen-mypy_grpc

# Leaves the generated files in $$out, laid out as in the workspace, and their names together with those in place in $$files.
define PROTO_GENERATE
set -eu; export LC_ALL=C; mkdir -p .build; out=$$(mktemp -d .build/proto.XXXXXX); trap 'rm -rf "$$out"' EXIT; \
for tree in $(PROTO_TREES); do \
	protos=$$(cd $$tree && find . -name '*.proto' | sed 's|^\./||' | sort); \
	test -n "$$protos" || continue; \
	services=$$(cd $$tree && grep -l '^service ' $$protos || true); \
	package=$$tree/$${protos%%/*}; manifest=$$package/innkeeper-provider.yaml; mkdir -p $$out/$$package; set --; \
	test $$tree = sdk/src || { test -f $$manifest && ! grep -q '^messages:' $$manifest; } || \
	set -- --include_imports --descriptor_set_out=$$out/$$package/messages.binpb; \
	$(PROTOC) -I sdk/src -I $$tree --python_out=$$out/$$tree --mypy_out=quiet:$$out/$$tree "$$@" $$protos; \
	test -z "$$services" || \
	$(PROTOC) -I sdk/src -I $$tree --grpc_python_out=$$out/$$tree --mypy_grpc_out=quiet:$$out/$$tree $$services; \
done; \
files=$$({ (cd $$out && find . -type f | sed 's|^\./||'); find $(PROTO_TREES) $(PROTO_OWNED); } | sort -u)
endef

.PHONY: proto check-proto

proto: $(SETUP)
	@$(PROTO_GENERATE); \
	for file in $$files; do \
		cmp -s $$out/$$file $$file && continue; \
		if test -f $$out/$$file; then mv $$out/$$file $$file; echo "wrote $$file"; else rm $$file; echo "removed $$file"; fi; \
	done

check-proto: $(SETUP)
	@$(PROTO_GENERATE); drift=0; \
	for file in $$files; do \
		cmp -s $$out/$$file $$file || { echo "$$file is not what the .proto files give"; drift=1; }; \
	done; \
	test $$drift = 0 || { echo 'run `make proto`'; exit 1; }
