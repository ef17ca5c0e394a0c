// Package redistest gives the tests of this module servers to run on, fake
// time to run in, faults to survive and judges for what they recorded. Only
// test files import it, and it imports none of the primitives, so that their
// internal tests may use it too.
//
// # Servers
//
// A behaviour is written once and run with [Each] on
//
//   - miniredis, inside the test binary, over TCP on loopback ("miniredis");
//   - redis-server and valkey-server, when they are on PATH;
//   - a cluster of three redis-server nodes on loopback ("cluster");
//   - every server named in the environment.
//
// Each of them is started on a free port of loopback at its first use, shared
// by the tests of the test binary, and stopped by [Main]. Nothing is persisted
// and nothing is flushed: a test takes a name of its own from [Name].
// [StartOwn] gives a test a server that it may stop, pause and restart,
// [Server.StartPair] a primary and a replica to fail over to.
//
//	MULTIHOST_TEST_SERVERS   name=redis://host:port/db,…     servers that run already
//	MULTIHOST_TEST_COMMANDS  name=program argument …,…       servers to start
//	MULTIHOST_TEST_REQUIRE   name,…                          servers that must not be missing
//
// A name that begins with "cluster" stands for a cluster: by address it is one
// of its nodes, by command the program is started three times (the program must then
// see the directory for temporary files of this machine, for the nodes keep a
// file each there). A name that is known already ("redis-server", "valkey-server",
// "cluster") replaces what PATH would have given. A server that is missing is
// skipped under its name, or fails the test when it is required.
//
// # Fake time
//
// [Bubble] runs a test against miniredis in a testing/synctest bubble: an hour
// of waiting takes milliseconds, TTLs included. [NewServerTime] gives its server a
// clock of its own, which is wrong or jumps.
//
// # Faults
//
// A [Wire] stands between a client and its server, in bubbles too. It loses
// or holds replies, holds commands until their connection is long dead, cuts
// connections, stops forwarding, and counts what the client sent. [StartChild]
// starts a process of the test binary, to be killed or paused.
//
// # Judges
//
// A [Recorder] keeps the history of operations for porcupine to compare with a
// sequential model: [MutexModel], [EventModel], [QueueModel], [DeliveryModel], and that
// of [PermitHistory]. [NoLeaks] demands that nothing of a test stays behind, no
// connection and no key, and [Main] that no goroutine does.
package redistest
