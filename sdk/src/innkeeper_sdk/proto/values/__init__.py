"""Generated code: see the .proto files here or below."""
