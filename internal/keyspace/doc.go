// Package keyspace turns the names that users choose into Redis keys and
// channels. It is pure: no I/O, no state.
//
// Every key of an object has the form
//
//	mh1:[<namespace>:]<kind>:{<name>}[:<part>]
//
// "mh1" is the version of the layout. The braces make the name the key's hash
// tag, so that all keys of an object live in one slot of a cluster and one
// script may touch them together. Braces and percent signs of a name are
// escaped as in a URL, and so are colons of a namespace; two objects that
// differ in kind, namespace or name therefore never share a key.
package keyspace
