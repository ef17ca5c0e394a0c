package redistest

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// put, get and so on are calls without anything in between, of one producer.
func (h *QueueHistory) put(number int)          { h.Put(0, QueueItem{0, number}).Done() }
func (h *QueueHistory) get(number int)          { h.Get(1).Got(QueueItem{0, number}) }
func (h *QueueHistory) full(number int)         { h.Put(0, QueueItem{0, number}).Full() }
func (h *QueueHistory) empty()                  { h.Get(1).Empty() }
func (h *QueueHistory) shut()                   { h.Shutdown(3).Done() }
func (h *QueueHistory) getOf(producer, num int) { h.Get(1).Got(QueueItem{producer, num}) }

func TestTheQueueModelTellsGoodHistoriesFromBad(t *testing.T) {
	for _, c := range []struct {
		name    string
		legal   bool
		maxSize int
		run     func(h *QueueHistory)
	}{
		{"in order", true, 0, func(h *QueueHistory) { h.put(1); h.put(2); h.get(1); h.get(2); h.empty() }},
		{"out of order", false, 0, func(h *QueueHistory) { h.put(1); h.put(2); h.get(2); h.get(1) }},
		{"overlapping gets return in either order", true, 0, func(h *QueueHistory) {
			a := h.Get(2)
			h.put(1)
			h.put(2)
			h.get(2)
			a.Got(QueueItem{0, 1})
		}},
		{"taken twice", false, 0, func(h *QueueHistory) { h.put(1); h.get(1); h.get(1) }},
		{"invented", false, 0, func(h *QueueHistory) { h.put(1); h.get(2) }},
		{"taken before it was put", false, 0, func(h *QueueHistory) { h.get(1); h.put(1) }},
		{"lost", false, 0, func(h *QueueHistory) { h.put(1); h.empty() }},
		{"lost before the queue was empty", false, 0, func(h *QueueHistory) { h.put(1); h.Emptied() }},
		{"put, taken and empty again and again", true, 0, func(h *QueueHistory) {
			for i := range 3 {
				h.put(i + 1)
				h.get(i + 1)
				h.Emptied()
			}
		}},
		{"taken once more after the queue was empty", false, 0, func(h *QueueHistory) { h.put(1); h.get(1); h.Emptied(); h.get(1) }},
		{"put after Shutdown, when the queue was empty", false, 0, func(h *QueueHistory) { h.shut(); h.Emptied(); h.put(1); h.get(1) }},
		{"put late, after the queue was empty", true, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.Emptied()
			h.get(1)
		}},
		{"lost with a connection, before the queue was empty", true, 0, func(h *QueueHistory) {
			h.Get(1).Unknown()
			h.put(1)
			h.Emptied()
			h.put(2)
			h.get(2)
			h.Drained()
		}},
		{"two lost with one connection before the queue was empty", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.Get(1).Unknown()
			h.Emptied()
			h.Get(2).Unknown()
			h.Drained()
		}},
		{"taken after the queue was empty, by who gave up before, while something was put", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.Get(1).GaveUp()
			late := h.Put(2, QueueItem{1, 1})
			h.Emptied()
			h.get(1)
			late.Done()
		}},
		{"lost, and a connection after the queue was empty", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.Emptied()
			h.Get(1).Unknown()
			h.Drained()
		}},
		{"taken although it was refused", false, 1, func(h *QueueHistory) { h.put(1); h.full(2); h.get(1); h.get(2) }},
		{"taken although who put it gave up", false, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).GaveUp()
			h.get(1)
		}},
		{"the order of two producers is free", true, 0, func(h *QueueHistory) {
			a, b := h.Put(0, QueueItem{0, 1}), h.Put(2, QueueItem{1, 1})
			a.Done()
			b.Done()
			h.getOf(1, 1)
			h.getOf(0, 1)
		}},
		{"the order of one batch is not", false, 0, func(h *QueueHistory) {
			a, b := h.Put(0, QueueItem{0, 1}), h.Put(0, QueueItem{0, 2})
			a.Done()
			b.Done()
			h.get(2)
			h.get(1)
		}},

		{"a put of unknown outcome that happened", true, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.get(1)
		}},
		{"one that happened late", true, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.empty()
			h.get(1)
		}},
		{"one that did not happen", true, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.empty()
		}},
		{"one that happened twice", false, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.get(1)
			h.get(1)
		}},
		{"one that happened after what the producer put next", false, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.put(2)
			h.get(2)
			h.get(1)
		}},
		{"one that filled the queue", true, 1, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.full(2)
		}},
		{"a get of unknown outcome that took an item", true, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.Get(1).Unknown()
			h.get(2)
			h.empty()
		}},
		{"one that took nothing", true, 0, func(h *QueueHistory) { h.Get(1).Unknown(); h.put(1); h.get(1) }},
		{"one that took two", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.Get(1).Unknown()
			h.empty()
		}},
		{"one that took what was put before it was called", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.empty()
			h.Get(1).Unknown()
		}},

		{"given back by who gave up", true, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.Get(2).GaveUp()
			h.get(2)
			h.get(1)
		}},
		{"empty while the item was in the hand of who gave up", true, 0, func(h *QueueHistory) {
			h.put(1)
			h.Get(2).GaveUp()
			h.empty()
			h.get(1)
		}},
		{"empty after all was given back", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.Get(2).GaveUp()
			h.Settled()
			h.empty()
		}},
		{"given back in another order", true, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.Get(2).GaveUp()
			h.Settled()
			h.get(2)
			h.get(1)
		}},
		{"out of order after all that was given back is gone", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.Get(2).GaveUp()
			h.Settled()
			h.get(1)
			h.Emptied()
			h.put(2)
			h.put(3)
			h.get(3)
		}},
		{"out of order before anybody gave up", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.get(2)
			h.Get(2).GaveUp()
		}},
		{"passed over more than were in hand", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.put(3)
			h.Get(2).GaveUp()
			h.get(3)
		}},
		{"passed over what GetMany had in hand", true, 0, func(h *QueueHistory) {
			h.put(1)
			h.put(2)
			h.put(3)
			h.Get(2).GaveUp()
			h.Get(2).GaveUp()
			h.get(3)
			h.get(1)
			h.get(2)
		}},
		{"taken twice by who gave up and another", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.Get(2).GaveUp()
			h.get(1)
			h.get(1)
		}},

		{"full", true, 2, func(h *QueueHistory) { h.put(1); h.put(2); h.full(3); h.get(1); h.put(3) }},
		{"full for nothing", false, 2, func(h *QueueHistory) { h.put(1); h.full(2) }},
		{"full without a bound", false, 0, func(h *QueueHistory) { h.put(1); h.full(2) }},
		{"above the bound", false, 2, func(h *QueueHistory) { h.put(1); h.put(2); h.put(3) }},
		{"room came while the put waited", true, 1, func(h *QueueHistory) {
			h.put(1)
			p := h.Put(2, QueueItem{1, 1})
			h.get(1)
			p.Done()
		}},
		{"put before there was room", false, 1, func(h *QueueHistory) {
			h.put(1)
			h.Put(2, QueueItem{1, 1}).Done()
			h.get(1)
		}},
		{"room because an item was in the hand of who gave up", true, 1, func(h *QueueHistory) {
			h.put(1)
			h.Get(2).GaveUp()
			h.put(2)
			h.get(1)
			h.get(2)
		}},
		{"full because of a put that gave up later", true, 1, func(h *QueueHistory) {
			h.put(1)
			p := h.Put(2, QueueItem{1, 1})
			h.get(1)
			h.full(2)
			p.GaveUp()
		}},
		{"full because of a put that had given up", false, 1, func(h *QueueHistory) {
			h.put(1)
			h.Put(2, QueueItem{1, 1}).GaveUp()
			h.get(1)
			h.Settled()
			h.full(2)
		}},
		{"capacity lost", false, 1, func(h *QueueHistory) { h.put(1); h.get(1); h.full(2) }},

		{"shut down and drained", true, 0, func(h *QueueHistory) {
			h.put(1)
			h.shut()
			h.Put(0, QueueItem{0, 2}).Ended()
			h.get(1)
			h.Get(1).Ended()
		}},
		{"put after Shutdown", false, 0, func(h *QueueHistory) { h.shut(); h.put(1) }},
		{"ErrShutdown of a put before Shutdown", false, 0, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Ended()
			h.shut()
		}},
		{"ErrShutdown of a get before Shutdown", false, 0, func(h *QueueHistory) { h.Get(1).Ended(); h.shut() }},
		{"ErrShutdown of a get while an item waits", false, 0, func(h *QueueHistory) {
			h.put(1)
			h.shut()
			h.Get(1).Ended()
		}},
		{"ErrShutdown after a Shutdown of unknown outcome", true, 0, func(h *QueueHistory) {
			h.Shutdown(3)
			h.put(1)
			h.Put(0, QueueItem{0, 2}).Ended()
			h.get(1)
		}},
		{"put after a put had ended", false, 0, func(h *QueueHistory) {
			h.Shutdown(3)
			h.Put(0, QueueItem{0, 1}).Ended()
			h.put(2)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := QueueHistory{MaxSize: c.maxSize}
			c.run(&h)
			if legal := porcupine.CheckOperations(h.model(), h.history()); legal != c.legal {
				t.Errorf("legal is %v, should be %v", legal, c.legal)
			}
		})
	}
}

