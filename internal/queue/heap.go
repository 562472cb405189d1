package queue

// heap is a binary heap whose elements know their index in it, so that any of them can be moved or removed. Its order
// must be total, so that what comes out does not depend on the order of insertion. It is faster than container/heap,
// which calls its methods through an interface.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
	// index is where an element keeps its index, counted from 1. Zero means that it is not in the heap.
	index func(T) *int
}

func (h *heap[T]) empty() bool { return len(h.items) == 0 }

func (h *heap[T]) has(x T) bool { return *h.index(x) != 0 }

// top is the least element. The heap must not be empty.
func (h *heap[T]) top() T { return h.items[0] }

// set puts an element into the heap, or moves it to its right place, or removes it.
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

// down returns whether it moved the element.
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
