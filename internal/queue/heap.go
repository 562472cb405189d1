package queue

// heap is a binary heap whose elements know their place in it, so that any of them can be moved or taken out. The order
// must be total, so that what comes out does not depend on what went in first.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
	// index is where an element keeps its place, counted from 1. Zero means that it is not in the heap.
	index func(T) *int
}

func (h *heap[T]) len() int { return len(h.items) }

func (h *heap[T]) empty() bool { return len(h.items) == 0 }

// top is the least. There must be one.
func (h *heap[T]) top() T { return h.items[0] }

// set sees to it that an element is in the heap, in its right place, or not in it.
func (h *heap[T]) set(x T, in bool) {
	i := *h.index(x)
	switch {
	case in && i == 0:
		h.items = append(h.items, x)
		*h.index(x) = len(h.items)
		h.up(len(h.items) - 1)
	case in:
		h.fix(i - 1)
	case i != 0:
		h.remove(i - 1)
	}
}

func (h *heap[T]) remove(i int) {
	last := len(h.items) - 1
	if i != last {
		h.swap(i, last)
	}
	*h.index(h.items[last]) = 0
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i != last {
		h.fix(i)
	}
}

func (h *heap[T]) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

// down says whether it moved anything.
func (h *heap[T]) down(i int) bool {
	moved := false
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return moved
		}
		if right := child + 1; right < len(h.items) && h.less(h.items[right], h.items[child]) {
			child = right
		}
		if !h.less(h.items[child], h.items[i]) {
			return moved
		}
		h.swap(i, child)
		i, moved = child, true
	}
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.index(h.items[i]), *h.index(h.items[j]) = i+1, j+1
}
