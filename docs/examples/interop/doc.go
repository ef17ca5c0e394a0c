// Package interop has a test in which programs with another client library, which know
// nothing but the name of a lock's key, and multihost keep each other out.
package interop