// What is known in the end makes the search short, and no history legal.
func TestWhatIsOpenIsResolvedOnceTheQueueIsDrained(t *testing.T) {
	for _, c := range []struct {
		name  string
		legal bool
		run   func(h *QueueHistory)
	}{
		{"a put of unknown outcome that happened", true, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.get(1)
			h.put(2)
			h.get(2)
		}},
		{"one that did not", true, func(h *QueueHistory) { h.Put(0, QueueItem{0, 1}).Unknown() }},
		{"one that happened twice", false, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.get(1)
			h.get(1)
		}},
		{"one that happened after what the producer put next", false, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.put(2)
			h.get(2)
			h.get(1)
		}},
		{"full because of a put of unknown outcome that was lost", true, func(h *QueueHistory) {
			h.Put(0, QueueItem{0, 1}).Unknown()
			h.full(2)
			h.Get(1).Unknown()
		}},
		{"a get of unknown outcome that took an item", true, func(h *QueueHistory) {
			h.put(1)
			h.Get(1).Unknown()
			h.put(2)
			h.get(2)
		}},
		{"one that took what was put later", true, func(h *QueueHistory) {
			h.Get(1).Unknown()
			h.put(1)
		}},
		{"one that took two", false, func(h *QueueHistory) {
			h.Get(1).Unknown()
			h.put(1)
			h.get(1)
			h.put(2)
			h.Get(1).Unknown()
			h.put(3)
			h.put(4)
		}},
		{"one that had an item in its hand", true, func(h *QueueHistory) {
			h.put(1)
			h.Get(1).Unknown()
			h.empty()
			h.get(1)
		}},
		{"lost", false, func(h *QueueHistory) { h.put(1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := QueueHistory{MaxSize: 1}
			c.run(&h)
			h.Settled()
			h.empty()
			h.Drained()
			if legal := porcupine.CheckOperations(h.model(), h.history()); legal != c.legal {
				t.Errorf("legal is %v, should be %v", legal, c.legal)
			}
		})
	}
}
