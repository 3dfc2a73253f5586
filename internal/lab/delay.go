package lab

// maxDelayed bounds the frames held back at one time.
const maxDelayed = 1 << 15

// delayed is a frame held back: a copy, and the port it leaves by.
type delayed struct {
	due  int64 // ns on the box's clock
	turn uint64
	out  *port
	b    []byte
}

func (d *delayed) before(e *delayed) bool {
	return d.due < e.due || d.due == e.due && d.turn < e.turn
}

// delayQueue is a binary heap by due time; frames due together leave in the
// order they came.
type delayQueue struct {
	heap []*delayed
	turn uint64
	free []*delayed
}

// push copies b. It reports whether there was room.
func (q *delayQueue) push(due int64, out *port, b []byte) bool {
	if len(q.heap) >= maxDelayed {
		return false
	}
	var d *delayed
	if n := len(q.free); n > 0 {
		d, q.free = q.free[n-1], q.free[:n-1]
	} else {
		d = new(delayed)
	}
	q.turn++
	d.due, d.turn, d.out, d.b = due, q.turn, out, append(d.b[:0], b...)
	q.heap = append(q.heap, d)
	for i := len(q.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.heap[i].before(q.heap[up]) {
			break
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
	return true
}

// pop takes the first frame out if it is due. Hand it to recycle after use.
func (q *delayQueue) pop(now int64) *delayed {
	if len(q.heap) == 0 || q.heap[0].due > now {
		return nil
	}
	d := q.heap[0]
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	for i := 0; ; {
		next := i
		for _, c := range [...]int{2*i + 1, 2*i + 2} {
			if c < len(q.heap) && q.heap[c].before(q.heap[next]) {
				next = c
			}
		}
		if next == i {
			return d
		}
		q.heap[i], q.heap[next] = q.heap[next], q.heap[i]
		i = next
	}
}

func (q *delayQueue) recycle(d *delayed) {
	d.out = nil
	q.free = append(q.free, d)
}
