"""Run WebAssembly workflows on the Innkeeper plugin host."""
