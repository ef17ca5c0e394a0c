package scenario

import (
	"context"
	"errors"

	"github.com/multihost/multihost/redisevent"
	"github.com/multihost/multihost/redislock"
	"github.com/multihost/multihost/redisqueue"
	"github.com/multihost/multihost/redissem"
)

// Clean deletes everything that a run left in Redis.
func Clean(ctx context.Context, s Scenario, set Setting) error {
	cast := s.Cast()
	var errs []error
	for _, name := range cast.Locks {
		lock, err := redislock.New(set.Client, name, &redislock.Options{Namespace: set.Namespace})
		if err == nil {
			err = lock.Delete(ctx)
		}
		errs = append(errs, err)
	}
	for _, name := range cast.Events {
		event, err := redisevent.New(set.Client, name, &redisevent.Options{Namespace: set.Namespace})
		if err == nil {
			err = event.Delete(ctx)
		}
		errs = append(errs, err)
	}
	for _, name := range cast.Semaphores {
		sem, err := redissem.New(set.Client, name, 0, &redissem.Options{Namespace: set.Namespace})
		if err == nil {
			err = sem.Delete(ctx)
		}
		errs = append(errs, err)
	}
	for _, name := range cast.Queues {
		queue, err := redisqueue.New[string](set.Client, name, &redisqueue.Options{Namespace: set.Namespace})
		if err == nil {
			err = queue.Delete(ctx)
		}
		errs = append(errs, err)
	}
	keys := []string{set.journal().key}
	for _, name := range cast.Keys {
		keys = append(keys, set.key(name))
	}
	for _, role := range cast.Roles {
		keys = append(keys, set.key("next:"+role.Name))
	}
	errs = append(errs, set.Client.Del(ctx, keys...).Err())
	return errors.Join(errs...)
}
