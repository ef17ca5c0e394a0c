package redistest

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

var one = QueueItem{0, 1}

// put, receive and so on are calls without anything in between, for one item.
func (h *DeliveryHistory) put() { h.Put(0, one).Done() }
func (h *DeliveryHistory) receive(attempt int) Delivered {
	return h.Receive(1).Got(one, attempt)
}
func (h *DeliveryHistory) ack(d Delivered)  { h.Ack(1, d).Done() }
func (h *DeliveryHistory) nack(d Delivered) { h.Nack(1, d).Done() }
func (h *DeliveryHistory) use(d Delivered, ok bool) {
	h.Use(1, d, func() bool { return ok })
}

func (h *DeliveryHistory) legal() bool {
	for _, ops := range h.byItem() {
		if !porcupine.CheckOperations(DeliveryModel, ops) {
			return false
		}
	}
	return true
}

func TestTheDeliveryModelTellsGoodHistoriesFromBad(t *testing.T) {
	for _, c := range []struct {
		name  string
		legal bool
		most  int
		run   func(h *DeliveryHistory)
	}{
		{"received and acknowledged", true, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.use(d, true)
			h.ack(d)
			h.Drained()
		}},
		{"never delivered", false, 0, func(h *DeliveryHistory) { h.put(); h.Drained() }},
		{"never acknowledged", false, 0, func(h *DeliveryHistory) { h.put(); h.receive(1); h.Drained() }},
		{"invented", false, 0, func(h *DeliveryHistory) { h.receive(1) }},
		{"delivered before it was put", false, 0, func(h *DeliveryHistory) { h.receive(1); h.put() }},
		{"delivered while it is put", true, 0, func(h *DeliveryHistory) {
			p := h.Put(0, one)
			h.receive(1)
			p.Done()
		}},
		{"delivered although the put did nothing", false, 0, func(h *DeliveryHistory) {
			h.Put(0, one).Refused()
			h.receive(1)
		}},
		{"delivered twice at a time", false, 0, func(h *DeliveryHistory) {
			h.put()
			a := h.receive(1)
			b := h.receive(2)
			h.ack(a)
			h.ack(b)
		}},
		{"delivered twice at a time as the first", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.receive(1)
			h.receive(1)
		}},
		{"acknowledged twice", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.ack(d)
			h.ack(d)
		}},
		{"comes again after an Ack", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.ack(h.receive(1))
			h.receive(2)
		}},
		{"comes again while the Ack is under way", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			a := h.Ack(1, d)
			h.receive(2)
			a.Done()
		}},

		{"given back", true, 0, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.nack(h.receive(2))
			h.ack(h.receive(3))
			h.Drained()
		}},
		{"comes again while it is given back", true, 0, func(h *DeliveryHistory) {
			h.put()
			n := h.Nack(1, h.receive(1))
			h.receive(2)
			n.Done()
		}},
		{"given back and never delivered again", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.Drained()
		}},
		{"the attempt is not counted", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.receive(1)
		}},
		{"an attempt is skipped", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.receive(3)
		}},
		{"the first attempt is the second", false, 0, func(h *DeliveryHistory) { h.put(); h.receive(2) }},
		{"an attempt of which nobody heard", true, 0, func(h *DeliveryHistory) {
			h.put()
			h.Receive(2)
			h.ack(h.receive(2))
			h.Drained()
		}},
		{"two such attempts of one Receive", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.Receive(2)
			h.receive(3)
		}},
		{"an attempt of a Receive that came later", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.receive(2)
			h.Receive(2)
		}},
		{"an attempt of a Receive that returned without", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.Receive(2).Nothing()
			h.receive(2)
		}},

		{"lost and delivered again", true, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			hold := h.Hold(1, d)
			hold.Lost()
			h.use(d, false)
			again := h.receive(2)
			h.Ack(1, d).Lost()
			h.ack(again)
			h.Drained()
		}},
		{"the loss is seen late, nothing was done meanwhile", true, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			hold := h.Hold(1, d)
			h.receive(2)
			hold.Lost()
		}},
		{"trusted after it came again", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			hold := h.Hold(1, d)
			h.receive(2)
			h.use(d, true)
			hold.Lost()
		}},
		{"came again although it was never lost", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Hold(1, d).Kept()
			h.receive(2)
		}},
		{"acknowledged after it came again", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Hold(1, d).Lost()
			h.receive(2)
			h.ack(d)
		}},
		{"given back after it came again", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Hold(1, d).Lost()
			h.receive(2)
			h.nack(d)
		}},
		{"lost and never delivered again", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.Hold(1, h.receive(1)).Lost()
			h.Drained()
		}},
		{"an Ack that said ErrLost, and no more", false, 0, func(h *DeliveryHistory) {
			h.put()
			h.Ack(1, h.receive(1)).Lost()
			h.Drained()
		}},
		{"killed", true, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Gone(1, d)
			h.use(d, true)
			h.ack(h.receive(2))
			h.Drained()
		}},
		{"killed works on", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Gone(1, d)
			h.receive(2)
			h.use(d, true)
		}},

		{"an Ack of unknown outcome that happened", true, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Ack(1, d).Unknown()
			h.Gone(1, d)
			h.Drained()
		}},
		{"one that did not happen", true, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Ack(1, d).Unknown()
			h.Gone(1, d)
			h.ack(h.receive(2))
			h.Drained()
		}},
		{"one that happened after the item came again", false, 0, func(h *DeliveryHistory) {
			h.put()
			d := h.receive(1)
			h.Ack(1, d).Unknown()
			h.Gone(1, d)
			h.receive(2)
			h.Drained()
		}},
		{"a Nack of unknown outcome", true, 0, func(h *DeliveryHistory) {
			h.put()
			h.Nack(1, h.receive(1)).Unknown()
			h.ack(h.receive(2))
			h.Drained()
		}},
		{"a put of unknown outcome that happened", true, 0, func(h *DeliveryHistory) {
			h.Put(0, one).Unknown()
			h.ack(h.receive(1))
			h.Drained()
		}},
		{"one that did not", true, 0, func(h *DeliveryHistory) { h.Put(0, one).Unknown(); h.Drained() }},
		{"one that happened twice", false, 0, func(h *DeliveryHistory) {
			h.Put(0, one).Unknown()
			h.ack(h.receive(1))
			h.receive(1)
		}},

		{"a dead letter", true, 2, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.nack(h.receive(2))
			h.Drained()
		}},
		{"a dead letter after a loss", true, 1, func(h *DeliveryHistory) {
			h.put()
			h.Gone(1, h.receive(1))
			h.Drained()
		}},
		{"dead too early", false, 2, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.Drained()
		}},
		{"dead early for a delivery of which nobody heard", true, 2, func(h *DeliveryHistory) {
			h.put()
			h.Receive(2)
			h.nack(h.receive(1))
			h.Drained()
		}},
		{"delivered too often", false, 2, func(h *DeliveryHistory) {
			h.put()
			h.nack(h.receive(1))
			h.nack(h.receive(2))
			h.receive(3)
		}},
		{"acknowledged at the last attempt", true, 1, func(h *DeliveryHistory) {
			h.put()
			h.ack(h.receive(1))
			h.Drained()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := DeliveryHistory{MaxDeliveries: c.most}
			c.run(&h)
			if legal := h.legal(); legal != c.legal {
				t.Errorf("legal is %v, should be %v", legal, c.legal)
			}
		})
	}
}

func TestItemsAreJudgedOneByOne(t *testing.T) {
	var h DeliveryHistory
	for i := range 3 {
		h.Put(0, QueueItem{0, i}).Done()
		h.ack(h.Receive(1).Got(QueueItem{0, i}, 1))
	}
	if !h.legal() {
		t.Error("three items that are delivered once should be legal")
	}
	h.Receive(1).Got(QueueItem{0, 1}, 2)
	if h.legal() {
		t.Error("one of three that comes again should not be legal")
	}
}
