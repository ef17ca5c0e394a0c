// Package redisqueue is a queue that the processes of many machines share through
// Redis: what multiprocessing.Queue is to the processes of one. It is for work
// and messages that any of many processes may take, each by one.
//
//	jobs, err := redisqueue.New[Job](client, "jobs", nil)
//	…
//	err = jobs.Put(ctx, Job{…})
//	…
//	err = jobs.Work(ctx, 8, func(ctx context.Context, d *redisqueue.Delivery[Job]) error {
//		return do(ctx, d.Value()) // nil: it is done; an error: it comes again
//	})
//
// # Guarantees
//
//   - [Queue.Get] delivers an item at most once: it is gone from Redis when it is
//     taken. It is lost only with the process that was receiving it, or when
//     Get waits and the connection on which it blocks breaks as the item comes;
//     never by a cancelled ctx, a deadline, a full pool, or a server that does
//     not answer for up to four minutes.
//   - [Queue.Receive] delivers an item at least once: until [Delivery.Ack] it is
//     claimed by a living process, and comes back to the head of the queue when that
//     process dies, an attempt counted.
//   - Put repeats nothing: a command that is sent again because its reply was lost
//     puts its items once. What is not known is reported as ErrUnknownOutcome.
//   - Items of one producer come in its order, except those that came back.
//   - A Put that waits for room is served in its turn, across all processes. A
//     process that dies takes no room with it.
//   - A wait costs nothing while it waits: one connection blocks in Redis for all
//     who wait for items in a process, and no slot of the client's pool is taken.
//   - A cancelled wait returns within milliseconds and takes nothing.
//
// # Keys
//
// All keys of a queue have one hash tag. <queue> stands for
// mh1:queue:{<name>}, or mh1:<namespace>:queue:{<name>}; braces and percent
// signs in names, and also colons in namespaces, are percent-encoded.
//
//	key                        type    contents                                    TTL         deleted by
//	<queue>                    list    items that wait: "<id> <attempt> <payload>" -           taking
//	<queue>:parked             zset    items that wait for room: id by number      -           admission, Delete
//	<queue>:room               hash    of them: channel, user's id, item           -           admission, Delete
//	<queue>:delayed            zset    delayed items by due time in µs             -           when due, Delete
//	<queue>:dead               list    dead letters                                -           Delete
//	<queue>:about              hash    max, codec, shutdown, zeros, joined, number 1 d unused  Delete
//	<queue>:consumers          zset    consumers by the end of their claims in µs  -           leaving, sweep, Delete
//	<queue>:metadata           hash    of consumers                                -           leaving, sweep, Delete
//	<queue>:<consumer>:claims  list    items that were received                    -           Ack, Nack, sweep, Delete
//	<queue>:gone               zset    consumers swept, by time in µs              -           a second sweep, Delete
//	<queue>:refused            zset    parked items refused or taken back          5 min       -
//	<queue>:ids                zset    users' ids (Options.ID), by time in µs      1 h         Delete
//	<queue>:asked              zset    ids of commands, by time in µs              5 min       -
//	<queue>:<process>:wake     list    ends the process's BLPOP, where CLIENT       1 s         -
//	                                   UNBLOCK is not allowed
//	<queue>:<process>:producer string  number and answer of the latest batch       1 h         -
//	<queue>:<process>-<n>:taken list   number and items of the latest taking       5 min       -
//
// What is known of consumers lapses after five minutes while nobody has put anything,
// so that nothing that arrives late outlives Delete.
//
// # Failure
//
// Items lie in Redis and live as long as it keeps them: what is not yet
// replicated is lost in a fail-over, and everything with a server that loses its
// data. A consumer that dies keeps its items for its TTL; any other consumer
// then returns them. One that is paused for longer than that finds its
// deliveries lost when it wakes, and the items are delivered again: make the
// work idempotent. While Redis is down waits go on when it is back. Where
// CLIENT UNBLOCK is not allowed, or not known, Receive has its blocking command sent
// anew every 400 ms instead of every 5 s.
//
// # Differences from multiprocessing
//
//   - get(timeout=…) and put(timeout=…) are a ctx with a deadline; get_nowait and
//     put_nowait are [Queue.TryGet] and [Queue.TryPut].
//   - close, join_thread and cancel_join_thread are about a buffer in the
//     process: [Writer.Close], [Writer.Flush] and [Writer.Discard]. [Queue.Put]
//     itself has no buffer: when it returns, the item is in Redis.
//   - [Queue.Shutdown] ends the queue for every process; multiprocessing has no
//     such thing, and needs an end marker for each consumer.
//   - put of something that cannot be encoded is an error at once.
//   - task_done is [Delivery.Ack], once for each delivery; [Queue.Join] is join.
//
// # Source
//
// Lists as queues, and a second list for what is being worked on, are Redis's own
// patterns (RPOPLPUSH's documentation). The trust in a claim is that of a lease
// (Gray and Cheriton, SOSP 1989).
package redisqueue
