// Package protocol has a test that follows docs/protocol.md by hand, with plain
// commands, as a client in another language would, and meets the Go packages.
package protocol
