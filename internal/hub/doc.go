// Package hub holds what one process shares per Redis client: a private
// command connection, a pub/sub connection, and a registry of local objects.
//
// # Commands
//
// A call that comes alone goes out on the user's own client, like any command
// of the program: its hooks see it, and a quiet program opens no second
// connection. As soon as a second call comes while one is under way, or
// something must keep working while the user's pool is exhausted (a renewal, a
// waiter's check, a clean-up), the hub opens one private connection with the
// same options and sends there, many calls in one pipeline: whoever comes
// while a pipeline is under way joins the next one.
//
// A program whose calls come alone and often gets a private connection for them,
// a lane: there a call travels on the goroutine of its caller, which gives up
// waiting by cutting the connection. Handing the call to another goroutine and
// its answer back would cost as much as the round trip.
//
// go-redis repeats a command whose reply was lost without telling. The hub
// switches that off and repeats by itself, so that it can say how often a
// command was sent, when the answered attempt was sent, and whether a failed
// one may have been carried out.
//
// A call that asks for replicas travels alone, with WAIT behind it, on one of a few
// connections of a third kind: it keeps its connection for as long as it waits.
//
// # Pub/sub
//
// The hub reads the connection itself and in order, because the moment at
// which a PING was sent whose PONG came before a message tells when that
// message cannot yet have been sent (package lease says what for). While a
// topic is in use it sends PING once a second and drops a connection that does
// not answer; go-redis's own health check never asks for the PONG. Commands go out
// one at a time, the next with all channels that were asked for meanwhile.
//
// In a cluster there is one pair of connections per shard, and channels are
// sharded.
//
// When nothing has used a hub for [Linger], it closes its connections and is
// forgotten. There is nothing to close by hand.
package hub
