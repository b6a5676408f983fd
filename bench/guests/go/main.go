// Only replies, without the official SDK: what a small Go guest costs.
package main

import (
	"os"
	"unsafe"
)

//go:wasmimport env version_v2_go
func version()

//go:wasmimport env send_response
func sendResponse(ptr unsafe.Pointer, length int32) int32

// A serialized ExecutionResult whose value is the text "Hello world!".
var result = []byte("\x0a\x0e\x0a\x0cHello world!")

func main() {
	version()
	sendResponse(unsafe.Pointer(&result[0]), int32(len(result)))
	os.Exit(0)
}
